//! Client tokens: what a request with one made (spec 0.3), so that a repeat makes nothing again.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use super::sites::Ground;
use super::sql;
use crate::error::Result;

/// What tells a repeat of a request from another request with the same token: SHA-256 over its
/// fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these fields, in this order; a field's values are taken as a set.
    pub fn of(fields: &[&[String]]) -> Self {
        let mut hash = Sha256::new();
        for field in fields {
            let mut values: Vec<_> = field.iter().collect();
            values.sort();
            values.dedup();
            hash.update((values.len() as u64).to_be_bytes());
            for value in values {
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
            }
        }
        Self(hash.finalize().into())
    }
}

/// Whose token it is, for what.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The account that asks.
    pub account: AccountId,
    /// What it asks for: the name of the method.
    pub action: &'a str,
    /// The token.
    pub token: &'a str,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: the request is the first one with it.
    First,
    /// The same request came before, and made this.
    Repeat(String),
    /// Another request came with it.
    Mismatch,
}

/// Looks a token up that is not older than `since`, and changes nothing.
///
/// # Errors
///
/// The database away.
pub async fn find(
    db: &mut PgConnection,
    scope: Scope<'_>,
    fingerprint: Fingerprint,
    since: DateTime<Utc>,
) -> Result<Claim> {
    let found: Option<(Vec<u8>, String)> = sqlx::query_as(sql!("client_tokens/find"))
        .bind(scope.account.to_string())
        .bind(scope.action)
        .bind(scope.token)
        .bind(since)
        .fetch_optional(db)
        .await?;
    Ok(match found {
        None => Claim::First,
        Some((held, resource)) if held == fingerprint.0 => Claim::Repeat(resource),
        Some(_) => Claim::Mismatch,
    })
}

/// Takes a token for `resource`, which the transaction is about to make. A token that is older than
/// `since` is forgotten. Of two requests at once, the second waits here for the first.
///
/// # Errors
///
/// The database away.
pub async fn claim(
    db: &mut PgConnection,
    scope: Scope<'_>,
    fingerprint: Fingerprint,
    resource: &str,
    now: DateTime<Utc>,
    since: DateTime<Utc>,
) -> Result<Claim> {
    let taken = sqlx::query(sql!("client_tokens/claim"))
        .bind(scope.account.to_string())
        .bind(scope.action)
        .bind(scope.token)
        .bind(&fingerprint.0[..])
        .bind(resource)
        .bind(now)
        .bind(since)
        .execute(&mut *db)
        .await?;
    if taken.rows_affected() == 1 {
        return Ok(Claim::First);
    }
    // A statement of its own, since only that sees what the other request committed meanwhile.
    find(db, scope, fingerprint, since).await
}

/// What a token is taken with.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// Tells a repeat from another request.
    pub fingerprint: Fingerprint,
    /// What the transaction is about to make.
    pub resource: &'a str,
    /// When.
    pub now: DateTime<Utc>,
    /// A token that is older is forgotten.
    pub since: DateTime<Utc>,
}

/// As [`claim`], and then [`super::sites::hold`], in one round trip.
///
/// # Errors
///
/// The database away.
pub async fn claim_and_hold(
    db: &mut PgConnection,
    scope: Scope<'_>,
    taking: Taking<'_>,
    ground: Ground,
) -> Result<Claim> {
    let taken: bool = sqlx::query_scalar(sql!("client_tokens/claim_and_hold"))
        .bind(scope.account.to_string())
        .bind(scope.action)
        .bind(scope.token)
        .bind(&taking.fingerprint.0[..])
        .bind(taking.resource)
        .bind(taking.now)
        .bind(taking.since)
        .bind(ground.service.map(|service| service.to_string()))
        .bind(ground.vpc.to_string())
        .fetch_one(&mut *db)
        .await?;
    if taken {
        return Ok(Claim::First);
    }
    // A statement of its own, as in `claim`.
    find(db, scope, taking.fingerprint, taking.since).await
}

/// Forgets tokens that are older than `since`, at most `limit`; returns how many.
///
/// # Errors
///
/// The database away.
pub async fn forget(db: &mut PgConnection, since: DateTime<Utc>, limit: i64) -> Result<u64> {
    let done =
        sqlx::query(sql!("client_tokens/forget")).bind(since).bind(limit).execute(db).await?;
    Ok(done.rows_affected())
}
