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
#[derive(Clone, Debug)]
pub struct NewOutcome {
    /// The event.
    pub event_id: Uuid,
    /// The notification.
    pub notification_id: String,
    /// The topic.
    pub topic_arn: String,
    /// Whether the topic let it in.
    pub allowed: bool,
    /// Why not; empty when it did.
    pub reason: String,
}

/// Notes outcomes.
pub async fn insert(
    db: &mut PgConnection,
    all: &[NewOutcome],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let texts = |of: fn(&NewOutcome) -> &str| all.iter().map(of).collect::<Vec<_>>();
    sqlx::query(include_str!("sql/outcomes/insert.sql"))
        .bind(all.iter().map(|one| one.event_id).collect::<Vec<_>>())
        .bind(texts(|one| &one.notification_id))
        .bind(texts(|one| &one.topic_arn))
        .bind(all.iter().map(|one| one.allowed).collect::<Vec<_>>())
        .bind(texts(|one| &one.reason))
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// The oldest outcomes that were not reported.
pub async fn unreported(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<OutcomeRow>> {
    sqlx::query_as(include_str!("sql/outcomes/unreported.sql")).bind(limit).fetch_all(db).await
}

/// Notes that outcomes were reported.
pub async fn reported(db: &mut PgConnection, ids: &[i64], now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/outcomes/reported.sql"))
        .bind(ids)
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
