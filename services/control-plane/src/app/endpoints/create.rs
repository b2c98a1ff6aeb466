//! Making an endpoint (spec 1.1).

use chrono::{DateTime, Utc};
use postern_model::Code;
use postern_model::dns::{Label, ServiceName};
use postern_model::endpoint::EndpointState;
use postern_model::event::{EventKind, Side};
use postern_model::id::{ConnectionId, EndpointId, SecurityGroupId, ServiceId, SubnetId, VpcId};

use super::{
    check_groups, check_private_name, check_subnets, full_subnet, name_claimed, waits_for,
};
use crate::app::App;
use crate::app::client_tokens::{Asked, ClientToken, mismatch};
use crate::app::events::{Happened, Subject, Word, event};
use crate::app::trace_context;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::client_tokens::{Claim, Fingerprint};
use crate::store::columns::texts;
use crate::store::endpoints;
use crate::store::endpoints::{Endpoint, InterfaceOf, NewEndpoint};
use crate::store::interfaces::Slot;
use crate::store::sites::{Ground, Wanted, before, survey};

/// How often a creation is tried whose address another transaction took first. The VPC's lock keeps
/// that from happening; the constraint is there should a lock ever be forgotten.
const ATTEMPTS: usize = 3;

/// Asks for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateEndpoint {
    /// The VPC that it goes into.
    pub vpc: VpcId,
    /// The name of the service that it leads to.
    pub service_name: String,
    /// The subnets to have an interface in.
    pub subnets: Vec<SubnetId>,
    /// The groups to carry, each once; the VPC's default group when empty.
    pub groups: Vec<SecurityGroupId>,
    /// Whether the service's private name leads to it; decided by the service when not said.
    pub private_dns: Option<bool>,
    /// Makes a repeat harmless.
    pub client_token: Option<ClientToken>,
}

impl CreateEndpoint {
    fn fingerprint(&self) -> Fingerprint {
        let private_dns = self.private_dns.map(|on| on.to_string());
        Fingerprint::of(&[
            &[self.vpc.to_string()],
            std::slice::from_ref(&self.service_name),
            &texts(&self.subnets),
            &texts(&self.groups),
            private_dns.as_slice(),
        ])
    }
}

/// What a try came to.
enum Tried {
    Made(Box<Endpoint>),
    /// It is there: the same request came before, or it has moved on already.
    There(EndpointId),
    /// Another transaction took an address first.
    Raced,
}

impl App {
    /// Makes an endpoint with an interface in each subnet. It waits for acceptance, or is being set up
    /// at once where its service accepts by itself.
    ///
    /// # Errors
    ///
    /// The refusals of spec 1.1, in that order.
    pub async fn create_endpoint(
        &self,
        caller: &Caller,
        command: CreateEndpoint,
    ) -> Result<Endpoint> {
        for _ in 0..ATTEMPTS {
            match self.try_create(caller, &command).await? {
                Tried::Made(endpoint) => return Ok(*endpoint),
                Tried::There(id) => return self.endpoint(caller, id).await,
                Tried::Raced => {}
            }
        }
        Err(Error::Unavailable {
            part: "address allocation",
            source: format!("lost {ATTEMPTS} races for an address").into(),
        })
    }

