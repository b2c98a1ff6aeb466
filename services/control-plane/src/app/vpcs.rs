//! VPCs.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use postern_model::id::{SecurityGroupId, SecurityGroupRuleId, VpcId};
use postern_model::net::Cidr;
use postern_model::{AccountId, Code};
use postern_proto::page::Page;

use super::App;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::fleet::{self, Touched};
use crate::store::vpcs::{self, NewVpc, VpcRow};
use crate::store::{Tx, accounts};

/// Asks for a VPC.
#[derive(Clone, Debug)]
pub struct CreateVpc {
    /// Its range.
    pub cidr: Cidr,
    /// Its name for people.
    pub name: String,
    /// Whether private names may be used at all.
    pub dns_hostnames: bool,
}

/// Asks to switch a VPC's DNS attributes. What is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct ModifyVpcAttribute {
    /// The VPC.
    pub vpc: VpcId,
    /// Whether the resolver answers private names.
    pub dns_support: Option<bool>,
    /// Whether private names may be used at all.
    pub dns_hostnames: Option<bool>,
}

impl App {
    /// Makes a VPC with its default group.
    ///
    /// # Errors
    ///
    /// `InvalidVpc.Range`, `VpcLimitExceeded`; the database away.
    pub async fn create_vpc(&self, caller: &Caller, command: CreateVpc) -> Result<VpcRow> {
        let owner = caller.account()?;
        let CreateVpc { cidr, name, dns_hostnames } = command;
        let cidr = usable_range(cidr)?;
        let new = NewVpc {
            id: VpcId::generate(&mut rand::rng()),
            name: &name,
            cidr,
            dns_hostnames,
            default_group: SecurityGroupId::generate(&mut rand::rng()),
            default_rule: SecurityGroupRuleId::generate(&mut rand::rng()),
        };
        let max = self.settings.quotas.vpcs;
        let mut tx = self.store.begin().await?;
        accounts::lock(&mut tx, owner).await?;
        let vpc = vpcs::insert(&mut tx, owner, new, max).await?.ok_or_else(|| {
            let message = format!("the account has {max} VPCs already");
            Error::refused(Code::VpcLimitExceeded, message)
        })?;
        tx.commit().await?;
        Ok(vpc)
    }

    /// Returns a VPC.
    ///
    /// # Errors
    ///
    /// `InvalidVpcID.NotFound`; the database away.
    pub async fn get_vpc(&self, caller: &Caller, id: VpcId) -> Result<VpcRow> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        vpcs::find(&mut db, owner, id).await?.ok_or_else(|| unknown_vpc(id))
    }

    /// Lists the caller's VPCs.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn list_vpcs(&self, caller: &Caller, page: &Page) -> Result<(Vec<VpcRow>, String)> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let mut vpcs = vpcs::list(&mut db, owner, page).await?;
        let next = page.cut(&mut vpcs, |vpc| vpc.id.to_string());
        Ok((vpcs, next))
    }

    /// Switches a VPC's DNS attributes. Where that decides on private names, its hosts hear of it.
    ///
    /// # Errors
    ///
    /// `InvalidVpcID.NotFound`; host names switched on with DNS support off
    /// (`InvalidParameterCombination`, spec 1.16); the database away.
    pub async fn modify_vpc_attribute(
        &self,
        caller: &Caller,
        command: ModifyVpcAttribute,
    ) -> Result<VpcRow> {
        let owner = caller.account()?;
        let ModifyVpcAttribute { vpc: id, dns_support, dns_hostnames } = command;
        let mut tx = self.store.begin().await?;
        let before = lock(&mut tx, owner, id).await?;
        let mut after = before.clone();
        after.dns_support = dns_support.unwrap_or(before.dns_support);
        after.dns_hostnames = dns_hostnames.unwrap_or(before.dns_hostnames);
        if dns_hostnames == Some(true) && !after.dns_support {
            return Err(Error::of_field(
                Code::InvalidParameterCombination,
                "enable_dns_hostnames",
                "can be switched on only while DNS support is on",
            ));
        }
        if after == before {
            return Ok(after);
        }
        vpcs::update(&mut tx, id, after.dns_support, after.dns_hostnames).await?;
        let touched = touched_by(&mut tx, &before, &after).await?;
        let hosts = fleet::advance(&mut tx, &touched, &super::trace_context()).await?;
        tx.commit().await?;
        self.poke_hosts(&hosts);
        Ok(after)
    }

    /// Deletes a VPC that nothing is left in, with its default group.
    ///
    /// # Errors
    ///
    /// `InvalidVpcID.NotFound`, `DependencyViolation`; the database away.
    pub async fn delete_vpc(&self, caller: &Caller, id: VpcId) -> Result<()> {
        let owner = caller.account()?;
        let mut tx = self.store.begin().await?;
        lock(&mut tx, owner, id).await?;
        let left = vpcs::dependents(&mut tx, id).await?;
        if !left.is_empty() {
            return Err(still_in_use(&format!("the VPC '{id}'"), &left));
        }
        let deleted = vpcs::delete(&mut tx, id).await;
        deleted.map_err(|error| match violated(&error) {
            // A service that is gone may still have endpoints that are not.
            Some(_) => still_in_use(&format!("the VPC '{id}'"), &["an endpoint".to_owned()]),
            None => error.into(),
        })?;
        tx.commit().await?;
        Ok(())
    }
}

