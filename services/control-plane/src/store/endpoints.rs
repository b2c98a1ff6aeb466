//! Endpoints. [`apply`] alone writes their state, by the lifecycle table of the model (spec 2.2).

mod moves;
mod views;

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::dns::{Label, PrivateDnsName};
use postern_model::endpoint::EndpointState;
use postern_model::event::CloudEvent;
use postern_model::id::{
    ConnectionId, EndpointId, HostId, NetworkInterfaceId, SecurityGroupId, ServiceId, SubnetId,
    VpcId,
};
use postern_model::zone::ZoneId;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};

pub use moves::{Cause, apply, kind_of};
pub use views::{Endpoint, Filter, InterfaceOf, connections, find, list, revisions};

use super::columns::{parsed, parsed_or_none, texts};
use super::interfaces::Slot;
use super::sql;
use crate::error::Result;

/// An endpoint that the transaction holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRow {
    /// The endpoint.
    pub id: EndpointId,
    /// The consumer.
    pub owner: AccountId,
    /// The consumer's VPC.
    pub vpc: VpcId,
    /// The service.
    pub service: ServiceId,
    /// The service's name.
    pub service_name: String,
    /// The provider.
    pub service_owner: AccountId,
    /// Whether the provider decides on requests, now.
    pub acceptance_required: bool,
    /// Where it is in its life.
    pub state: EndpointState,
    /// The private name that it has claimed in the VPC; none while private DNS is off.
    pub private_dns_name: Option<PrivateDnsName>,
    /// Whether its names lead anywhere.
    pub published: bool,
    /// Why it is where it is.
    pub failure_reason: String,
    /// Counts its changes.
    pub revision: i64,
    /// Counts its events.
    pub event_sequence: i64,
    /// Since when it is in its state.
    pub state_changed_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for EndpointRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            owner: parsed(row, "owner_id")?,
            vpc: parsed(row, "vpc_id")?,
            service: parsed(row, "service_id")?,
            service_name: row.try_get("service_name")?,
            service_owner: parsed(row, "service_owner_id")?,
            acceptance_required: row.try_get("acceptance_required")?,
            state: parsed(row, "state")?,
            private_dns_name: parsed_or_none(row, "private_dns_name")?,
            published: row.try_get("published")?,
            failure_reason: row.try_get("failure_reason")?,
            revision: row.try_get("revision")?,
            event_sequence: row.try_get("event_sequence")?,
            state_changed_at: row.try_get("state_changed_at")?,
        })
    }
}

/// Whose endpoints are meant: the scope of every statement here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A consumer's own.
    Owner(AccountId),
    /// Those connected to a service, whose owner has been checked.
    Service(ServiceId),
    /// All of them: for the reconcilers, never for a caller.
    Everyone,
}

impl Scope {
    fn owner(self) -> Option<String> {
        if let Self::Owner(owner) = self { Some(owner.to_string()) } else { None }
    }

    fn service(self) -> Option<String> {
        if let Self::Service(service) = self { Some(service.to_string()) } else { None }
    }
}

/// Holds endpoints until the transaction ends, in the order of their ids, and before them their VPCs
/// against changes, since whoever moves an endpoint tells the hosts that reach the VPC. Those that
/// are not there, or not in scope, are missing from the answer.
///
/// # Errors
///
/// The database away.
pub async fn lock(
    db: &mut PgConnection,
    scope: Scope,
    ids: &[EndpointId],
) -> Result<Vec<EndpointRow>> {
    Ok(sqlx::query_as(sql!("endpoints/lock"))
        .bind(texts(ids))
        .bind(scope.owner())
        .bind(scope.service())
        .fetch_all(db)
        .await?)
}

/// Where an endpoint of an account is: its VPC and service, which never change. `None` when it is
/// not there.
///
/// # Errors
///
/// The database away.
pub async fn locate(
    db: &mut PgConnection,
    owner: AccountId,
    id: EndpointId,
) -> Result<Option<(VpcId, ServiceId)>> {
    let row: Option<PgRow> = sqlx::query(sql!("endpoints/locate"))
        .bind(id.to_string())
        .bind(owner.to_string())
        .fetch_optional(db)
        .await?;
    match row {
        None => Ok(None),
        Some(row) => Ok(Some((parsed(&row, "vpc_id")?, parsed(&row, "service_id")?))),
    }
}

