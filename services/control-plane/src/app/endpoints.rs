//! Endpoints: the consumer's side (spec 1.1 to 1.4).

mod create;
mod modify;
mod settle;

use postern_model::dns::PrivateDnsName;
use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::event::Side;
use postern_model::id::{EndpointId, SecurityGroupId, SubnetId};
use postern_model::zone::ZoneId;
use postern_model::{Code, InvalidField, Refusal};
use postern_proto::page::Page;

pub use create::CreateEndpoint;
pub(super) use create::no_such_service;
pub use modify::ModifyEndpoint;
pub use settle::Forgotten;

use super::App;
use super::events::Word;
use super::items::Unsuccessful;
use super::trace_context;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::endpoints::{Cause, Endpoint, Filter, Scope};
use crate::store::fleet::Touched;
use crate::store::interfaces::{self, InterfaceRow};
use crate::store::placement;
use crate::store::sites::{Offer, Subnet, Survey, Vpc};
use crate::store::{endpoints, fleet};

/// What an endpoint is said to wait for when no host can have an interface of it.
pub const NO_HOST: &str = "waits for a host that reaches both the VPC and the service";

impl App {
    /// One of the caller's endpoints.
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointId.NotFound`, also for another account's.
    pub async fn endpoint(&self, caller: &Caller, id: EndpointId) -> Result<Endpoint> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        endpoints::find(&mut db, owner, &[id]).await?.pop().ok_or_else(|| no_such_endpoint(id))
    }

    /// A page of the caller's endpoints, by id.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn endpoints(
        &self,
        caller: &Caller,
        filter: Filter,
        page: &Page,
    ) -> Result<Vec<Endpoint>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        endpoints::list(&mut db, owner, filter, page.after.as_deref(), page.limit()).await
    }

    /// Deletes endpoints of the caller's, whatever state they are in. One that is on its way out
    /// already is no failure (spec 1.4).
    ///
    /// # Errors
    ///
    /// The database away. What is not there is an item of the answer.
    pub async fn delete_endpoints(
        &self,
        caller: &Caller,
        ids: &[EndpointId],
    ) -> Result<Vec<Unsuccessful>> {
        let owner = caller.account()?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let found = endpoints::lock(&mut tx, Scope::Owner(owner), ids).await?;
        let unsuccessful = ids
            .iter()
            .filter(|id| found.iter().all(|row| row.id != **id))
            .map(|id| Unsuccessful::endpoint_not_found(*id))
            .collect();
        let mut rows: Vec<_> = found
            .into_iter()
            .filter(|row| row.state.after(EndpointEvent::DeleteRequested).is_some())
            .collect();
        if rows.is_empty() {
            return Ok(unsuccessful);
        }
        let leaving: Vec<_> = rows.iter().map(|row| row.id).collect();
        let held = interfaces::of(&mut tx, &leaving).await?;
        let all: Vec<_> = held.iter().map(|interface| interface.id).collect();
        interfaces::remove(&mut tx, &leaving, &all, now).await?;
        let cause = Cause { side: Side::Consumer, account: Some(owner), now };
        let quiet = |_: &_| String::new();
        self.move_and_tell(&mut tx, &mut rows, EndpointEvent::DeleteRequested, cause, quiet)
            .await?;
        let mut touched = Touched::default();
        for interface in &held {
            touched.interface(interface.id);
        }
        for row in &rows {
            touched.names(row.vpc, row.id);
        }
        let hosts = fleet::advance(&mut tx, &touched, &trace_context()).await?;
        tx.commit().await?;
        self.spread(Word {
            hosts,
            endpoints: rows.iter().map(|row| (row.owner, row.id)).collect(),
            outbox: true,
            reconcile: true,
        });
        // What no host has is gone at once. Should this not be reached, the reconciler does it.
        let hosted = |id| held.iter().any(|one| one.endpoint == id && one.host.is_some());
        for id in leaving.into_iter().filter(|id| !hosted(*id)) {
            self.settle(id).await?;
        }
        Ok(unsuccessful)
    }

    /// Where new interfaces go: a host for each subnet, and what the endpoint waits for if one of
    /// them has none.
    async fn place(
        &self,
        db: &mut sqlx::PgConnection,
        vpc: postern_model::id::VpcId,
        offer: &Offer,
        subnets: Vec<Subnet>,
    ) -> Result<Vec<interfaces::Slot>> {
        let zones: Vec<_> = subnets.iter().map(|subnet| subnet.zone.clone()).collect();
        let hosts = if zones.is_empty() {
            Vec::new()
        } else {
            placement::choose(db, vpc, offer.vpc, &zones).await?
        };
        let mut random = rand::rng();
        let id = |random: &mut _| postern_model::id::NetworkInterfaceId::generate(random);
        Ok(subnets
            .into_iter()
            .zip(hosts)
            .map(|(subnet, host)| interfaces::Slot { id: id(&mut random), subnet, host })
            .collect())
    }
}

/// The same answer for an endpoint that is not there and for somebody else's.
pub(super) fn no_such_endpoint(id: EndpointId) -> Error {
    Error::of_field(
        Code::InvalidVpcEndpointIdNotFound,
        "vpc_endpoint_id",
        format!("the endpoint {id} does not exist"),
    )
}

/// An endpoint in a state that does not allow what is asked.
fn wrong_state(id: EndpointId, state: EndpointState, what: &str) -> Error {
    Error::refused(
        Code::InvalidState,
        format!("the endpoint {id} is in the state {state}, which does not allow it to be {what}"),
    )
}

/// The subnets that were asked for, checked in the order of spec 1.1: they exist, lie in the VPC,
/// are where the service is offered, no two in a zone, and have an address left. `taken` are zones
/// that the endpoint has already.
fn check_subnets(
    field: &str,
    wanted: &[SubnetId],
    survey: &Survey,
    vpc: postern_model::id::VpcId,
    offer: &Offer,
    taken: &[ZoneId],
) -> Result<Vec<Subnet>> {
    let at = |index: usize| format!("{field}[{index}]");
    let refuse = |code, index, reason| Error::of_field(code, at(index), reason);
    let mut subnets = Vec::with_capacity(wanted.len());
    for (index, id) in wanted.iter().enumerate() {
        let Some(subnet) = survey.subnets.iter().find(|subnet| subnet.id == *id) else {
            let reason = format!("the subnet {id} does not exist");
            return Err(refuse(Code::InvalidSubnetNotFound, index, reason));
        };
        subnets.push(subnet.clone());
    }
    for (index, subnet) in subnets.iter().enumerate() {
        if subnet.vpc != vpc {
            let reason = format!("the subnet {} is not in the VPC {vpc}", subnet.id);
            return Err(refuse(Code::InvalidParameter, index, reason));
        }
    }
    for (index, subnet) in subnets.iter().enumerate() {
        if !offer.zones.contains(&subnet.zone) {
            let reason = format!(
                "the service {} is not offered in the availability zone {} of the subnet {}",
                offer.name, subnet.zone_name, subnet.id
            );
            return Err(refuse(Code::InvalidParameter, index, reason));
        }
    }
    for (index, subnet) in subnets.iter().enumerate() {
        let before = subnets[..index].iter().map(|other| &other.zone);
        if before.chain(taken).any(|zone| *zone == subnet.zone) {
            let reason = format!(
                "the endpoint can have one subnet in the availability zone {}",
                subnet.zone_name
            );
            return Err(refuse(Code::DuplicateSubnetsInSameZone, index, reason));
        }
    }
    for (index, subnet) in subnets.iter().enumerate() {
        if subnet.full {
            return Err(refuse(
                Code::InsufficientFreeAddressesInSubnet,
                index,
                full_subnet(subnet.id),
            ));
        }
    }
    // By zone, as they are shown.
    subnets.sort_by(|one, other| one.zone.cmp(&other.zone));
    Ok(subnets)
}

fn full_subnet(id: SubnetId) -> String {
    format!("the subnet {id} has no free address")
}

/// The groups that an endpoint is to carry: they exist in the VPC, and are not too many.
fn check_groups(
    field: &str,
    wanted: &[SecurityGroupId],
    survey: &Survey,
    limit: u32,
) -> Result<Vec<SecurityGroupId>> {
    for (index, id) in wanted.iter().enumerate() {
        if !survey.groups.contains(id) {
            return Err(Error::of_field(
                Code::InvalidSecurityGroupNotFound,
                format!("{field}[{index}]"),
                format!("the security group {id} does not exist in the VPC"),
            ));
        }
    }
    if survey.groups.len() > limit as usize {
        return Err(Error::of_field(
            Code::SecurityGroupsPerInterfaceLimitExceeded,
            field,
            format!("an endpoint carries at most {limit} security groups"),
        ));
    }
    if survey.groups.is_empty() {
        return Err(Error::internal("the VPC has no default security group"));
    }
    Ok(survey.groups.clone())
}

/// The private name that an endpoint claims when it is asked to have private DNS (spec 3.4), checked
/// in the order of spec 1.1.
fn check_private_name(
    offer: &Offer,
    vpc: Vpc,
    accepted: bool,
    claimed_by: Option<EndpointId>,
) -> Result<PrivateDnsName> {
    const FIELD: &str = "private_dns_enabled";
    let refuse = |reason: &str| Error::of_field(Code::InvalidParameter, FIELD, reason);
    if !vpc.private_names() {
        return Err(refuse(
            "private DNS needs enable_dns_support and enable_dns_hostnames of the VPC to be true",
        ));
    }
    let Some(name) = &offer.private_dns_name else {
        return Err(refuse("the service has no private DNS name"));
    };
    if !accepted {
        return Err(refuse(
            "the service requires acceptance: private DNS can be enabled once the endpoint is \
             accepted",
        ));
    }
    match claimed_by {
        None => Ok(name.clone()),
        Some(other) => Err(name_claimed(name, Some(other))),
    }
}

/// Another endpoint of the VPC has the name. The message begins as AWS's does.
fn name_claimed(name: &PrivateDnsName, by: Option<EndpointId>) -> Error {
    let whom = by.map_or_else(|| "another endpoint".to_owned(), |id| format!("the endpoint {id}"));
    let reason = format!("the name {} leads to {whom} in this VPC", name.as_str());
    Error::Refused(Refusal {
        code: Code::InvalidParameter,
        message: format!("private-dns-enabled cannot be set because {reason}"),
        field: Some(InvalidField::new("private_dns_enabled", reason)),
    })
}

/// Why an endpoint that is accepted is not available at once; empty when its hosts are at work.
fn waits_for(interfaces: impl IntoIterator<Item = bool>) -> &'static str {
    if interfaces.into_iter().all(|hosted| hosted) { "" } else { NO_HOST }
}

/// As [`waits_for`], of interfaces that are there; those that are to go don't count.
pub(super) fn waiting(interfaces: &[InterfaceRow], endpoint: EndpointId) -> String {
    let of = interfaces.iter().filter(|one| one.endpoint == endpoint && !one.removed);
    waits_for(of.map(|one| one.host.is_some())).to_owned()
}
