//! Endpoint services, their listeners and targets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::dns::PrivateDnsName;
use postern_model::endpoint::EndpointState;
use postern_model::id::{EndpointId, NetworkInterfaceId, ServiceId, VpcId};
use postern_model::net::Cidr;
use postern_model::service::{Listener, Target};
use postern_model::zone::{ZoneId, ZoneName};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_all, parsed_or_none, texts};
use super::sql;
use crate::error::{Error, Result};

/// A service, without its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    /// The service.
    pub id: ServiceId,
    /// The provider.
    pub owner: AccountId,
    /// The provider's VPC.
    pub vpc: VpcId,
    /// Its name.
    pub name: String,
    /// Whether the provider decides on requests.
    pub acceptance_required: bool,
    /// Its private name.
    pub private_dns_name: Option<PrivateDnsName>,
    /// Whether targets get a PROXY protocol v2 header.
    pub proxy_protocol_v2: bool,
    /// After how many seconds without a byte a connection is reset.
    pub idle_timeout_seconds: u32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for ServiceRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let idle: i32 = row.try_get("idle_timeout_seconds")?;
        Ok(Self {
            id: parsed(row, "id")?,
            owner: parsed(row, "owner_id")?,
            vpc: parsed(row, "vpc_id")?,
            name: row.try_get("name")?,
            acceptance_required: row.try_get("acceptance_required")?,
            private_dns_name: parsed_or_none(row, "private_dns_name")?,
            proxy_protocol_v2: row.try_get("proxy_protocol_v2")?,
            idle_timeout_seconds: idle.unsigned_abs(),
            created_at: row.try_get("created_at")?,
        })
    }
}

/// How a statement holds the services that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Against changes: for those who depend on the service.
    Share,
    /// Against changes by others and those who depend on it: to change it.
    Update,
}

/// Holds those of an account's living services that `ids` names, in the order of their ids.
///
/// # Errors
///
/// The database away.
pub async fn lock(
    db: &mut PgConnection,
    owner: AccountId,
    ids: &[ServiceId],
    hold: Hold,
) -> Result<Vec<ServiceRow>> {
    let statement = match hold {
        Hold::Share => sql!("services/share"),
        Hold::Update => sql!("services/lock"),
    };
    Ok(sqlx::query_as(statement).bind(owner.to_string()).bind(texts(ids)).fetch_all(db).await?)
}

