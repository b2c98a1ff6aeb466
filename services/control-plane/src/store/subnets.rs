//! Subnets.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::id::{SubnetId, VpcId};
use postern_model::net::Cidr;
use postern_model::zone::{ZoneId, ZoneName};
use postern_proto::page::Page;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_or_none};
use super::sql;

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetRow {
    /// Its id.
    pub id: SubnetId,
    /// The VPC that it lies in.
    pub vpc: VpcId,
    /// The account that owns it.
    pub owner: AccountId,
    /// Its range.
    pub cidr: Cidr,
    /// The zone that it stands in.
    pub zone: ZoneId,
    /// The owner's name for the zone.
    pub zone_name: ZoneName,
    /// How many of its addresses interfaces have.
    pub taken: u32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl SubnetRow {
    /// How many addresses are left to give out (spec 4.1).
    pub fn available(&self) -> u32 {
        self.cidr.usable().saturating_sub(self.taken)
    }
}

impl FromRow<'_, PgRow> for SubnetRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let taken: i64 = row.try_get("taken")?;
        Ok(Self {
            id: parsed(row, "id")?,
            vpc: parsed(row, "vpc_id")?,
            owner: parsed(row, "owner_id")?,
            cidr: parsed(row, "cidr")?,
            zone: parsed(row, "zone_id")?,
            zone_name: parsed(row, "zone_name")?,
            taken: u32::try_from(taken).unwrap_or(u32::MAX),
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Where a subnet is to be made.
#[derive(Clone, Debug)]
pub struct Place {
    /// The VPC's range.
    pub vpc_cidr: Cidr,
    /// The zone; `None` when the account knows none of that name or id.
    pub zone: Option<ZoneId>,
}

impl FromRow<'_, PgRow> for Place {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { vpc_cidr: parsed(row, "cidr")?, zone: parsed_or_none(row, "zone_id")? })
    }
}

/// Locks the VPC that a subnet is to be made in, so that its subnets can be counted, and finds the zone
/// by the account's name for it or by its id. `None` when the account has no such VPC.
pub async fn prepare(
    db: &mut PgConnection,
    owner: AccountId,
    vpc: VpcId,
    zone: &str,
) -> sqlx::Result<Option<Place>> {
    sqlx::query_as(sql!("subnets/prepare"))
        .bind(owner.to_string())
        .bind(vpc.to_string())
        .bind(zone)
        .fetch_optional(db)
        .await
}

/// A subnet to be made.
#[derive(Clone, Debug)]
pub struct NewSubnet<'a> {
    /// Its id.
    pub id: SubnetId,
    /// The VPC that it is to lie in.
    pub vpc: VpcId,
    /// Its range.
    pub cidr: Cidr,
    /// The zone that it stands in.
    pub zone: &'a ZoneId,
}

/// Makes a subnet; `None` when the VPC has `max` already. The VPC is locked ([`prepare`]).
pub async fn insert(
    db: &mut PgConnection,
    owner: AccountId,
    new: NewSubnet<'_>,
    max: u32,
) -> sqlx::Result<Option<SubnetRow>> {
    sqlx::query_as(sql!("subnets/insert"))
        .bind(new.id.to_string())
        .bind(new.vpc.to_string())
        .bind(owner.to_string())
        .bind(new.cidr.to_string())
        .bind(new.zone.as_str())
        .bind(i64::from(max))
        .fetch_optional(db)
        .await
}

/// The subnet as its owner sees it: to any other account it does not exist.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    id: SubnetId,
) -> sqlx::Result<Option<SubnetRow>> {
    sqlx::query_as(sql!("subnets/find"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// A page of an account's subnets, of one VPC when given, and one row more when another follows.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    vpc: Option<VpcId>,
    page: &Page,
) -> sqlx::Result<Vec<SubnetRow>> {
    sqlx::query_as(sql!("subnets/list"))
        .bind(owner.to_string())
        .bind(vpc.map(|vpc| vpc.to_string()))
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Deletes a subnet; false when the account has none of that id. An interface in it violates
/// `network_interface_subnet_id_fkey`.
pub async fn delete(db: &mut PgConnection, owner: AccountId, id: SubnetId) -> sqlx::Result<bool> {
    let deleted = sqlx::query(sql!("subnets/delete"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .execute(db)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
