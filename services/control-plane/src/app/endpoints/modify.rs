//! Changing an endpoint (spec 1.2). What counts is the final set: a swap within one zone is one call.

use postern_model::Code;
use postern_model::dns::PrivateDnsName;
use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::event::Side;
use postern_model::id::{EndpointId, SecurityGroupId, SubnetId};

use super::{
    check_groups, check_private_name, check_subnets, full_subnet, name_claimed, no_such_endpoint,
    waiting, wrong_state,
};
use crate::app::App;
use crate::app::events::Word;
use crate::app::trace_context;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::endpoints::{Cause, Endpoint, EndpointRow, Scope};
use crate::store::fleet::Touched;
use crate::store::interfaces::{self, Slot};
use crate::store::sites::{Survey, Wanted, before, hold, survey};
use crate::store::{Tx, endpoints, fleet};

/// Asks to change an endpoint. What is empty or absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyEndpoint {
    /// The endpoint.
    pub id: EndpointId,
    /// Subnets to have an interface in; those that have one don't matter.
    pub add_subnets: Vec<SubnetId>,
    /// Subnets to have none in any more; those that have none don't matter.
    pub remove_subnets: Vec<SubnetId>,
    /// Groups to carry; those that are carried don't matter.
    pub add_groups: Vec<SecurityGroupId>,
    /// Groups to carry no longer; those that are not carried don't matter.
    pub remove_groups: Vec<SecurityGroupId>,
    /// Whether the service's private name leads to it.
    pub private_dns: Option<bool>,
}

/// What a change is decided on.
struct Facts<'a> {
    command: &'a ModifyEndpoint,
    row: &'a EndpointRow,
    current: &'a Endpoint,
    /// The subnets that it is to have besides its present ones.
    added: &'a [SubnetId],
    survey: &'a Survey,
}

/// How the endpoint is to be.
struct Plan {
    slots: Vec<Slot>,
    removed: Vec<postern_model::id::NetworkInterfaceId>,
    groups: Vec<SecurityGroupId>,
    private_dns_name: Option<PrivateDnsName>,
}

impl App {
    /// Changes an endpoint's subnets, groups or private DNS. Its hosts have work to do then, so that
    /// it is `pending` until they are done; one that waits for acceptance goes on waiting.
    ///
    /// # Errors
    ///
    /// The refusals of spec 1.2; `InvalidState`, naming it, in a state that allows no change.
    pub async fn modify_endpoint(
        &self,
        caller: &Caller,
        command: ModifyEndpoint,
    ) -> Result<Endpoint> {
        let (owner, principal) = caller.principal()?;
        let now = self.clock.now();
        let id = command.id;
        contradictions(&command)?;
        let mut tx = self.store.begin().await?;
        let Some((vpc, service)) = endpoints::locate(&mut tx, owner, id).await? else {
            return Err(no_such_endpoint(id));
        };
        hold(&mut tx, owner, vpc, Some(service)).await?;
        let mut rows = endpoints::lock(&mut tx, Scope::Owner(owner), &[id]).await?;
        let (Some(row), Some(current)) =
            (rows.first().cloned(), endpoints::find(&mut tx, owner, &[id]).await?.pop())
        else {
            return Err(no_such_endpoint(id));
        };
        if row.state.after(EndpointEvent::Modified).is_none() {
            return Err(wrong_state(id, row.state, "modified"));
        }

        let mut groups = current.groups.clone();
        groups.retain(|group| !command.remove_groups.contains(group));
        groups.extend(command.add_groups.iter().filter(|group| !current.groups.contains(group)));
        if groups.is_empty() {
            let reason = "at least one security group must stay";
            return Err(Error::of_field(Code::InvalidParameter, "remove_group_ids", reason));
        }
        let has = |subnet: &SubnetId| current.interfaces.iter().any(|one| one.subnet == *subnet);
        let added: Vec<_> =
            command.add_subnets.iter().copied().filter(|subnet| !has(subnet)).collect();
        let rested = before(now, self.settings.times.address_rest);
        let wanted = Wanted {
            owner,
            principal,
            vpc,
            service: Some(service),
            endpoint: Some(id),
            subnets: &added,
            groups: &groups,
            rested,
        };
        let survey = survey(&mut tx, wanted).await?;
        let facts = Facts {
            command: &command,
            row: &row,
            current: &current,
            added: &added,
            survey: &survey,
        };
        let plan = self.plan(&mut tx, facts).await?;
        if plan.slots.is_empty()
            && plan.removed.is_empty()
            && plan.groups == current.groups
            && plan.private_dns_name == current.private_dns_name
        {
            return Ok(current);
        }

        if plan.groups != current.groups {
            endpoints::set_groups(&mut tx, id, &plan.groups).await?;
        }
        if plan.private_dns_name != current.private_dns_name {
            let name = plan.private_dns_name.as_ref();
            endpoints::set_private_name(&mut tx, id, name).await.map_err(|error| {
                match (violated(&error), name) {
                    (Some("vpc_endpoint_private_name_once"), Some(name)) => {
                        name_claimed(name, None)
                    }
                    _ => error.into(),
                }
            })?;
        }
        interfaces::remove(&mut tx, &[id], &plan.removed, now).await?;
        if !plan.slots.is_empty() {
            let placed = interfaces::insert(&mut tx, &row, &plan.slots, now, rested).await?;
            if let Some((slot, _)) = plan.slots.iter().zip(&placed).find(|(_, at)| at.is_none()) {
                return Err(Error::of_field(
                    Code::InsufficientFreeAddressesInSubnet,
                    "add_subnet_ids",
                    full_subnet(slot.subnet.id),
                ));
            }
        }
        let all = interfaces::of(&mut tx, &[id]).await?;
        // An interface that no host has goes at once; one that a host has, when it has let go.
        interfaces::clear(&mut tx, id, now).await?;
        let cause = Cause { side: Side::Consumer, account: Some(owner), now };
        let reason = |row: &EndpointRow| match row.state {
            EndpointState::PendingAcceptance => String::new(),
            _ => waiting(&all, row.id),
        };
        self.move_and_tell(&mut tx, &mut rows, EndpointEvent::Modified, cause, reason).await?;
        // Every interface is told, the unchanged ones too: a host has the names when it has applied
        // the generation that its interface was told in, and that is what `available` waits for.
        let mut touched = Touched::default();
        for interface in &all {
            touched.interface(interface.id);
        }
        touched.names(vpc, id);
        let hosts = fleet::advance(&mut tx, &touched, &trace_context()).await?;
        tx.commit().await?;
        self.spread(Word { hosts, endpoints: vec![(owner, id)], outbox: false, reconcile: true });
        if all.iter().all(|interface| interface.removed) {
            // Nothing is left to be set up, so that no host will say that it is done.
            self.settle(id).await?;
        }
        self.endpoint(caller, id).await
    }

