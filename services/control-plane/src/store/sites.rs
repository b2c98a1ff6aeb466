//! The ground that an endpoint stands on: its VPC, service, subnets and groups, held and read before
//! an endpoint is made or changed.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::dns::PrivateDnsName;
use postern_model::id::{EndpointId, HostId, SecurityGroupId, ServiceId, SubnetId, VpcId};
use postern_model::net::Cidr;
use postern_model::zone::{ZoneId, ZoneName};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_all, parsed_or_none, texts};
use super::notifications::Matching;
use super::sql;
use crate::error::Result;

/// A subnet of the consumer's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Subnet {
    /// The subnet.
    pub id: SubnetId,
    /// The VPC that it lies in.
    pub vpc: VpcId,
    /// Its range.
    pub cidr: Cidr,
    /// Its zone.
    pub zone: ZoneId,
    /// The zone as the consumer's account names it.
    pub zone_name: ZoneName,
    /// Whether no address of it is free.
    pub full: bool,
}

impl Subnet {
    /// The first and the last address that an interface may have.
    pub fn usable(&self) -> (IpAddr, IpAddr) {
        (self.cidr.first_usable().into(), self.cidr.last_usable().into())
    }
}

/// A service that the consumer may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: String,
    /// The provider.
    pub owner: AccountId,
    /// The provider's VPC.
    pub vpc: VpcId,
    /// Whether the provider decides on requests.
    pub acceptance_required: bool,
    /// Its private name.
    pub private_dns_name: Option<PrivateDnsName>,
    /// The zones that it is offered in.
    pub zones: Vec<ZoneId>,
}

/// The VPC's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// Whether it has a resolver.
    pub dns_support: bool,
    /// Whether private names may be used in it.
    pub dns_hostnames: bool,
    /// How many endpoints are in it: all but deleted ones (spec 9).
    pub endpoints: i64,
}

impl Vpc {
    /// Whether private names work in it: both attributes are needed (spec 3.4).
    pub fn private_names(self) -> bool {
        self.dns_support && self.dns_hostnames
    }
}

/// What an endpoint is to stand on: what [`hold`] holds.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The consumer.
    pub owner: AccountId,
    /// The consumer's VPC.
    pub vpc: VpcId,
    /// The service, when its name can be one of ours.
    pub service: Option<ServiceId>,
}

/// What is wanted of the ground.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Who wants it.
    pub owner: AccountId,
    /// The principal's ARN.
    pub principal: &'a str,
    /// The VPC.
    pub vpc: VpcId,
    /// The service, when its name can be one of ours.
    pub service: Option<ServiceId>,
    /// The endpoint that is there already.
    pub endpoint: Option<EndpointId>,
    /// Subnets to stand in.
    pub subnets: &'a [SubnetId],
    /// Groups to carry; the VPC's default group when empty.
    pub groups: &'a [SecurityGroupId],
    /// Addresses released since then are not free.
    pub rested: DateTime<Utc>,
}

/// What was found. What is not there, or somebody else's, is missing from it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The VPC.
    pub vpc: Option<Vpc>,
    /// The service, if it lives and the consumer may ask for it, or has an endpoint to it.
    pub offer: Option<Offer>,
    /// Those of the wanted subnets that there are.
    pub subnets: Vec<Subnet>,
    /// Those of the wanted groups that there are in the VPC.
    pub groups: Vec<SecurityGroupId>,
    /// The hosts that reach the VPC.
    pub hosts: Vec<HostId>,
    /// Another endpoint of the VPC that has the service's private name.
    pub claimed_by: Option<EndpointId>,
    /// The notifications about the service that ask for `Connect` or `Accept`.
    pub notifications: Vec<Matching>,
}

impl FromRow<'_, PgRow> for Survey {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let dns_support: Option<bool> = row.try_get("enable_dns_support")?;
        let vpc = match dns_support {
            None => None,
            Some(dns_support) => Some(Vpc {
                dns_support,
                dns_hostnames: row.try_get("enable_dns_hostnames")?,
                endpoints: row.try_get("endpoints")?,
            }),
        };
        let offer = match parsed_or_none(row, "service_id")? {
            None => None,
            Some(service) => Some(Offer {
                service,
                name: row.try_get("service_name")?,
                owner: parsed(row, "service_owner_id")?,
                vpc: parsed(row, "service_vpc_id")?,
                acceptance_required: row.try_get("acceptance_required")?,
                private_dns_name: parsed_or_none(row, "private_dns_name")?,
                zones: parsed_all(row, "zones")?,
            }),
        };
        let Json(subnets) = row.try_get("subnets")?;
        let Json(notifications) = row.try_get("notifications")?;
        Ok(Self {
            vpc,
            offer,
            subnets,
            groups: parsed_all(row, "groups")?,
            hosts: parsed_all(row, "hosts")?,
            claimed_by: parsed_or_none(row, "claimed_by")?,
            notifications,
        })
    }
}

/// Holds the service against changes, then the consumer's VPC against changes and other endpoints,
/// then the provider's VPC: until the transaction ends, no zone is taken from the service, no
/// address and no place among the VPC's endpoints is taken by another, and no attachment comes or
/// goes. What is held is read by later statements only.
///
/// # Errors
///
/// The database away.
pub async fn hold(
    db: &mut PgConnection,
    owner: AccountId,
    vpc: VpcId,
    service: Option<ServiceId>,
) -> Result<()> {
    sqlx::query(sql!("sites/hold"))
        .bind(service.map(|service| service.to_string()))
        .bind(vpc.to_string())
        .bind(owner.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// Reads what is wanted, in one statement.
///
/// # Errors
///
/// The database away.
pub async fn survey(db: &mut PgConnection, wanted: Wanted<'_>) -> Result<Survey> {
    Ok(sqlx::query_as(sql!("sites/survey"))
        .bind(wanted.owner.to_string())
        .bind(wanted.vpc.to_string())
        .bind(wanted.service.map(|service| service.to_string()))
        .bind(super::permissions::covering(wanted.owner, wanted.principal))
        .bind(wanted.endpoint.map(|endpoint| endpoint.to_string()))
        .bind(texts(wanted.subnets))
        .bind(texts(wanted.groups))
        .bind(wanted.rested)
        .fetch_one(db)
        .await?)
}

/// The moment that lies `by` before `now`.
pub fn before(now: DateTime<Utc>, by: std::time::Duration) -> DateTime<Utc> {
    chrono::Duration::from_std(by)
        .ok()
        .and_then(|by| now.checked_sub_signed(by))
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}
