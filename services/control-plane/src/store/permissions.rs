//! Who may ask for a connection to a service (spec 1.10 and 6).

use postern_model::AccountId;
use postern_model::id::{ServiceId, ServicePermissionId};
use postern_model::principal::PrincipalPattern;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};

use super::columns::{parsed, texts};
use super::sql;
use crate::error::Result;

/// A principal that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The permission.
    pub id: ServicePermissionId,
    /// Who is meant.
    pub principal: PrincipalPattern,
}

impl FromRow<'_, PgRow> for Permission {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { id: parsed(row, "id")?, principal: parsed(row, "principal")? })
    }
}

/// The texts of all the permissions that would cover a principal of an account. Permissions are kept
/// in canonical form, so that the database compares texts (the twin of [`PrincipalPattern::covers`]).
pub fn covering(account: AccountId, principal: &str) -> Vec<String> {
    vec![PrincipalPattern::All.to_string(), account.root_arn(), principal.to_owned()]
}

/// Allows principals; those that were allowed already are left out of the answer.
///
/// # Errors
///
/// The database away.
pub async fn add(
    db: &mut PgConnection,
    service: ServiceId,
    permissions: &[Permission],
) -> Result<Vec<Permission>> {
    let ids: Vec<_> = permissions.iter().map(|permission| permission.id.to_string()).collect();
    let principals: Vec<_> =
        permissions.iter().map(|permission| permission.principal.to_string()).collect();
    Ok(sqlx::query_as(sql!("permissions/add"))
        .bind(service.to_string())
        .bind(&ids)
        .bind(&principals)
        .fetch_all(db)
        .await?)
}

/// Allows principals no longer; those that were not allowed don't matter.
///
/// # Errors
///
/// The database away.
pub async fn remove(
    db: &mut PgConnection,
    service: ServiceId,
    principals: &[PrincipalPattern],
) -> Result<()> {
    sqlx::query(sql!("permissions/remove"))
        .bind(service.to_string())
        .bind(texts(principals))
        .execute(db)
        .await?;
    Ok(())
}

/// How many principals a service allows.
///
/// # Errors
///
/// The database away.
pub async fn count(db: &mut PgConnection, service: ServiceId) -> Result<i64> {
    Ok(sqlx::query_scalar(sql!("permissions/count"))
        .bind(service.to_string())
        .fetch_one(db)
        .await?)
}

/// A page of a service's permissions, by id.
///
/// # Errors
///
/// The database away.
pub async fn list(
    db: &mut PgConnection,
    service: ServiceId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Permission>> {
    Ok(sqlx::query_as(sql!("permissions/list"))
        .bind(service.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}