/// Holds a VPC of the caller's account until the commit.
async fn lock(tx: &mut Tx, owner: AccountId, id: VpcId) -> Result<VpcRow> {
    vpcs::lock(tx, owner, id).await?.ok_or_else(|| unknown_vpc(id))
}

/// What a change of attributes changes for hosts.
async fn touched_by(tx: &mut Tx, before: &VpcRow, after: &VpcRow) -> Result<Touched> {
    let mut touched = Touched::default();
    if before.dns_support != after.dns_support {
        for (host, attachment) in vpcs::attachments(tx, after.id).await? {
            touched.attachment(host, attachment, after.id);
        }
    }
    if before.resolves_private_names() != after.resolves_private_names() {
        for endpoint in vpcs::private_endpoints(tx, after.id).await? {
            touched.names(after.id, endpoint);
        }
    }
    Ok(touched)
}

/// The refusal for a VPC that the caller has not.
pub(crate) fn unknown_vpc(id: VpcId) -> Error {
    Error::refused(Code::InvalidVpcNotFound, format!("the VPC '{id}' does not exist"))
}

/// The refusal for a thing that others depend on; `left` says who, in words.
pub(super) fn still_in_use(what: &str, left: &[String]) -> Error {
    let message = format!("{what} is still in use: {}", left.join(", "));
    Error::refused(Code::DependencyViolation, message)
}

/// Addresses that no network can have: this network, link-local, multicast and reserved (RFC 6890).
const UNUSABLE: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// A range that a VPC may have. 127.0.0.0/8 is among them: VPCs for development lie there (design 8).
fn usable_range(cidr: Cidr) -> Result<Cidr> {
    let bad = |reason: String| Error::of_field(Code::InvalidVpcRange, "cidr_block", reason);
    let cidr = cidr.sized_for_a_network().map_err(|error| bad(error.to_string()))?;
    for (address, length) in UNUSABLE {
        let unusable = Ipv4Net::new_assert(address, length);
        if unusable.contains(&cidr.net()) {
            return Err(bad(format!("{cidr} lies in {unusable}, where no network can be")));
        }
    }
    Ok(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vpc_lies_where_hosts_can_be() {
        for (cidr, usable) in [
            ("10.0.0.0/16", true),
            ("127.16.0.0/16", true),
            ("10.0.0.0/8", false),
            ("10.0.0.0/29", false),
            ("0.1.0.0/16", false),
            ("169.254.0.0/16", false),
            ("224.0.0.0/24", false),
            ("255.0.0.0/16", false),
        ] {
            assert_eq!(usable_range(cidr.parse().unwrap()).is_ok(), usable, "{cidr}");
        }
    }
}
