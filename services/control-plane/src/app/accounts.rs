//! Accounts, and what each calls the zones.

use postern_model::zone::{Region, ZoneId};
use postern_model::{AccountId, Code};
use postern_proto::page::Page;
use rand::Rng;
use rand::seq::SliceRandom as _;

use super::App;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::accounts::{self, AccountRow, ZoneRow};

/// Asks for an account.
#[derive(Clone, Debug)]
pub struct CreateAccount {
    /// Its name for people.
    pub name: String,
    /// The id to give it; a random one when `None`.
    pub id: Option<AccountId>,
}

impl App {
    /// Makes an account. Its names for the zones are shuffled now, and stay (spec 5.2).
    ///
    /// # Errors
    ///
    /// `InvalidAccount.Duplicate`; anybody but the operator asking; the database away.
    pub async fn create_account(
        &self,
        caller: &Caller,
        command: CreateAccount,
    ) -> Result<AccountRow> {
        caller.operator()?;
        let CreateAccount { name, id } = command;
        let id = id.unwrap_or_else(|| AccountId::generate(&mut rand::rng()));
        let zones = shuffled(&self.settings.region, &self.settings.zones, &mut rand::rng());
        let mut db = self.store.acquire().await?;
        let inserted = accounts::insert(&mut db, id, &name, &zones).await;
        inserted.map_err(|error| match violated(&error) {
            Some("account_pkey") => Error::of_field(
                Code::InvalidAccountDuplicate,
                "account_id",
                format!("the account '{id}' exists already"),
            ),
            _ => error.into(),
        })
    }

    /// Returns an account.
    ///
    /// # Errors
    ///
    /// `InvalidAccountID.NotFound`; anybody but the operator asking; the database away.
    pub async fn get_account(&self, caller: &Caller, id: AccountId) -> Result<AccountRow> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        accounts::find(&mut db, id).await?.ok_or_else(|| unknown_account(id))
    }

    /// Lists the accounts.
    ///
    /// # Errors
    ///
    /// Anybody but the operator asking; the database away.
    pub async fn list_accounts(
        &self,
        caller: &Caller,
        page: &Page,
    ) -> Result<(Vec<AccountRow>, String)> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        let mut accounts = accounts::list(&mut db, page).await?;
        let next = page.cut(&mut accounts, |account| account.id.to_string());
        Ok((accounts, next))
    }

    /// Lists the zones as the caller's account names them.
    ///
    /// # Errors
    ///
    /// The operator asking, who has no names for them; the database away.
    pub async fn list_zones(&self, caller: &Caller, page: &Page) -> Result<(Vec<ZoneRow>, String)> {
        let account = caller.account()?;
        let mut db = self.store.acquire().await?;
        let mut zones = accounts::list_zones(&mut db, account, page).await?;
        let next = page.cut(&mut zones, |zone| zone.name.to_string());
        Ok((zones, next))
    }
}

/// The refusal for an account that is not there.
pub(super) fn unknown_account(id: AccountId) -> Error {
    Error::refused(Code::InvalidAccountNotFound, format!("the account '{id}' does not exist"))
}

/// Names for the zones, in an order of the account's own.
fn shuffled(region: &Region, zones: &[ZoneId], random: &mut impl Rng) -> Vec<ZoneRow> {
    let mut ids = zones.to_vec();
    ids.shuffle(random);
    (0..).zip(ids).map(|(letter, id)| ZoneRow { name: region.zone_name(letter), id }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn an_account_names_every_zone_once_in_an_order_of_its_own() {
        let region: Region = "us-east-1".parse().unwrap();
        let zones: Vec<_> = (1..=4).map(|number| region.zone_id(number)).collect();
        let of = |seed| shuffled(&region, &zones, &mut StdRng::seed_from_u64(seed));
        let one = of(1);
        let names: Vec<_> = one.iter().map(|zone| zone.name.as_str()).collect();
        assert_eq!(names, ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d"]);
        let ids: BTreeSet<_> = one.iter().map(|zone| zone.id.clone()).collect();
        assert_eq!(ids, zones.iter().cloned().collect());
        assert!((2..20).any(|seed| of(seed) != one), "accounts differ");
    }
}