/// Endpoints in `state` since before `since`, which nobody holds, at most `limit`: the oldest first.
///
/// # Errors
///
/// The database away.
pub async fn overdue(
    db: &mut PgConnection,
    state: EndpointState,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<EndpointRow>> {
    Ok(sqlx::query_as(sql!("endpoints/overdue"))
        .bind(state.as_str())
        .bind(since)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// An endpoint about to be made.
#[derive(Clone, Debug)]
pub struct NewEndpoint<'a> {
    /// The endpoint.
    pub id: EndpointId,
    /// The connection, as the provider calls it.
    pub connection: ConnectionId,
    /// The consumer.
    pub owner: AccountId,
    /// The consumer's VPC.
    pub vpc: VpcId,
    /// The service.
    pub service: ServiceId,
    /// Its first state.
    pub state: EndpointState,
    /// What its names have to themselves.
    pub label: Label,
    /// The private name to claim.
    pub private_dns_name: Option<&'a PrivateDnsName>,
    /// What it waits for, if anything is in the way.
    pub failure_reason: &'a str,
    /// How many events it has from the start.
    pub event_sequence: i64,
    /// The groups that it carries.
    pub groups: &'a [SecurityGroupId],
    /// Its interfaces, without addresses yet.
    pub interfaces: &'a [Slot],
    /// When.
    pub now: DateTime<Utc>,
    /// Addresses released since then are not given out.
    pub rested: DateTime<Utc>,
    /// What the world hears of it, in order.
    pub events: &'a [CloudEvent],
    /// The hosts that reach the VPC, those that own its interfaces among them. The transaction holds
    /// the VPC since before they were read.
    pub hosts: &'a [HostId],
    /// The trace of the request.
    pub trace_context: &'a BTreeMap<String, String>,
}

/// Makes an endpoint with its groups, its interfaces and their addresses, appends its events and
/// advances the hosts that reach its VPC, in one statement: the hosts' rows, which all creations wait
/// for, are held for this and the commit only. Returns the address of each interface, in their order;
/// `None` where the subnet is full, and then the transaction must not be committed.
///
/// # Errors
///
/// The database away, and the constraints `vpc_endpoint_private_name_once` and
/// `network_interface_address_once` as [`sqlx::Error`], for [`crate::error::violated`].
pub async fn insert(
    db: &mut PgConnection,
    new: &NewEndpoint<'_>,
) -> sqlx::Result<Vec<Option<IpAddr>>> {
    let slots = Slots::of(new.interfaces);
    let placed: Vec<(i64, Option<IpAddr>)> = sqlx::query_as(sql!("endpoints/insert"))
        .bind(new.id.to_string())
        .bind(new.connection.to_string())
        .bind(new.owner.to_string())
        .bind(new.vpc.to_string())
        .bind(new.service.to_string())
        .bind(new.state.as_str())
        .bind(new.label.as_str())
        .bind(new.private_dns_name.map(PrivateDnsName::as_str))
        .bind(new.failure_reason)
        .bind(new.event_sequence)
        .bind(new.now)
        .bind(new.rested)
        .bind(texts(new.groups))
        .bind(slots.ids)
        .bind(slots.subnets)
        .bind(slots.zones)
        .bind(slots.firsts)
        .bind(slots.lasts)
        .bind(slots.hosts)
        .bind(new.events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(new.events.iter().map(|event| event.data.sequence).collect::<Vec<_>>())
        .bind(new.events.iter().map(|event| event.data.event.as_str()).collect::<Vec<_>>())
        .bind(new.events.iter().map(Json).collect::<Vec<_>>())
        .bind(texts(new.hosts))
        .bind(Json(new.trace_context))
        .fetch_all(db)
        .await?;
    Ok(placed.into_iter().map(|(_, address)| address).collect())
}

/// The columns of interfaces about to be made.
pub(super) struct Slots {
    pub(super) ids: Vec<String>,
    pub(super) subnets: Vec<String>,
    pub(super) zones: Vec<String>,
    pub(super) firsts: Vec<IpAddr>,
    pub(super) lasts: Vec<IpAddr>,
    pub(super) hosts: Vec<Option<String>>,
}

impl Slots {
    pub(super) fn of(slots: &[Slot]) -> Self {
        let ids: Vec<NetworkInterfaceId> = slots.iter().map(|slot| slot.id).collect();
        let subnets: Vec<SubnetId> = slots.iter().map(|slot| slot.subnet.id).collect();
        let zones: Vec<ZoneId> = slots.iter().map(|slot| slot.subnet.zone.clone()).collect();
        let (firsts, lasts) = slots.iter().map(|slot| slot.subnet.usable()).unzip();
        let host = |host: HostId| host.to_string();
        let hosts = slots.iter().map(|slot| slot.host.map(host)).collect();
        Self {
            ids: texts(&ids),
            subnets: texts(&subnets),
            zones: texts(&zones),
            firsts,
            lasts,
            hosts,
        }
    }
}

/// Changes which groups an endpoint carries.
///
/// # Errors
///
/// The database away.
pub async fn set_groups(
    db: &mut PgConnection,
    id: EndpointId,
    groups: &[SecurityGroupId],
) -> Result<()> {
    sqlx::query(sql!("endpoints/set_groups"))
        .bind(id.to_string())
        .bind(texts(groups))
        .execute(db)
        .await?;
    Ok(())
}

/// Claims a private name for an endpoint, or gives it up.
///
/// # Errors
///
/// The database away, and the constraint `vpc_endpoint_private_name_once`, as [`sqlx::Error`].
pub async fn set_private_name(
    db: &mut PgConnection,
    id: EndpointId,
    name: Option<&PrivateDnsName>,
) -> sqlx::Result<()> {
    sqlx::query(sql!("endpoints/set_private_name"))
        .bind(id.to_string())
        .bind(name.map(PrivateDnsName::as_str))
        .execute(db)
        .await?;
    Ok(())
}

/// Takes away what only a living endpoint has: its groups, and the notifications about it.
///
/// # Errors
///
/// The database away.
pub async fn strip(db: &mut PgConnection, id: EndpointId) -> Result<()> {
    sqlx::query(sql!("endpoints/strip")).bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// Forgets endpoints that were deleted before `since`, at most `limit`; returns how many.
///
/// # Errors
///
/// The database away.
pub async fn forget(db: &mut PgConnection, since: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done = sqlx::query(sql!("endpoints/forget")).bind(since).bind(limit).execute(db).await?;
    Ok(done.rows_affected())
}
