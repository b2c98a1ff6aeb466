//! Accounts, their names for the zones, and their API keys.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::id::ApiKeyId;
use postern_model::zone::{ZoneId, ZoneName};
use postern_proto::page::Page;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::parsed;
use super::sql;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for AccountRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// What an account calls a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRow {
    /// The account's name for it.
    pub name: ZoneName,
    /// Its id, the same for everyone.
    pub id: ZoneId,
}

impl FromRow<'_, PgRow> for ZoneRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { name: parsed(row, "zone_name")?, id: parsed(row, "zone_id")? })
    }
}

/// What is kept of an API key, besides its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// The account that it acts for.
    pub account: AccountId,
    /// What it is for, in words for people.
    pub description: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for ApiKeyRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            account: parsed(row, "account_id")?,
            description: row.try_get("description")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Makes an account with its own names for the zones.
pub async fn insert(
    db: &mut PgConnection,
    id: AccountId,
    name: &str,
    zones: &[ZoneRow],
) -> sqlx::Result<AccountRow> {
    let names: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
    let ids: Vec<_> = zones.iter().map(|zone| zone.id.as_str()).collect();
    sqlx::query_as(sql!("accounts/insert"))
        .bind(id.to_string())
        .bind(name)
        .bind(&names)
        .bind(&ids)
        .fetch_one(db)
        .await
}

/// An account, if there is one.
pub async fn find(db: &mut PgConnection, id: AccountId) -> sqlx::Result<Option<AccountRow>> {
    sqlx::query_as(sql!("accounts/find")).bind(id.to_string()).fetch_optional(db).await
}

/// A page of accounts, and one row more when another follows.
pub async fn list(db: &mut PgConnection, page: &Page) -> sqlx::Result<Vec<AccountRow>> {
    sqlx::query_as(sql!("accounts/list"))
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Locks an account, so that what it has can be counted. It must be a statement of its own: the one
/// that counts sees only what was committed before it began.
pub async fn lock(db: &mut PgConnection, id: AccountId) -> sqlx::Result<()> {
    sqlx::query(sql!("accounts/lock")).bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// A page of an account's zones by name, and one row more when another follows.
pub async fn list_zones(
    db: &mut PgConnection,
    account: AccountId,
    page: &Page,
) -> sqlx::Result<Vec<ZoneRow>> {
    sqlx::query_as(sql!("accounts/list_zones"))
        .bind(account.to_string())
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Keeps an API key by the hash of its text.
pub async fn insert_api_key(
    db: &mut PgConnection,
    account: AccountId,
    id: ApiKeyId,
    description: &str,
    sha256: &[u8],
) -> sqlx::Result<ApiKeyRow> {
    sqlx::query_as(sql!("accounts/insert_api_key"))
        .bind(id.to_string())
        .bind(account.to_string())
        .bind(description)
        .bind(sha256)
        .fetch_one(db)
        .await
}

/// A page of an account's API keys, and one row more when another follows.
pub async fn list_api_keys(
    db: &mut PgConnection,
    account: AccountId,
    page: &Page,
) -> sqlx::Result<Vec<ApiKeyRow>> {
    sqlx::query_as(sql!("accounts/list_api_keys"))
        .bind(account.to_string())
        .bind(page.after.as_deref())
        .bind(page.limit())
        .fetch_all(db)
        .await
}

/// Deletes an API key; false when there is none of that id.
pub async fn delete_api_key(db: &mut PgConnection, id: ApiKeyId) -> sqlx::Result<bool> {
    let deleted =
        sqlx::query(sql!("accounts/delete_api_key")).bind(id.to_string()).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

/// The account whose key has this hash.
pub async fn owner_of_key(db: &mut PgConnection, sha256: &[u8]) -> sqlx::Result<Option<AccountId>> {
    let row: Option<PgRow> =
        sqlx::query(sql!("accounts/owner_of_key")).bind(sha256).fetch_optional(db).await?;
    row.map(|row| parsed(&row, "account_id")).transpose()
}
