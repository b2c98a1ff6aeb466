//! The events that were taken from the bus.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Notes an event; false when it was noted before.
pub async fn insert(db: &mut PgConnection, event: Uuid, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let inserted =
        sqlx::query(include_str!("sql/inbox/insert.sql")).bind(event).bind(now).execute(db).await?;
    Ok(inserted.rows_affected() == 1)
}

/// Forgets events that were noted before `before`.
pub async fn forget(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let forgotten =
        sqlx::query(include_str!("sql/inbox/forget.sql")).bind(before).execute(db).await?;
    Ok(forgotten.rows_affected())
}
