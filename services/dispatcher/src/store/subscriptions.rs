//! Subscriptions.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::arn::SubscriptionArn;
use sha2::{Digest as _, Sha256};
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
    /// The filter's document; none: every message is wanted.
    pub filter_policy: Option<String>,
    /// `MessageAttributes` or `MessageBody`.
    pub filter_scope: String,
    /// The redrive policy's document.
    pub redrive_policy: Option<String>,
    /// Whether a message waits until those before it have ended.
    pub ordered: bool,
    /// For how many seconds messages are collected; 0: not at all.
    pub digest_seconds: i32,
    /// When a message was last taken.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How many messages in a row were given up.
    pub failure_streak: i32,
    /// When the first of them was.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
}

impl SubscriptionRow {
    /// The topic's ARN.
    pub fn topic_arn(&self) -> String {
        format!("arn:aws:sns:{}:{}:{}", self.region, self.topic_owner_id, self.topic_name)
    }

    /// The hash of the filter's scope and document: subscriptions with the same one are decided on
    /// together.
    pub fn filter_sha256(&self) -> Option<Vec<u8>> {
        let document = self.filter_policy.as_ref()?;
        let text = format!("{}\n{document}", self.filter_scope);
        Some(Sha256::digest(text.as_bytes()).to_vec())
    }
}

/// A subscription's secret.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SecretRow {
    /// The secret; none for mail.
    pub webhook_secret: Option<String>,
    /// Until when the one before it signs too.
    pub webhook_secret_previous_until: Option<DateTime<Utc>>,
}

/// A disabled subscription whose topic's owner was not told.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DisabledRow {
    /// The subscription.
    pub id: Uuid,
    /// The topic's owner.
    pub topic_owner_id: String,
    /// The topic's region.
    pub region: String,
    /// The topic's name.
    pub topic_name: String,
    /// The topic that gets notices.
    pub notice_topic_arn: Option<String>,
    /// The account that subscribed.
    pub owner_id: String,
    /// How messages were sent.
    pub protocol: String,
    /// Where they were sent.
    pub endpoint: String,
    /// How many messages in a row were given up.
    pub failure_streak: i32,
    /// When it was disabled.
    pub disabled_at: DateTime<Utc>,
    /// Why.
    pub disabled_reason: String,
}

impl DisabledRow {
    /// The subscription's ARN.
    pub fn arn(&self) -> String {
        let Self { region, topic_owner_id, topic_name, id, .. } = self;
        format!("arn:aws:sns:{region}:{topic_owner_id}:{topic_name}:{id}")
    }
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
    secret: Option<&str>,
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
        .bind(&subscription.filter_policy)
        .bind(&subscription.filter_scope)
        .bind(subscription.filter_sha256())
        .bind(&subscription.redrive_policy)
        .bind(subscription.ordered)
        .bind(subscription.digest_seconds)
        .bind(secret)
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

/// Whether the topic has this many subscriptions or more.
pub async fn exceed(db: &mut PgConnection, topic: Uuid, limit: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar(include_str!("sql/subscriptions/exceed.sql"))
        .bind(topic)
        .bind(limit)
        .fetch_one(db)
        .await
}

/// How many filters there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct FilterCounts {
    /// Of the topic's subscriptions.
    pub of_topic: i64,
    /// Of the account's.
    pub of_account: i64,
}

/// How many filters the topic's and the account's subscriptions have.
pub async fn count_filters(
    db: &mut PgConnection,
    topic: Uuid,
    owner: &str,
) -> sqlx::Result<FilterCounts> {
    sqlx::query_as(include_str!("sql/subscriptions/count_filters.sql"))
        .bind(topic)
        .bind(owner)
        .fetch_one(db)
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
pub async fn update(db: &mut PgConnection, subscription: &SubscriptionRow) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/update.sql"))
        .bind(subscription.id)
        .bind(subscription.raw)
        .bind(&subscription.delivery_policy)
        .bind(&subscription.filter_policy)
        .bind(&subscription.filter_scope)
        .bind(subscription.filter_sha256())
        .bind(&subscription.redrive_policy)
        .bind(subscription.ordered)
        .bind(subscription.digest_seconds)
        .execute(db)
        .await
        .map(drop)
}

/// Enables a subscription that was disabled.
pub async fn enable(db: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/enable.sql")).bind(id).execute(db).await.map(drop)
}

/// Disabled subscriptions whose topic's owner was not told, held until the transaction ends.
pub async fn lock_unnoticed(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<DisabledRow>> {
    sqlx::query_as(include_str!("sql/subscriptions/lock_unnoticed.sql"))
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Notes that the owners were told.
pub async fn noticed(db: &mut PgConnection, ids: &[Uuid], now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/noticed.sql"))
        .bind(ids)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// The secret of a subscription.
pub async fn secret(db: &mut PgConnection, id: Uuid) -> sqlx::Result<SecretRow> {
    sqlx::query_as(include_str!("sql/subscriptions/secret.sql")).bind(id).fetch_one(db).await
}

/// Replaces the secret; the present one signs too until `previous_until`, if that is given.
pub async fn rotate_secret(
    db: &mut PgConnection,
    id: Uuid,
    secret: &str,
    previous_until: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/subscriptions/rotate_secret.sql"))
        .bind(id)
        .bind(secret)
        .bind(previous_until)
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
