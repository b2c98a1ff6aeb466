//! Messages that wait to be sent together in one mail.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

/// A message in a digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct DigestItem {
    /// The message.
    pub message_id: Uuid,
    /// Its subject.
    pub subject: Option<String>,
    /// Its text, or the beginning of it.
    pub body: String,
    /// Whether that is only the beginning.
    pub cut: bool,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}

/// A subscription whose digest is due.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DueRow {
    /// The subscription.
    pub id: Uuid,
    /// Its topic.
    pub topic_id: Uuid,
    /// Whom the load falls on.
    pub target: String,
    /// Whether it is confirmed and enabled.
    pub wanted: bool,
}

/// The subscriptions whose digests are due: their windows are over, or they have `full` messages. They
/// are held until the transaction ends.
pub async fn due(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    full: i64,
    limit: i64,
) -> sqlx::Result<Vec<DueRow>> {
    sqlx::query_as(include_str!("sql/digests/due.sql"))
        .bind(now)
        .bind(full)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Takes the oldest messages of a subscription, `length` characters of each at most.
pub async fn take(
    db: &mut PgConnection,
    subscription: Uuid,
    limit: i64,
    length: i32,
) -> sqlx::Result<Vec<DigestItem>> {
    sqlx::query_as(include_str!("sql/digests/take.sql"))
        .bind(subscription)
        .bind(limit)
        .bind(length)
        .fetch_all(db)
        .await
}

/// Forgets what was collected for a subscription.
pub async fn discard(db: &mut PgConnection, subscription: Uuid) -> sqlx::Result<u64> {
    let discarded =
        sqlx::query(include_str!("sql/digests/discard.sql")).bind(subscription).execute(db).await?;
    Ok(discarded.rows_affected())
}
