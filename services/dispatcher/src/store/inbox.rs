//! The events that were taken from the bus.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// Notes events; answers those that had not been noted before.
pub async fn insert(
    db: &mut PgConnection,
    events: &[Uuid],
    now: DateTime<Utc>,
) -> sqlx::Result<HashSet<Uuid>> {
    let new: Vec<Uuid> = sqlx::query_scalar(include_str!("sql/inbox/insert.sql"))
        .bind(events)
        .bind(now)
        .fetch_all(db)
        .await?;
    Ok(new.into_iter().collect())
}

/// Forgets events that were noted before `before`.
pub async fn forget(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let forgotten =
        sqlx::query(include_str!("sql/inbox/forget.sql")).bind(before).execute(db).await?;
    Ok(forgotten.rows_affected())
}
