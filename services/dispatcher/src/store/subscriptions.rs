//! Subscriptions.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::arn::SubscriptionArn;
use sqlx::PgConnection;
use uuid::Uuid;

/// A subscription as it is kept, with what it needs of its topic.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SubscriptionRow {
    /// Its key, also the last part of its ARN.
    pub id: Uuid,
    /// The topic.
    pub topic_id: Uuid,
    /// The topic's owner.
    pub topic_owner_id: String,
    /// The topic's region.
    pub region: String,
    /// The topic's name.
    pub topic_name: String,
    /// The account that subscribed.
    pub owner_id: String,
    /// The principal that subscribed.
    pub principal: String,
    /// `http`, `https`, `email` or `email-json`.
    pub protocol: String,
    /// Where messages go.
    pub endpoint: String,
    /// Whom the load falls on.
    pub target: String,
    /// `pending`, `confirmed` or `ended`.
    pub state: String,
    /// Whether only an authenticated caller may end it.
    pub guarded: bool,
    /// Whether the bare message is sent.
    pub raw: bool,
    /// Its delivery policy's document.
    pub delivery_policy: Option<String>,
    /// The topic's delivery policy's document.
    pub topic_delivery_policy: Option<String>,
    /// Until when the token counts.
    pub token_expires_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was confirmed.
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// The hash of a token, and until when it counts.
#[derive(Clone, Copy, Debug)]
pub struct TokenRow {
    /// SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// When it stops counting.
    pub expires_at: DateTime<Utc>,
}

/// Adds a subscription that waits for its confirmation.
pub async fn insert(
    db: &mut PgConnection,
    subscription: &SubscriptionRow,
    token: TokenRow,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/insert.sql"))
        .bind(subscription.id)
        .bind(subscription.topic_id)
        .bind(&subscription.owner_id)
        .bind(&subscription.principal)
        .bind(&subscription.protocol)
        .bind(&subscription.endpoint)
        .bind(&subscription.target)
        .bind(subscription.raw)
        .bind(&subscription.delivery_policy)
        .bind(token.sha256.as_slice())
        .bind(token.expires_at)
        .bind(subscription.created_at)
        .execute(db)
        .await
        .map(drop)
}

/// The subscription of this ARN, ended ones too. Whoever asks must be checked against its owners.
pub async fn find(
    db: &mut PgConnection,
    arn: &SubscriptionArn,
) -> sqlx::Result<Option<SubscriptionRow>> {
    by_arn(db, include_str!("sql/subscriptions/find.sql"), arn).await
}

/// The same, held until the transaction ends.
pub async fn lock(
    db: &mut PgConnection,
    arn: &SubscriptionArn,
) -> sqlx::Result<Option<SubscriptionRow>> {
    by_arn(db, include_str!("sql/subscriptions/lock.sql"), arn).await
}

async fn by_arn(
    db: &mut PgConnection,
    statement: &'static str,
    arn: &SubscriptionArn,
) -> sqlx::Result<Option<SubscriptionRow>> {
    sqlx::query_as(statement)
        .bind(arn.topic().account().to_string())
        .bind(arn.topic().region().as_str())
        .bind(arn.topic().name().as_str())
        .bind(arn.id())
        .fetch_optional(db)
        .await
}

/// The topic's live subscription of this endpoint, held until the transaction ends.
pub async fn lock_by_endpoint(
    db: &mut PgConnection,
    topic: Uuid,
    protocol: &str,
    endpoint: &str,
) -> sqlx::Result<Option<SubscriptionRow>> {
    sqlx::query_as(include_str!("sql/subscriptions/lock_by_endpoint.sql"))
        .bind(topic)
        .bind(protocol)
        .bind(endpoint)
        .fetch_optional(db)
        .await
}

/// The topic's subscription whose endpoint was sent this token, held until the transaction ends.
pub async fn lock_by_token(
    db: &mut PgConnection,
    topic: Uuid,
    token_sha256: [u8; 32],
) -> sqlx::Result<Option<SubscriptionRow>> {
    sqlx::query_as(include_str!("sql/subscriptions/lock_by_token.sql"))
        .bind(topic)
        .bind(token_sha256.as_slice())
        .fetch_optional(db)
        .await
}

/// The account's subscriptions after the one named, by id.
pub async fn list_by_owner(
    db: &mut PgConnection,
    owner: AccountId,
    region: &str,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<SubscriptionRow>> {
    sqlx::query_as(include_str!("sql/subscriptions/list_by_owner.sql"))
        .bind(owner.to_string())
        .bind(region)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// The topic's subscriptions after the one named, by id.
pub async fn list_by_topic(
    db: &mut PgConnection,
    topic: Uuid,
    after: Uuid,
    limit: i64,
) -> sqlx::Result<Vec<SubscriptionRow>> {
    sqlx::query_as(include_str!("sql/subscriptions/list_by_topic.sql"))
        .bind(topic)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// How many subscriptions of the topic wait for their confirmation.
pub async fn count_pending(db: &mut PgConnection, topic: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar(include_str!("sql/subscriptions/count_pending.sql"))
        .bind(topic)
        .fetch_one(db)
        .await
}

/// Replaces the token of a subscription.
pub async fn set_token(db: &mut PgConnection, id: Uuid, token: TokenRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/set_token.sql"))
        .bind(id)
        .bind(token.sha256.as_slice())
        .bind(token.expires_at)
        .execute(db)
        .await
        .map(drop)
}

/// Confirms a subscription that waits or was ended.
pub async fn confirm(
    db: &mut PgConnection,
    id: Uuid,
    now: DateTime<Utc>,
    guarded: bool,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/confirm.sql"))
        .bind(id)
        .bind(now)
        .bind(guarded)
        .execute(db)
        .await
        .map(drop)
}

/// Ends a subscription; `token` is what takes the end back.
pub async fn end(
    db: &mut PgConnection,
    id: Uuid,
    now: DateTime<Utc>,
    token: Option<TokenRow>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/end.sql"))
        .bind(id)
        .bind(now)
        .bind(token.map(|token| token.sha256.to_vec()))
        .bind(token.map(|token| token.expires_at))
        .execute(db)
        .await
        .map(drop)
}

/// Writes the attributes that may change.
pub async fn update(
    db: &mut PgConnection,
    id: Uuid,
    raw: bool,
    delivery_policy: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/update.sql"))
        .bind(id)
        .bind(raw)
        .bind(delivery_policy)
        .execute(db)
        .await
        .map(drop)
}

/// Forgets subscriptions that were asked for before `before` and never confirmed.
pub async fn forget_unconfirmed(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let forgotten = sqlx::query(include_str!("sql/subscriptions/forget_unconfirmed.sql"))
        .bind(before)
        .execute(db)
        .await?;
    Ok(forgotten.rows_affected())
}