    async fn try_create(&self, caller: &Caller, command: &CreateEndpoint) -> Result<Tried> {
        let (owner, principal) = caller.principal()?;
        let now = self.clock.now();
        let id = EndpointId::generate(&mut rand::rng());
        let mut tx = self.store.begin().await?;
        let asked = Asked {
            account: owner,
            action: "CreateVpcEndpoint",
            token: command.client_token.as_ref(),
            fingerprint: command.fingerprint(),
        };
        let service = self.service_of(&command.service_name);
        let ground = Ground { owner, vpc: command.vpc, service };
        let claim = self.claim_and_hold(&mut tx, asked, &id.to_string(), now, ground).await?;
        if let Claim::Repeat(made) = &claim {
            let made = made.parse().map_err(|_| Error::internal("a token's resource"))?;
            return Ok(Tried::There(made));
        }

        let rested = before(now, self.settings.times.address_rest);
        let wanted = Wanted {
            owner,
            principal,
            vpc: command.vpc,
            service,
            endpoint: None,
            subnets: &command.subnets,
            groups: &command.groups,
            rested,
        };
        let survey = survey(&mut tx, wanted).await?;
        let vpc = survey.vpc.ok_or_else(|| {
            let reason = format!("the VPC {} does not exist", command.vpc);
            Error::of_field(Code::InvalidVpcNotFound, "vpc_id", reason)
        })?;
        let offer = survey.offer.as_ref().ok_or_else(|| no_such_service(&command.service_name))?;
        let subnets =
            check_subnets("subnet_ids", &command.subnets, &survey, command.vpc, offer, &[])?;
        let quotas = &self.settings.quotas;
        let groups =
            check_groups("group_ids", &command.groups, &survey, quotas.groups_per_interface)?;
        // Not asked, it is on where it can be (spec 1.1); a provider's decision is waited for first.
        let offered = offer.private_dns_name.is_some() && !offer.acceptance_required;
        let private_dns_name = if command.private_dns.unwrap_or(offered) {
            let accepted = !offer.acceptance_required;
            Some(check_private_name(offer, vpc, accepted, survey.claimed_by)?)
        } else {
            None
        };
        if vpc.endpoints >= i64::from(quotas.endpoints_per_vpc) {
            return Err(Error::refused(
                Code::VpcEndpointLimitExceeded,
                format!("a VPC has at most {} endpoints", quotas.endpoints_per_vpc),
            ));
        }
        if claim == Claim::Mismatch {
            return Err(mismatch());
        }

        let slots = self.place(&mut tx, command.vpc, offer, subnets).await?;
        let state = EndpointState::first(offer.acceptance_required);
        let kinds: &[_] = if offer.acceptance_required {
            &[EventKind::Connect]
        } else {
            &[EventKind::Connect, EventKind::Accept]
        };
        let subject = Subject {
            endpoint: id,
            owner,
            service: offer.service,
            service_name: &offer.name,
            service_owner: offer.owner,
            acceptance_required: offer.acceptance_required,
        };
        let events: Vec<_> = (1..)
            .zip(kinds)
            .map(|(sequence, kind)| {
                let happened = first_events(*kind, state, caller, sequence, now);
                event(&self.settings.region, &subject, happened, &survey.notifications)
            })
            .collect();
        let trace_context = trace_context();
        let new = NewEndpoint {
            id,
            connection: ConnectionId::generate(&mut rand::rng()),
            owner,
            vpc: command.vpc,
            service: offer.service,
            state,
            label: Label::generate(&mut rand::rng()),
            private_dns_name: private_dns_name.as_ref(),
            failure_reason: match state {
                EndpointState::Pending => waits_for(slots.iter().map(|slot| slot.host.is_some())),
                _ => "",
            },
            event_sequence: kinds.len() as i64,
            groups: &groups,
            interfaces: &slots,
            now,
            rested,
            events: &events,
            hosts: &survey.hosts,
            trace_context: &trace_context,
        };
        let addresses = match endpoints::insert(&mut tx, &new).await {
            Ok(addresses) => addresses,
            Err(error) => match (violated(&error), &private_dns_name) {
                (Some("network_interface_address_once"), _) => return Ok(Tried::Raced),
                (Some("vpc_endpoint_private_name_once"), Some(name)) => {
                    return Err(name_claimed(name, None));
                }
                _ => return Err(error.into()),
            },
        };
        if let Some((slot, _)) = slots.iter().zip(&addresses).find(|(_, placed)| placed.is_none()) {
            return Err(Error::of_field(
                Code::InsufficientFreeAddressesInSubnet,
                "subnet_ids",
                full_subnet(slot.subnet.id),
            ));
        }
        tx.commit().await?;
        self.spread(Word {
            hosts: survey.hosts.clone(),
            endpoints: vec![(owner, id)],
            outbox: true,
            reconcile: state == EndpointState::Pending,
        });
        if state == EndpointState::Pending && slots.is_empty() {
            // There is nothing to set up, so that no host will say that it is done.
            self.settle(id).await?;
            return Ok(Tried::There(id));
        }
        Ok(Tried::Made(Box::new(shown(&new, &offer.name, &slots, private_dns_name.clone()))))
    }

    /// The service that a name may be of; none when no service of this region has such a name.
    fn service_of(&self, name: &str) -> Option<ServiceId> {
        match name.parse() {
            Ok(ServiceName::Endpoint { region, service }) if region == self.settings.region => {
                Some(service)
            }
            _ => None,
        }
    }
}

/// The event of a new endpoint: its owner connects it, and where nobody has to decide, Postern accepts
/// it at once (spec 7).
fn first_events(
    kind: EventKind,
    now: EndpointState,
    caller: &Caller,
    sequence: i64,
    at: DateTime<Utc>,
) -> Happened {
    match kind {
        EventKind::Connect => {
            let account = caller.account().ok();
            Happened { kind, before: None, now, side: Side::Consumer, account, sequence, at }
        }
        _ => {
            let before = Some(now);
            Happened { kind, before, now, side: Side::System, account: None, sequence, at }
        }
    }
}

/// The same answer for a service that is not there and for one that the caller may not use.
pub(crate) fn no_such_service(name: &str) -> Error {
    let name: String = name.chars().take(128).collect();
    Error::of_field(
        Code::InvalidServiceName,
        "service_name",
        format!("the VPC endpoint service {name:?} does not exist"),
    )
}

/// The new endpoint as it is shown, without reading it back.
fn shown(
    new: &NewEndpoint<'_>,
    service_name: &str,
    slots: &[Slot],
    private_dns_name: Option<postern_model::dns::PrivateDnsName>,
) -> Endpoint {
    let mut groups = new.groups.to_vec();
    groups.sort();
    Endpoint {
        id: new.id,
        connection: new.connection,
        owner: new.owner,
        vpc: new.vpc,
        service: new.service,
        service_name: service_name.to_owned(),
        state: new.state,
        label: new.label,
        private_dns_name,
        failure_reason: new.failure_reason.to_owned(),
        revision: 1,
        created_at: new.now,
        groups,
        interfaces: slots
            .iter()
            .map(|slot| InterfaceOf {
                id: slot.id,
                subnet: slot.subnet.id,
                zone: slot.subnet.zone.clone(),
                zone_name: slot.subnet.zone_name.clone(),
            })
            .collect(),
    }
}
