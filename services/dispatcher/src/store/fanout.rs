//! From messages to all who want them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::messages::NewMessage;

/// A filter of a topic's subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct FilterRow {
    /// The topic.
    pub topic_id: Uuid,
    /// The hash of the filter's scope and document.
    pub filter_sha256: Vec<u8>,
}

/// The document of a filter.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DocumentRow {
    /// The hash of scope and document.
    pub filter_sha256: Vec<u8>,
    /// `MessageAttributes` or `MessageBody`.
    pub filter_scope: String,
    /// The document.
    pub filter_policy: String,
}

/// Which messages are refused by which filters, side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The messages.
    pub messages: Vec<Uuid>,
    /// The filters' hashes.
    pub filters: Vec<Vec<u8>>,
}

/// The filters of the topics' subscriptions, each once for a topic.
pub async fn filters(db: &mut PgConnection, topics: &[Uuid]) -> sqlx::Result<Vec<FilterRow>> {
    sqlx::query_as(include_str!("sql/fanout/filters.sql")).bind(topics).fetch_all(db).await
}

/// The documents of the filters with these hashes.
pub async fn documents(
    db: &mut PgConnection,
    topics: &[Uuid],
    hashes: &[Vec<u8>],
) -> sqlx::Result<Vec<DocumentRow>> {
    sqlx::query_as(include_str!("sql/fanout/documents.sql"))
        .bind(topics)
        .bind(hashes)
        .fetch_all(db)
        .await
}

/// Makes deliveries of messages that were published at one time for every subscription that wants
/// them, or puts them into the subscription's next digest; says how many deliveries.
pub async fn insert(
    db: &mut PgConnection,
    all: &[NewMessage],
    refused: &Refused,
    published_at: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let inserted = sqlx::query(include_str!("sql/fanout/insert.sql"))
        .bind(all.iter().map(|one| one.id).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.topic_id).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.ordering_key.as_deref()).collect::<Vec<_>>())
        .bind(published_at)
        .bind(&refused.messages)
        .bind(&refused.filters)
        .execute(db)
        .await?;
    Ok(inserted.rows_affected())
}

/// Makes a delivery of the message to one subscription.
pub async fn insert_one(
    db: &mut PgConnection,
    message: &NewMessage,
    subscription: Uuid,
    target: &str,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/fanout/insert_one.sql"))
        .bind(message.id)
        .bind(message.topic_id)
        .bind(subscription)
        .bind(target)
        .bind(message.published_at)
        .execute(db)
        .await
        .map(drop)
}
