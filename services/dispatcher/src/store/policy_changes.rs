//! Topics whose policies changed, until the control plane has heard of it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A topic whose policy changed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PolicyChangeRow {
    /// The topic's ARN.
    pub topic_arn: String,
    /// The last of its changes.
    pub last_id: i64,
}

/// Notes that a topic's policy changed.
pub async fn insert(
    db: &mut PgConnection,
    topic_arn: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/policy_changes/insert.sql"))
        .bind(topic_arn)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Topics whose changes were not reported.
pub async fn unreported(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<PolicyChangeRow>> {
    sqlx::query_as(include_str!("sql/policy_changes/unreported.sql"))
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Forgets the changes of a topic up to this one.
pub async fn reported(db: &mut PgConnection, change: &PolicyChangeRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/policy_changes/reported.sql"))
        .bind(&change.topic_arn)
        .bind(change.last_id)
        .execute(db)
        .await
        .map(drop)
}
