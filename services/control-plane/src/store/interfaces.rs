//! Network interfaces of endpoints. They change under their endpoint's lock; only where their host
//! is (placement) and what it reports is others' business.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::id::{EndpointId, HostId, NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId};
use postern_model::zone::{ZoneId, ZoneName};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_all, parsed_or_none, texts};
use super::endpoints::{EndpointRow, Slots};
use super::sites::Subnet;
use super::sql;
use crate::error::Result;

/// An interface about to be made, in a subnet, on a host if there is one for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Where its address comes from.
    pub subnet: Subnet,
    /// The host that is to own it.
    pub host: Option<HostId>,
}

/// An interface of an endpoint that the transaction holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceRow {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: ZoneId,
    /// The host that owns it. None while it waits for one, or when its host has let go of it.
    pub host: Option<HostId>,
    /// Whether its host has it as it should be.
    pub up_to_date: bool,
    /// Why its host can't bind it; empty when it can.
    pub bind_error: String,
    /// Whether it is to go.
    pub removed: bool,
}

impl InterfaceRow {
    /// Whether it is to go, and no host has it any more.
    pub fn let_go(&self) -> bool {
        self.removed && self.host.is_none()
    }
}

impl FromRow<'_, PgRow> for InterfaceRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            endpoint: parsed(row, "endpoint_id")?,
            subnet: parsed(row, "subnet_id")?,
            zone: parsed(row, "zone_id")?,
            host: parsed_or_none(row, "host_id")?,
            up_to_date: row.try_get("up_to_date")?,
            bind_error: row.try_get("bind_error")?,
            removed: row.try_get("removed")?,
        })
    }
}

/// The interfaces of endpoints, those that are to go included, by endpoint and zone.
///
/// # Errors
///
/// The database away.
pub async fn of(db: &mut PgConnection, endpoints: &[EndpointId]) -> Result<Vec<InterfaceRow>> {
    Ok(sqlx::query_as(sql!("interfaces/of")).bind(texts(endpoints)).fetch_all(db).await?)
}

/// Makes interfaces of an endpoint that the transaction holds. Returns their addresses, in their
/// order; `None` where the subnet is full, and then the transaction must not be committed.
///
/// # Errors
///
/// The database away, and the constraint `network_interface_address_once`, as [`sqlx::Error`].
pub async fn insert(
    db: &mut PgConnection,
    endpoint: &EndpointRow,
    slots: &[Slot],
    now: DateTime<Utc>,
    rested: DateTime<Utc>,
) -> sqlx::Result<Vec<Option<IpAddr>>> {
    let columns = Slots::of(slots);
    let placed: Vec<(i64, Option<IpAddr>)> = sqlx::query_as(sql!("interfaces/insert"))
        .bind(endpoint.id.to_string())
        .bind(endpoint.owner.to_string())
        .bind(endpoint.vpc.to_string())
        .bind(now)
        .bind(rested)
        .bind(columns.ids)
        .bind(columns.subnets)
        .bind(columns.zones)
        .bind(columns.firsts)
        .bind(columns.lasts)
        .bind(columns.hosts)
        .fetch_all(db)
        .await?;
    Ok(placed.into_iter().map(|(_, address)| address).collect())
}

/// Marks interfaces of endpoints that the transaction holds as ones that are to go. Their rows, and
/// with them their addresses, stay until their hosts have let go.
///
/// # Errors
///
/// The database away.
pub async fn remove(
    db: &mut PgConnection,
    endpoints: &[EndpointId],
    ids: &[NetworkInterfaceId],
    now: DateTime<Utc>,
) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query(sql!("interfaces/remove"))
        .bind(texts(endpoints))
        .bind(texts(ids))
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

/// Notes that `host` holds no removed interface any more whose removal it was told of up to
/// `generation`: it has applied that generation. Returns the endpoints, which want
/// [`crate::app::App::settle`] after the commit.
///
/// For a host that is given up for lost, `generation` is `i64::MAX`.
///
/// # Errors
///
/// The database away.
pub async fn release(
    db: &mut PgConnection,
    host: HostId,
    generation: i64,
) -> Result<Vec<EndpointId>> {
    let rows: Vec<PgRow> = sqlx::query(sql!("interfaces/release"))
        .bind(host.to_string())
        .bind(generation)
        .fetch_all(db)
        .await?;
    let read = |row: &PgRow| parsed(row, "endpoint_id");
    Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
}

/// Deletes the rows of an endpoint's interfaces that are to go and that no host has any more; their
/// addresses rest from now on. The transaction holds the endpoint.
///
/// # Errors
///
/// The database away.
pub async fn clear(db: &mut PgConnection, endpoint: EndpointId, now: DateTime<Utc>) -> Result<()> {
    sqlx::query(sql!("interfaces/clear")).bind(endpoint.to_string()).bind(now).execute(db).await?;
    Ok(())
}

/// An interface as its owner is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// The account that owns it.
    pub owner: AccountId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: ZoneId,
    /// The zone as its owner's account names it.
    pub zone_name: ZoneName,
    /// Its address.
    pub address: IpAddr,
    /// Whether its host has reported it bound.
    pub bound: bool,
    /// The groups that it carries.
    pub groups: Vec<SecurityGroupId>,
    /// What went through it.
    pub usage: Usage,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// An interface's meters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes from clients to the service.
    pub bytes_in: i64,
    /// Bytes from the service to clients.
    pub bytes_out: i64,
    /// Connections open now.
    pub active_connections: i64,
    /// Connections ever.
    pub total_connections: i64,
}

impl FromRow<'_, PgRow> for NetworkInterface {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            endpoint: parsed(row, "endpoint_id")?,
            owner: parsed(row, "owner_id")?,
            vpc: parsed(row, "vpc_id")?,
            subnet: parsed(row, "subnet_id")?,
            zone: parsed(row, "zone_id")?,
            zone_name: parsed(row, "zone_name")?,
            address: row.try_get("address")?,
            bound: row.try_get("bound")?,
            groups: parsed_all(row, "group_ids")?,
            usage: Usage {
                bytes_in: row.try_get("bytes_in")?,
                bytes_out: row.try_get("bytes_out")?,
                active_connections: row.try_get("active_connections")?,
                total_connections: row.try_get("total_connections")?,
            },
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Which interfaces a list has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Only this one.
    pub id: Option<NetworkInterfaceId>,
    /// Only those of this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only those of this VPC.
    pub vpc: Option<VpcId>,
}

/// A page of an account's interfaces, by id.
///
/// # Errors
///
/// The database away.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    filter: Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<NetworkInterface>> {
    Ok(sqlx::query_as(sql!("interfaces/list"))
        .bind(owner.to_string())
        .bind(filter.id.map(|id| id.to_string()))
        .bind(filter.endpoint.map(|endpoint| endpoint.to_string()))
        .bind(filter.vpc.map(|vpc| vpc.to_string()))
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}
