//! VPCs.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::id::{
    AttachmentId, EndpointId, HostId, SecurityGroupId, SecurityGroupRuleId, VpcId,
};
use postern_model::net::Cidr;
use postern_proto::page::Page;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::parsed;
use super::sql;

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcRow {
    /// Its id.
    pub id: VpcId,
    /// The account that owns it.
    pub owner: AccountId,
    /// Its name for people.
    pub name: String,
    /// Its range.
    pub cidr: Cidr,
    /// Whether its resolver answers private names.
    pub dns_support: bool,
    /// Whether private names may be used at all.
    pub dns_hostnames: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl VpcRow {
    /// Whether private names resolve: it takes both attributes (spec 3.4).
    pub fn resolves_private_names(&self) -> bool {
        self.dns_support && self.dns_hostnames
    }
}

impl FromRow<'_, PgRow> for VpcRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            owner: parsed(row, "owner_id")?,
            name: row.try_get("name")?,
            cidr: parsed(row, "cidr")?,
            dns_support: row.try_get("enable_dns_support")?,
            dns_hostnames: row.try_get("enable_dns_hostnames")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A VPC to be made, with its default group and that group's rule.
#[derive(Clone, Debug)]
pub struct NewVpc<'a> {
    /// The VPC's id.
    pub id: VpcId,
    /// Its name for people.
    pub name: &'a str,
    /// Its range.
    pub cidr: Cidr,
    /// Whether private names may be used at all.
    pub dns_hostnames: bool,
    /// The id of its default group.
    pub default_group: SecurityGroupId,
    /// The id of that group's rule.
    pub default_rule: SecurityGroupRuleId,
}

/// Makes a VPC with its default group; `None` when the account has `max` already. The account is
/// locked ([`super::accounts::lock`]).
pub async fn insert(
    db: &mut PgConnection,
    owner: AccountId,
    new: NewVpc<'_>,
    max: u32,
) -> sqlx::Result<Option<VpcRow>> {
    sqlx::query_as(sql!("vpcs/insert"))
        .bind(new.id.to_string())
        .bind(owner.to_string())
        .bind(new.name)
        .bind(new.cidr.to_string())
        .bind(new.dns_hostnames)
        .bind(new.default_group.to_string())
        .bind(new.default_rule.to_string())
        .bind(i64::from(max))
        .fetch_optional(db)
        .await
}

/// The VPC as its owner sees it: to any other account it does not exist.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    id: VpcId,
) -> sqlx::Result<Option<VpcRow>> {
    sqlx::query_as(sql!("vpcs/find"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// A page of an account's VPCs, and one row more when another follows.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    page: &Page,
) -> sqlx::Result<Vec<VpcRow>> {
    sqlx::query_as(sql!("vpcs/list"))
        .bind(owner.to_string())
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// As [`find`], holding the row `FOR UPDATE`.
pub async fn lock(
    db: &mut PgConnection,
    owner: AccountId,
    id: VpcId,
) -> sqlx::Result<Option<VpcRow>> {
    sqlx::query_as(sql!("vpcs/lock"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// A VPC of whichever account, held `FOR UPDATE`. For the operator alone.
pub async fn lock_any(db: &mut PgConnection, id: VpcId) -> sqlx::Result<Option<VpcRow>> {
    sqlx::query_as(sql!("vpcs/lock_any")).bind(id.to_string()).fetch_optional(db).await
}

/// Sets the DNS attributes of a VPC that is locked.
pub async fn update(
    db: &mut PgConnection,
    id: VpcId,
    dns_support: bool,
    dns_hostnames: bool,
) -> sqlx::Result<()> {
    sqlx::query(sql!("vpcs/update"))
        .bind(id.to_string())
        .bind(dns_support)
        .bind(dns_hostnames)
        .execute(db)
        .await?;
    Ok(())
}

/// The attachments of a VPC, each with its host.
pub async fn attachments(
    db: &mut PgConnection,
    id: VpcId,
) -> sqlx::Result<Vec<(HostId, AttachmentId)>> {
    let rows: Vec<PgRow> =
        sqlx::query(sql!("vpcs/attachments")).bind(id.to_string()).fetch_all(db).await?;
    rows.iter().map(|row| Ok((parsed(row, "host_id")?, parsed(row, "id")?))).collect()
}

/// The endpoints of a VPC that have private names.
pub async fn private_endpoints(db: &mut PgConnection, id: VpcId) -> sqlx::Result<Vec<EndpointId>> {
    let rows: Vec<PgRow> =
        sqlx::query(sql!("vpcs/private_endpoints")).bind(id.to_string()).fetch_all(db).await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// What keeps a VPC from being deleted, in words.
pub async fn dependents(db: &mut PgConnection, id: VpcId) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(sql!("vpcs/dependents")).bind(id.to_string()).fetch_all(db).await
}

/// Deletes a VPC that is locked and that nothing is left in.
pub async fn delete(db: &mut PgConnection, id: VpcId) -> sqlx::Result<()> {
    sqlx::query(sql!("vpcs/delete")).bind(id.to_string()).execute(db).await?;
    Ok(())
}