    async fn plan(&self, tx: &mut Tx, facts: Facts<'_>) -> Result<Plan> {
        let Facts { command, row, current, added, survey } = facts;
        let (Some(vpc), Some(offer)) = (survey.vpc, survey.offer.as_ref()) else {
            // The VPC can't go before its endpoints, nor the service before a living connection.
            return Err(Error::internal(format!("{} has lost its VPC or service", row.id)));
        };
        let (removed, kept): (Vec<_>, Vec<_>) =
            current.interfaces.iter().partition(|one| command.remove_subnets.contains(&one.subnet));
        let taken: Vec<_> = kept.iter().map(|interface| interface.zone.clone()).collect();
        let subnets = check_subnets("add_subnet_ids", added, survey, row.vpc, offer, &taken)?;
        let limit = self.settings.quotas.groups_per_interface;
        // Those carried already are there, so that only an added one can be missing.
        check_groups("add_group_ids", &command.add_groups, survey, limit)?;
        let private_dns_name = match command.private_dns {
            None => current.private_dns_name.clone(),
            Some(false) => None,
            Some(true) => {
                let accepted = row.state != EndpointState::PendingAcceptance;
                Some(check_private_name(offer, vpc, accepted, survey.claimed_by)?)
            }
        };
        let slots = self.place(tx, row.vpc, offer, subnets).await?;
        Ok(Plan {
            slots,
            removed: removed.iter().map(|interface| interface.id).collect(),
            groups: survey.groups.clone(),
            private_dns_name,
        })
    }
}

/// What is to be added and removed at once can't be meant.
fn contradictions(command: &ModifyEndpoint) -> Result<()> {
    let refuse = |field: &str, what: String| {
        let reason = format!("{what} is to be added and removed at once");
        Err(Error::of_field(Code::InvalidParameterCombination, field, reason))
    };
    for (index, subnet) in command.add_subnets.iter().enumerate() {
        if command.remove_subnets.contains(subnet) {
            return refuse(&format!("add_subnet_ids[{index}]"), format!("the subnet {subnet}"));
        }
    }
    for (index, group) in command.add_groups.iter().enumerate() {
        if command.remove_groups.contains(group) {
            return refuse(&format!("add_group_ids[{index}]"), format!("the group {group}"));
        }
    }
    Ok(())
}
