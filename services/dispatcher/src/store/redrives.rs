//! What was given up and goes to a queue, until the broker has it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// A message that nobody took, on its way to a queue.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RedriveRow {
    /// Its key.
    pub id: i64,
    /// The delivery that was given up.
    pub delivery_id: Uuid,
    /// Its message.
    pub message_id: Uuid,
    /// The topic.
    pub topic_arn: String,
    /// The subscription.
    pub subscription_id: Uuid,
    /// The queue.
    pub queue_arn: String,
    /// The text that was tried to be sent.
    pub body: String,
    /// How often.
    pub attempts: i32,
    /// The last status code; 0 when there was no answer.
    pub status: i32,
    /// The last fault.
    pub error: String,
    /// When it was given up.
    pub given_up_at: DateTime<Utc>,
}

/// Adds one; its key is given out here.
pub async fn insert(db: &mut PgConnection, row: &RedriveRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/redrives/insert.sql"))
        .bind(row.delivery_id)
        .bind(row.message_id)
        .bind(&row.topic_arn)
        .bind(row.subscription_id)
        .bind(&row.queue_arn)
        .bind(&row.body)
        .bind(row.attempts)
        .bind(row.status)
        .bind(&row.error)
        .bind(row.given_up_at)
        .execute(db)
        .await
        .map(drop)
}

/// The oldest, held until the transaction ends.
pub async fn waiting(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<RedriveRow>> {
    sqlx::query_as(include_str!("sql/redrives/waiting.sql")).bind(limit).fetch_all(db).await
}

/// Forgets those that the broker has.
pub async fn delete(db: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/redrives/delete.sql")).bind(ids).execute(db).await.map(drop)
}
