//! Topics.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::arn::TopicArn;
use sqlx::PgConnection;
use uuid::Uuid;

/// A topic as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TopicRow {
    /// Its key; a topic that was deleted and made again has another.
    pub id: Uuid,
    /// Whose it is.
    pub owner_id: String,
    /// Where it is.
    pub region: String,
    /// What it is called.
    pub name: String,
    /// The sender's name in mails.
    pub display_name: String,
    /// The policy document, which was parsed when it was set.
    pub policy: String,
    /// 1: SHA-1, 2: SHA-256.
    pub signature_version: i16,
    /// The delivery policy's document, when one is set.
    pub delivery_policy: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The ARN of the topic that gets notices about this one.
    pub notice_topic_arn: Option<String>,
}

impl TopicRow {
    /// The topic's ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:sns:{}:{}:{}", self.region, self.owner_id, self.name)
    }
}

/// How many subscriptions a topic has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Counts {
    /// The topic.
    pub topic_id: Uuid,
    /// Those that get messages.
    pub confirmed: i64,
    /// Those that wait.
    pub pending: i64,
    /// Those that were.
    pub ended: i64,
}

/// Adds a topic; false when its owner has one of that name.
pub async fn insert(db: &mut PgConnection, topic: &TopicRow) -> sqlx::Result<bool> {
    let inserted = sqlx::query(include_str!("sql/topics/insert.sql"))
        .bind(topic.id)
        .bind(&topic.owner_id)
        .bind(&topic.region)
        .bind(&topic.name)
        .bind(&topic.display_name)
        .bind(&topic.policy)
        .bind(topic.signature_version)
        .bind(&topic.delivery_policy)
        .bind(topic.created_at)
        .bind(&topic.notice_topic_arn)
        .execute(db)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The topic of this name. The account in the ARN is the scope.
pub async fn find(db: &mut PgConnection, arn: &TopicArn) -> sqlx::Result<Option<TopicRow>> {
    sqlx::query_as(include_str!("sql/topics/find.sql"))
        .bind(arn.account().to_string())
        .bind(arn.region().as_str())
        .bind(arn.name().as_str())
        .fetch_optional(db)
        .await
}

/// The topic of this name, held until the transaction ends.
pub async fn lock(db: &mut PgConnection, arn: &TopicArn) -> sqlx::Result<Option<TopicRow>> {
    sqlx::query_as(include_str!("sql/topics/lock.sql"))
        .bind(arn.account().to_string())
        .bind(arn.region().as_str())
        .bind(arn.name().as_str())
        .fetch_optional(db)
        .await
}

/// The account's topics after the one named, by name.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    region: &str,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<TopicRow>> {
    sqlx::query_as(include_str!("sql/topics/list.sql"))
        .bind(owner.to_string())
        .bind(region)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// How many topics the account has.
pub async fn count(db: &mut PgConnection, owner: AccountId, region: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(include_str!("sql/topics/count.sql"))
        .bind(owner.to_string())
        .bind(region)
        .fetch_one(db)
        .await
}

/// How many subscriptions these topics have.
pub async fn counts(db: &mut PgConnection, topics: &[Uuid]) -> sqlx::Result<Vec<Counts>> {
    sqlx::query_as(include_str!("sql/topics/counts.sql")).bind(topics).fetch_all(db).await
}

/// Writes the attributes that may change.
pub async fn update(db: &mut PgConnection, topic: &TopicRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/topics/update.sql"))
        .bind(topic.id)
        .bind(&topic.display_name)
        .bind(&topic.policy)
        .bind(topic.signature_version)
        .bind(&topic.delivery_policy)
        .bind(&topic.notice_topic_arn)
        .execute(db)
        .await
        .map(drop)
}

/// Deletes the topic with everything of it; false when there was none.
pub async fn delete(db: &mut PgConnection, arn: &TopicArn) -> sqlx::Result<bool> {
    let deleted = sqlx::query(include_str!("sql/topics/delete.sql"))
        .bind(arn.account().to_string())
        .bind(arn.region().as_str())
        .bind(arn.name().as_str())
        .execute(db)
        .await?;
    Ok(deleted.rows_affected() == 1)
}
