//! Subnets.

use postern_model::Code;
use postern_model::id::{SubnetId, VpcId};
use postern_model::net::Cidr;
use postern_model::zone::{ZoneId, ZoneName};
use postern_proto::page::Page;

use super::App;
use super::vpcs::{still_in_use, unknown_vpc};
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::subnets::{self, NewSubnet, SubnetRow};

/// A zone as a request may name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneChoice {
    /// By the account's name for it.
    Name(ZoneName),
    /// By its id.
    Id(ZoneId),
}

impl ZoneChoice {
    /// The text. Names and ids look different, so that it says which of the two it is.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Id(id) => id.as_str(),
        }
    }
}

/// The text is neither a zone's name nor a zone's id.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is neither a zone name such as us-east-1a nor a zone id such as use1-az1")]
pub struct MalformedZoneChoice(String);

impl std::str::FromStr for ZoneChoice {
    type Err = MalformedZoneChoice;

    fn from_str(text: &str) -> Result<Self, MalformedZoneChoice> {
        let name = text.parse().map(Self::Name);
        name.or_else(|_| text.parse().map(Self::Id))
            .map_err(|_| MalformedZoneChoice(text.chars().take(64).collect()))
    }
}

/// Asks for a subnet.
#[derive(Clone, Debug)]
pub struct CreateSubnet {
    /// The VPC that it lies in.
    pub vpc: VpcId,
    /// Its range.
    pub cidr: Cidr,
    /// The zone that it stands in.
    pub zone: ZoneChoice,
}

impl App {
    /// Makes a subnet.
    ///
    /// # Errors
    ///
    /// `InvalidSubnet.Range`, `InvalidVpcID.NotFound`, `InvalidZone.NotFound`,
    /// `InvalidSubnet.Conflict`, `SubnetLimitExceeded`; the database away.
    pub async fn create_subnet(&self, caller: &Caller, command: CreateSubnet) -> Result<SubnetRow> {
        let owner = caller.account()?;
        let CreateSubnet { vpc, cidr, zone } = command;
        let bad = |reason: String| Error::of_field(Code::InvalidSubnetRange, "cidr_block", reason);
        let cidr = cidr.sized_for_a_network().map_err(|error| bad(error.to_string()))?;
        let mut tx = self.store.begin().await?;
        let place = subnets::prepare(&mut tx, owner, vpc, zone.as_str()).await?;
        let place = place.ok_or_else(|| unknown_vpc(vpc))?;
        if !place.vpc_cidr.covers(cidr) {
            return Err(bad(format!("{cidr} does not lie in the VPC's {}", place.vpc_cidr)));
        }
        let zone = place.zone.ok_or_else(|| {
            let reason = format!("there is no zone '{}' in this region", zone.as_str());
            Error::of_field(Code::InvalidZoneNotFound, "availability_zone", reason)
        })?;
        let id = SubnetId::generate(&mut rand::rng());
        let max = self.settings.quotas.subnets_per_vpc;
        let new = NewSubnet { id, vpc, cidr, zone: &zone };
        let made = subnets::insert(&mut tx, owner, new, max).await;
        let made = made.map_err(|error| match violated(&error) {
            Some("subnets_of_a_vpc_do_not_overlap") => {
                let reason = format!("{cidr} overlaps another subnet of the VPC");
                Error::of_field(Code::InvalidSubnetConflict, "cidr_block", reason)
            }
            _ => error.into(),
        })?;
        let subnet = made.ok_or_else(|| {
            let message = format!("the VPC has {max} subnets already");
            Error::refused(Code::SubnetLimitExceeded, message)
        })?;
        tx.commit().await?;
        Ok(subnet)
    }

    /// Returns a subnet.
    ///
    /// # Errors
    ///
    /// `InvalidSubnetID.NotFound`; the database away.
    pub async fn get_subnet(&self, caller: &Caller, id: SubnetId) -> Result<SubnetRow> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        subnets::find(&mut db, owner, id).await?.ok_or_else(|| unknown_subnet(id))
    }

    /// Lists the caller's subnets, of one VPC when given.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn list_subnets(
        &self,
        caller: &Caller,
        vpc: Option<VpcId>,
        page: &Page,
    ) -> Result<(Vec<SubnetRow>, String)> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let mut subnets = subnets::list(&mut db, owner, vpc, page).await?;
        let next = page.cut(&mut subnets, |subnet| subnet.id.to_string());
        Ok((subnets, next))
    }

    /// Deletes a subnet that no interface is left in.
    ///
    /// # Errors
    ///
    /// `InvalidSubnetID.NotFound`, `DependencyViolation`; the database away.
    pub async fn delete_subnet(&self, caller: &Caller, id: SubnetId) -> Result<()> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        // The foreign key decides: an interface that is being made waits for this, or this for it.
        let deleted = subnets::delete(&mut db, owner, id).await;
        let deleted = deleted.map_err(|error| match violated(&error) {
            Some("network_interface_subnet_id_fkey") => {
                still_in_use(&format!("the subnet '{id}'"), &["a network interface".to_owned()])
            }
            _ => error.into(),
        })?;
        if deleted { Ok(()) } else { Err(unknown_subnet(id)) }
    }
}

/// The refusal for a subnet that the caller has not.
pub(crate) fn unknown_subnet(id: SubnetId) -> Error {
    Error::refused(Code::InvalidSubnetNotFound, format!("the subnet '{id}' does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_chosen_by_name_or_by_id() {
        assert!(matches!("us-east-1a".parse(), Ok(ZoneChoice::Name(_))));
        assert!(matches!("use1-az1".parse(), Ok(ZoneChoice::Id(_))));
        assert!("US".parse::<ZoneChoice>().is_err());
    }
}