/// One of an account's living services.
///
/// # Errors
///
/// The database away.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    id: ServiceId,
) -> Result<Option<ServiceRow>> {
    Ok(sqlx::query_as(sql!("services/find"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await?)
}

/// A page of an account's living services, by id.
///
/// # Errors
///
/// The database away.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<ServiceRow>> {
    Ok(sqlx::query_as(sql!("services/list"))
        .bind(owner.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// The listeners of services, by port, each with its targets.
///
/// # Errors
///
/// The database away.
pub async fn listeners(
    db: &mut PgConnection,
    services: &[ServiceId],
) -> Result<BTreeMap<ServiceId, Vec<Listener>>> {
    let rows: Vec<PgRow> =
        sqlx::query(sql!("services/listeners")).bind(texts(services)).fetch_all(db).await?;
    let mut of: BTreeMap<ServiceId, Vec<Listener>> = BTreeMap::new();
    for row in &rows {
        let listeners = of.entry(parsed(row, "service_id")?).or_default();
        let port = port(row, "listener_port")?;
        if listeners.last().is_none_or(|listener| listener.port != port) {
            listeners.push(Listener { port, targets: Vec::new() });
        }
        let address: IpAddr = row.try_get("address")?;
        let IpAddr::V4(address) = address else {
            return Err(Error::internal("a target's address is not IPv4"));
        };
        let target =
            Target { address, port: self::port(row, "port")?, zone: parsed(row, "zone_id")? };
        if let Some(listener) = listeners.last_mut() {
            listener.targets.push(target);
        }
    }
    Ok(of)
}

fn port(row: &PgRow, column: &str) -> Result<u16> {
    let port: i32 = row.try_get(column)?;
    u16::try_from(port).map_err(|_| Error::internal("a port is out of range"))
}

/// Holds an account against other services being made, and says how many it has.
///
/// # Errors
///
/// The database away.
pub async fn count(db: &mut PgConnection, owner: AccountId) -> Result<i64> {
    sqlx::query(sql!("services/hold_account")).bind(owner.to_string()).execute(&mut *db).await?;
    Ok(sqlx::query_scalar(sql!("services/count")).bind(owner.to_string()).fetch_one(db).await?)
}

/// The range of one of an account's VPCs, which is held until the transaction ends.
///
/// # Errors
///
/// The database away.
pub async fn hold_vpc(db: &mut PgConnection, owner: AccountId, vpc: VpcId) -> Result<Option<Cidr>> {
    let row: Option<PgRow> = sqlx::query(sql!("services/hold_vpc"))
        .bind(owner.to_string())
        .bind(vpc.to_string())
        .fetch_optional(db)
        .await?;
    Ok(row.map(|row| parsed(&row, "cidr")).transpose()?)
}

/// What an account calls the zones.
///
/// # Errors
///
/// The database away.
pub async fn zone_names(
    db: &mut PgConnection,
    account: AccountId,
) -> Result<Vec<(ZoneId, ZoneName)>> {
    let rows: Vec<PgRow> =
        sqlx::query(sql!("services/zone_names")).bind(account.to_string()).fetch_all(db).await?;
    let read = |row: &PgRow| Ok((parsed(row, "zone_id")?, parsed(row, "zone_name")?));
    Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
}

/// Makes a service, without listeners yet.
///
/// # Errors
///
/// The database away.
pub async fn insert(db: &mut PgConnection, new: &ServiceRow) -> Result<()> {
    sqlx::query(sql!("services/insert"))
        .bind(new.id.to_string())
        .bind(new.owner.to_string())
        .bind(new.vpc.to_string())
        .bind(&new.name)
        .bind(new.acceptance_required)
        .bind(new.private_dns_name.as_ref().map(PrivateDnsName::as_str))
        .bind(new.proxy_protocol_v2)
        .bind(new.idle_timeout_seconds as i32)
        .bind(new.created_at)
        .execute(db)
        .await?;
    Ok(())
}

/// Writes what may change of a service that the transaction holds.
///
/// # Errors
///
/// The database away.
pub async fn update(db: &mut PgConnection, row: &ServiceRow) -> Result<()> {
    sqlx::query(sql!("services/update"))
        .bind(row.id.to_string())
        .bind(row.acceptance_required)
        .bind(row.private_dns_name.as_ref().map(PrivateDnsName::as_str))
        .bind(row.proxy_protocol_v2)
        .bind(row.idle_timeout_seconds as i32)
        .execute(db)
        .await?;
    Ok(())
}

/// Gives a service just these listeners and targets.
///
/// # Errors
///
/// The database away.
pub async fn set_listeners(
    db: &mut PgConnection,
    service: ServiceId,
    listeners: &[Listener],
) -> Result<()> {
    let ports: Vec<_> = listeners.iter().map(|listener| i32::from(listener.port)).collect();
    let targets = || {
        listeners.iter().flat_map(|one| one.targets.iter().map(move |target| (one.port, target)))
    };
    let of: Vec<_> = targets().map(|(port, _)| i32::from(port)).collect();
    let addresses: Vec<IpAddr> = targets().map(|(_, target)| target.address.into()).collect();
    let target_ports: Vec<_> = targets().map(|(_, target)| i32::from(target.port)).collect();
    let zones: Vec<_> = targets().map(|(_, target)| target.zone.to_string()).collect();
    sqlx::query(sql!("services/clear_listeners"))
        .bind(service.to_string())
        .execute(&mut *db)
        .await?;
    sqlx::query(sql!("services/insert_listeners"))
        .bind(service.to_string())
        .bind(&ports)
        .bind(&of)
        .bind(&addresses)
        .bind(&target_ports)
        .bind(&zones)
        .execute(db)
        .await?;
    Ok(())
}

/// Who is connected to services, for those who would change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The service.
    pub service: ServiceId,
    /// An endpoint to it, not deleted.
    pub endpoint: EndpointId,
    /// Where the endpoint is in its life.
    pub state: EndpointState,
    /// Its interfaces, and the zone of each.
    pub interfaces: Vec<(NetworkInterfaceId, ZoneId)>,
}

impl FromRow<'_, PgRow> for Connected {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let ids = parsed_all(row, "interface_ids")?;
        let zones: Vec<ZoneId> = parsed_all(row, "zone_ids")?;
        Ok(Self {
            service: parsed(row, "service_id")?,
            endpoint: parsed(row, "id")?,
            state: parsed(row, "state")?,
            interfaces: ids.into_iter().zip(zones).collect(),
        })
    }
}

/// The endpoints of services that are not deleted. The transaction holds the services, so that none
/// is added; their own changes go on.
///
/// # Errors
///
/// The database away.
pub async fn connected(db: &mut PgConnection, services: &[ServiceId]) -> Result<Vec<Connected>> {
    Ok(sqlx::query_as(sql!("services/connected")).bind(texts(services)).fetch_all(db).await?)
}

/// Marks services as deleted, and takes away their permissions and the notifications about them. The
/// rows stay while endpoints lead to them.
///
/// # Errors
///
/// The database away.
pub async fn delete(db: &mut PgConnection, ids: &[ServiceId], now: DateTime<Utc>) -> Result<()> {
    sqlx::query(sql!("services/delete")).bind(texts(ids)).bind(now).execute(db).await?;
    Ok(())
}

/// Forgets services that are deleted and that no endpoint leads to, at most `limit`; returns how many.
///
/// # Errors
///
/// The database away.
pub async fn forget(db: &mut PgConnection, limit: i64) -> Result<u64> {
    let done = sqlx::query(sql!("services/forget")).bind(limit).execute(db).await?;
    Ok(done.rows_affected())
}

/// A service as someone who may connect to it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedService {
    /// The service.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The provider.
    pub owner: AccountId,
    /// Whether the provider decides on requests.
    pub acceptance_required: bool,
    /// Its private name.
    pub private_dns_name: Option<PrivateDnsName>,
    /// The zones that it is offered in, in the order of the next.
    pub zones: Vec<ZoneId>,
    /// The same, as the caller's account names them.
    pub zone_names: Vec<ZoneName>,
    /// Its ports.
    pub ports: Vec<i32>,
}

impl FromRow<'_, PgRow> for OfferedService {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            owner: parsed(row, "owner_id")?,
            acceptance_required: row.try_get("acceptance_required")?,
            private_dns_name: parsed_or_none(row, "private_dns_name")?,
            zones: parsed_all(row, "zone_ids")?,
            zone_names: parsed_all(row, "zone_names")?,
            ports: row.try_get("ports")?,
        })
    }
}

/// A page of the services that a principal of an account may ask for, by name; only those of `names`
/// when it names any.
///
/// # Errors
///
/// The database away.
pub async fn offered(
    db: &mut PgConnection,
    account: AccountId,
    principal: &str,
    names: &[String],
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<OfferedService>> {
    Ok(sqlx::query_as(sql!("services/offered"))
        .bind(account.to_string())
        .bind(super::permissions::covering(account, principal))
        .bind(names)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Whether an address may be a target's: it lies in the provider's VPC and is nobody's in particular
/// but a host's.
pub fn can_be_target(vpc: Cidr, address: Ipv4Addr) -> bool {
    let net = vpc.net();
    vpc.contains(address) && address != net.network() && address != net.broadcast()
}
