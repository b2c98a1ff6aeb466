//! What topics said to notifications.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// An outcome that the control plane has not heard of.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct OutcomeRow {
    /// Its key; reports are made in this order.
    pub id: i64,
    /// The event.
    pub event_id: Uuid,
    /// The notification.
    pub notification_id: String,
    /// Whether the topic let it in.
    pub allowed: bool,
    /// Why not.
    pub reason: String,
}

/// A new outcome.
#[derive(Clone, Copy, Debug)]
pub struct NewOutcome<'a> {
    /// The event.
    pub event_id: Uuid,
    /// The notification.
    pub notification_id: &'a str,
    /// The topic.
    pub topic_arn: &'a str,
    /// Whether the topic let it in.
    pub allowed: bool,
    /// Why not; empty when it did.
    pub reason: &'a str,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Notes an outcome.
pub async fn insert(db: &mut PgConnection, outcome: NewOutcome<'_>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/outcomes/insert.sql"))
        .bind(outcome.event_id)
        .bind(outcome.notification_id)
        .bind(outcome.topic_arn)
        .bind(outcome.allowed)
        .bind(outcome.reason)
        .bind(outcome.created_at)
        .execute(db)
        .await
        .map(drop)
}

/// The oldest outcomes that were not reported.
pub async fn unreported(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<OutcomeRow>> {
    sqlx::query_as(include_str!("sql/outcomes/unreported.sql")).bind(limit).fetch_all(db).await
}

/// Notes that an outcome was reported.
pub async fn reported(db: &mut PgConnection, id: i64, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/outcomes/reported.sql"))
        .bind(id)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Forgets reported outcomes from before `before`.
pub async fn forget(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let forgotten =
        sqlx::query(include_str!("sql/outcomes/forget.sql")).bind(before).execute(db).await?;
    Ok(forgotten.rows_affected())
}
