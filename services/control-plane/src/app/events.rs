//! Events: what the world hears of endpoints (spec 7), and the word that goes out after a commit.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::event::{Actor, CloudEvent, EndpointHappening, EventKind, Notified, Side};
use postern_model::id::{EndpointId, HostId, ServiceId};
use postern_model::zone::Region;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{App, trace_context};
use crate::error::Result;
use crate::pokes::Poke;
use crate::store::endpoints::{Cause, EndpointRow, kind_of};
use crate::store::notifications::{self, Matching};
use crate::store::{endpoints, outbox};

/// The endpoint that something happens to, and its service.
#[derive(Clone, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) endpoint: EndpointId,
    pub(crate) owner: AccountId,
    pub(crate) service: ServiceId,
    pub(crate) service_name: &'a str,
    pub(crate) service_owner: AccountId,
    pub(crate) acceptance_required: bool,
}

impl<'a> From<&'a EndpointRow> for Subject<'a> {
    fn from(row: &'a EndpointRow) -> Self {
        Self {
            endpoint: row.id,
            owner: row.owner,
            service: row.service,
            service_name: &row.service_name,
            service_owner: row.service_owner,
            acceptance_required: row.acceptance_required,
        }
    }
}

/// Something that happened to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Happened {
    pub(crate) kind: EventKind,
    pub(crate) before: Option<EndpointState>,
    pub(crate) now: EndpointState,
    pub(crate) side: Side,
    pub(crate) account: Option<AccountId>,
    pub(crate) sequence: i64,
    pub(crate) at: DateTime<Utc>,
}

/// The event, with those notifications among `about` that ask for it.
pub(crate) fn event(
    region: &Region,
    subject: &Subject<'_>,
    happened: Happened,
    about: &[Matching],
) -> CloudEvent {
    let notifications = about
        .iter()
        .filter(|one| one.asks_for(happened.kind, subject.service, subject.endpoint))
        .map(|one| Notified {
            notification_id: one.id,
            topic_arn: one.topic_arn.clone(),
            owner_account: one.owner,
            source_arn: match one.service {
                Some(service) => service_arn(region, one.owner, service),
                None => endpoint_arn(region, one.owner, subject.endpoint),
            },
        })
        .collect();
    let data = EndpointHappening {
        event: happened.kind,
        time: happened.at,
        region: region.clone(),
        service_id: subject.service,
        service_name: subject.service_name.to_owned(),
        service_owner: subject.service_owner,
        vpc_endpoint_id: subject.endpoint,
        vpc_endpoint_owner: subject.owner,
        vpc_endpoint_state: happened.now,
        previous_state: happened.before,
        acceptance_required: subject.acceptance_required,
        actor: Actor { side: happened.side, account: happened.account },
        sequence: happened.sequence,
        notifications,
    };
    CloudEvent::new(Uuid::now_v7(), data)
}

/// The ARN of an endpoint (spec 3.1).
pub(crate) fn endpoint_arn(region: &Region, owner: AccountId, endpoint: EndpointId) -> String {
    format!("arn:aws:ec2:{region}:{owner}:vpc-endpoint/{endpoint}")
}

/// The ARN of an endpoint service (spec 3.1).
pub(crate) fn service_arn(region: &Region, owner: AccountId, service: ServiceId) -> String {
    format!("arn:aws:ec2:{region}:{owner}:vpc-endpoint-service/{service}")
}

/// Who hears of a commit, once it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Word {
    pub(crate) hosts: Vec<HostId>,
    pub(crate) endpoints: Vec<(AccountId, EndpointId)>,
    /// Whether events were appended.
    pub(crate) outbox: bool,
    /// Whether something is on its way that the reconcilers watch over.
    pub(crate) reconcile: bool,
}

impl App {
    /// Says that a commit is done.
    pub(crate) fn spread(&self, word: Word) {
        let Word { hosts, endpoints, outbox, reconcile } = word;
        for host in hosts {
            self.pokes.poke(Poke::Host(host));
        }
        for (owner, endpoint) in endpoints {
            self.pokes.poke(Poke::Endpoint(owner, endpoint));
        }
        if outbox {
            self.pokes.poke(Poke::Outbox);
        }
        if reconcile {
            self.pokes.poke(Poke::Reconcile);
        }
    }

    /// Moves endpoints that the transaction holds, and appends the events that this is to the world.
    pub(crate) async fn move_and_tell(
        &self,
        db: &mut PgConnection,
        rows: &mut [EndpointRow],
        event: EndpointEvent,
        cause: Cause,
        reason: impl Fn(&EndpointRow) -> String,
    ) -> Result<()> {
        let before = endpoints::apply(db, rows, event, cause, reason).await?;
        let (Some(kind), false) = (kind_of(event), rows.is_empty()) else { return Ok(()) };
        let services: Vec<_> = rows.iter().map(|row| row.service).collect();
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let about = notifications::matching(db, kind, &services, &ids).await?;
        let happened = |row: &EndpointRow, before: EndpointState| Happened {
            kind,
            before: Some(before),
            now: row.state,
            side: cause.side,
            account: cause.account,
            sequence: row.event_sequence,
            at: cause.now,
        };
        let events: Vec<_> = rows
            .iter()
            .zip(before)
            .map(|(row, before)| {
                self::event(&self.settings.region, &row.into(), happened(row, before), &about)
            })
            .collect();
        outbox::append_all(db, &events, &trace_context()).await
    }
}
