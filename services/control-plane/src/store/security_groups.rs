//! Security groups and their rules.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::id::{NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId, VpcId};
use postern_model::net::Cidr;
use postern_model::security::{IngressRule, Protocol};
use postern_proto::page::Page;
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::parsed;
use super::sql;

/// A security group with its ingress rules.
#[derive(Clone, Debug)]
pub struct GroupRow {
    /// Its id.
    pub id: SecurityGroupId,
    /// The VPC that it belongs to.
    pub vpc: VpcId,
    /// The account that owns it.
    pub owner: AccountId,
    /// Unique in the VPC, ignoring case.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its rules, by id.
    pub rules: Vec<RuleRow>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for GroupRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(rules) = row.try_get("rules")?;
        Ok(Self {
            id: parsed(row, "id")?,
            vpc: parsed(row, "vpc_id")?,
            owner: parsed(row, "owner_id")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            rules,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// An ingress rule: from a prefix, or from the members of a group.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleRow {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// The protocol that it lets in.
    pub protocol: Protocol,
    /// The first port; says nothing for a protocol without ports.
    pub from_port: u16,
    /// The last port; likewise.
    pub to_port: u16,
    /// The addresses that it lets in.
    pub source: Option<Cidr>,
    /// The group whose members it lets in.
    pub referenced_group_id: Option<SecurityGroupId>,
    /// Words for people.
    pub description: String,
}

/// A rule to be added.
#[derive(Clone, Debug)]
pub struct NewRule {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// What it lets in.
    pub rule: IngressRule,
    /// Words for people.
    pub description: String,
}

/// Locks the VPC that a group is to be made in, so that its groups can be counted; false when the
/// account has no such VPC.
pub async fn lock_vpc(db: &mut PgConnection, owner: AccountId, vpc: VpcId) -> sqlx::Result<bool> {
    let locked = sqlx::query(sql!("security_groups/lock_vpc"))
        .bind(owner.to_string())
        .bind(vpc.to_string())
        .fetch_optional(db)
        .await?;
    Ok(locked.is_some())
}

/// A group to be made.
#[derive(Clone, Debug)]
pub struct NewGroup<'a> {
    /// Its id.
    pub id: SecurityGroupId,
    /// The VPC that it is to belong to.
    pub vpc: VpcId,
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
}

/// Makes a group; `None` when the VPC has `max` already. The VPC is locked ([`lock_vpc`]). A taken name
/// violates `security_group_name_once`.
pub async fn insert(
    db: &mut PgConnection,
    owner: AccountId,
    new: NewGroup<'_>,
    max: u32,
) -> sqlx::Result<Option<GroupRow>> {
    sqlx::query_as(sql!("security_groups/insert"))
        .bind(new.id.to_string())
        .bind(new.vpc.to_string())
        .bind(owner.to_string())
        .bind(new.name)
        .bind(new.description)
        .bind(i64::from(max))
        .fetch_optional(db)
        .await
}

/// The group as its owner sees it: to any other account it does not exist.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    id: SecurityGroupId,
) -> sqlx::Result<Option<GroupRow>> {
    sqlx::query_as(sql!("security_groups/find"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// A page of an account's groups, of one VPC when given, and one row more when another follows.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    vpc: Option<VpcId>,
    page: &Page,
) -> sqlx::Result<Vec<GroupRow>> {
    sqlx::query_as(sql!("security_groups/list"))
        .bind(owner.to_string())
        .bind(vpc.map(|vpc| vpc.to_string()))
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Locks a group `FOR UPDATE`, and says whether it is its VPC's default one. `None` when the account has
/// none of that id.
pub async fn lock(
    db: &mut PgConnection,
    owner: AccountId,
    id: SecurityGroupId,
) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar(sql!("security_groups/lock"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// Adds rules to a group that is locked, all or none: false when it would have more than `max`. A rule
/// that is there already violates `security_group_rule_once`.
pub async fn insert_rules(
    db: &mut PgConnection,
    group: SecurityGroupId,
    rules: &[NewRule],
    max: u32,
) -> sqlx::Result<bool> {
    let ids: Vec<_> = rules.iter().map(|new| new.id.to_string()).collect();
    let protocols: Vec<_> = rules.iter().map(|new| new.rule.protocol.to_string()).collect();
    let first: Vec<_> = rules.iter().map(|new| i32::from(new.rule.ports.first())).collect();
    let last: Vec<_> = rules.iter().map(|new| i32::from(new.rule.ports.last())).collect();
    let sources: Vec<_> = rules.iter().map(|new| new.rule.source.to_string()).collect();
    let descriptions: Vec<_> = rules.iter().map(|new| new.description.as_str()).collect();
    let added = sqlx::query(sql!("security_groups/insert_rules"))
        .bind(group.to_string())
        .bind(&ids)
        .bind(&protocols)
        .bind(&first)
        .bind(&last)
        .bind(&sources)
        .bind(&descriptions)
        .bind(i64::from(max))
        .execute(db)
        .await?;
    Ok(added.rows_affected() > 0)
}

/// Removes rules from a group that is locked. Returns those that were there.
pub async fn delete_rules(
    db: &mut PgConnection,
    group: SecurityGroupId,
    rules: &[SecurityGroupRuleId],
) -> sqlx::Result<Vec<SecurityGroupRuleId>> {
    let ids: Vec<_> = rules.iter().map(ToString::to_string).collect();
    let rows: Vec<PgRow> = sqlx::query(sql!("security_groups/delete_rules"))
        .bind(group.to_string())
        .bind(&ids)
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// The interfaces on hosts that carry a group.
pub async fn interfaces(
    db: &mut PgConnection,
    group: SecurityGroupId,
) -> sqlx::Result<Vec<NetworkInterfaceId>> {
    let rows: Vec<PgRow> = sqlx::query(sql!("security_groups/interfaces"))
        .bind(group.to_string())
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

/// What keeps a group from being deleted, in words.
pub async fn dependents(
    db: &mut PgConnection,
    group: SecurityGroupId,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(sql!("security_groups/dependents"))
        .bind(group.to_string())
        .fetch_all(db)
        .await
}

/// Deletes a group that is locked and that nobody uses.
pub async fn delete(db: &mut PgConnection, group: SecurityGroupId) -> sqlx::Result<()> {
    sqlx::query(sql!("security_groups/delete")).bind(group.to_string()).execute(db).await?;
    Ok(())
}
