//! Endpoints as they are shown.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::dns::{Label, PrivateDnsName};
use postern_model::endpoint::EndpointState;
use postern_model::id::{
    ConnectionId, EndpointId, NetworkInterfaceId, SecurityGroupId, ServiceId, SubnetId, VpcId,
};
use postern_model::zone::{ZoneId, ZoneName};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use crate::error::Result;
use crate::store::columns::{parsed, parsed_all, parsed_each, parsed_or_none, texts};
use crate::store::sql;

/// An endpoint with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
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
    /// The service's name.
    pub service_name: String,
    /// Where it is in its life.
    pub state: EndpointState,
    /// What its names have to themselves.
    pub label: Label,
    /// The private name that leads to it; none while private DNS is off.
    pub private_dns_name: Option<PrivateDnsName>,
    /// Why it is where it is; empty when all is well.
    pub failure_reason: String,
    /// Counts its changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The groups that it carries, by id.
    pub groups: Vec<SecurityGroupId>,
    /// Its interfaces, by zone.
    pub interfaces: Vec<InterfaceOf>,
}

/// An interface of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceOf {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its zone.
    pub zone: ZoneId,
    /// The zone as the consumer's account names it.
    pub zone_name: ZoneName,
}

impl FromRow<'_, PgRow> for Endpoint {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        // By zone, in four columns of the same length.
        let subnets = parsed_each(row, "subnet_ids")?;
        let zones = parsed_each(row, "zone_ids")?;
        let zone_names = parsed_each(row, "zone_names")?;
        let interfaces = parsed_each(row, "interface_ids")?
            .into_iter()
            .zip(subnets)
            .zip(zones.into_iter().zip(zone_names))
            .map(|((id, subnet), (zone, zone_name))| InterfaceOf { id, subnet, zone, zone_name })
            .collect();
        Ok(Self {
            id: parsed(row, "id")?,
            connection: parsed(row, "connection_id")?,
            owner: parsed(row, "owner_id")?,
            vpc: parsed(row, "vpc_id")?,
            service: parsed(row, "service_id")?,
            service_name: row.try_get("service_name")?,
            state: parsed(row, "state")?,
            label: parsed(row, "label")?,
            private_dns_name: parsed_or_none(row, "private_dns_name")?,
            failure_reason: row.try_get("failure_reason")?,
            revision: row.try_get("revision")?,
            created_at: row.try_get("created_at")?,
            groups: parsed_all(row, "group_ids")?,
            interfaces,
        })
    }
}

/// Which endpoints a list has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Only those of this VPC. The provider's view knows no VPCs.
    pub vpc: Option<VpcId>,
    /// Only those of this service. For the provider's view.
    pub service: Option<ServiceId>,
    /// Only those in this state.
    pub state: Option<EndpointState>,
}

/// Those of an account's endpoints that `ids` names, by id.
///
/// # Errors
///
/// The database away.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    ids: &[EndpointId],
) -> Result<Vec<Endpoint>> {
    Ok(sqlx::query_as(sql!("endpoints/find"))
        .bind(owner.to_string())
        .bind(texts(ids))
        .fetch_all(db)
        .await?)
}

/// A page of an account's endpoints, by id.
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
) -> Result<Vec<Endpoint>> {
    Ok(sqlx::query_as(sql!("endpoints/list"))
        .bind(owner.to_string())
        .bind(filter.vpc.map(|vpc| vpc.to_string()))
        .bind(filter.state.map(EndpointState::as_str))
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// A page of the endpoints connected to an account's services, by id.
///
/// # Errors
///
/// The database away.
pub async fn connections(
    db: &mut PgConnection,
    provider: AccountId,
    filter: Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Endpoint>> {
    Ok(sqlx::query_as(sql!("endpoints/connections"))
        .bind(provider.to_string())
        .bind(filter.service.map(|service| service.to_string()))
        .bind(filter.state.map(EndpointState::as_str))
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// The revisions of an account's endpoints; only of those that `ids` names, when it names any.
///
/// # Errors
///
/// The database away.
pub async fn revisions(
    db: &mut PgConnection,
    owner: AccountId,
    ids: &[EndpointId],
) -> Result<Vec<(EndpointId, i64)>> {
    let rows: Vec<PgRow> = sqlx::query(sql!("endpoints/revisions"))
        .bind(owner.to_string())
        .bind(texts(ids))
        .fetch_all(db)
        .await?;
    let read = |row: &PgRow| Ok((parsed(row, "id")?, row.try_get("revision")?));
    Ok(rows.iter().map(read).collect::<sqlx::Result<_>>()?)
}
