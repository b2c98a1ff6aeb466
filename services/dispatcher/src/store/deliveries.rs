//! Deliveries: one message on its way to one subscription, and the attempts at it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// Where a delivery is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It will be tried, or is being tried.
    Pending,
    /// It was taken.
    Delivered,
    /// It was refused, or every retry failed.
    DeadLettered,
    /// Its subscription ended first.
    Dropped,
}

impl DeliveryState {
    /// The state as it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::DeadLettered => "dead-lettered",
            Self::Dropped => "dropped",
        }
    }
}

/// A delivery that was claimed, with everything that an attempt needs.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Claimed {
    /// The delivery.
    pub id: Uuid,
    /// Proves the claim when the result is recorded.
    pub claim: Uuid,
    /// Whom the load falls on.
    pub target: String,
    /// What a confirmation carries.
    pub token: Option<String>,
    /// How many attempts ended.
    pub attempts: i32,
    /// The message.
    pub message_id: Uuid,
    /// What kind of message it is.
    pub kind: String,
    /// The event that caused it.
    pub event_id: Option<Uuid>,
    /// The message's subject.
    pub subject: Option<String>,
    /// The message's text.
    pub body: String,
    /// The message's attributes, JSON.
    pub attributes: String,
    /// Trace context of what caused it.
    pub trace: Json<BTreeMap<String, String>>,
    /// When the message was published.
    pub published_at: DateTime<Utc>,
    /// The topic's owner.
    pub topic_owner_id: String,
    /// The topic's region.
    pub region: String,
    /// The topic's name.
    pub topic_name: String,
    /// The sender's name in mails.
    pub display_name: String,
    /// 1: SHA-1, 2: SHA-256.
    pub signature_version: i16,
    /// The topic's delivery policy's document.
    pub topic_delivery_policy: Option<String>,
    /// The subscription.
    pub subscription_id: Uuid,
    /// How it is sent.
    pub protocol: String,
    /// Where it is sent.
    pub endpoint: String,
    /// Whether the bare message is sent.
    pub raw: bool,
    /// The subscription's delivery policy's document.
    pub delivery_policy: Option<String>,
    /// The subscription's state.
    pub subscription_state: String,
}

impl Claimed {
    /// The topic's ARN.
    pub fn topic_arn(&self) -> String {
        format!("arn:aws:sns:{}:{}:{}", self.region, self.topic_owner_id, self.topic_name)
    }

    /// The subscription's ARN.
    pub fn subscription_arn(&self) -> String {
        format!("{}:{}", self.topic_arn(), self.subscription_id)
    }
}

/// A delivery as its topic's owner sees it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeliveryRow {
    /// The delivery.
    pub id: Uuid,
    /// Its place in lists.
    pub seq: i64,
    /// The message.
    pub message_id: Uuid,
    /// The topic's owner.
    pub topic_owner_id: String,
    /// The topic's region.
    pub region: String,
    /// The topic's name.
    pub topic_name: String,
    /// The subscription.
    pub subscription_id: Uuid,
    /// Where it goes.
    pub endpoint: String,
    /// What kind of message it is.
    pub kind: String,
    /// Where it is in its life.
    pub state: String,
    /// The event that caused it.
    pub event_id: Option<Uuid>,
    /// How many attempts ended.
    pub attempts: i32,
    /// The last attempt's status code.
    pub last_status: i32,
    /// The last attempt's fault.
    pub last_error: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it is due.
    pub next_attempt_at: DateTime<Utc>,
    /// When it was taken or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
    /// The status code; 0 when there was no answer.
    pub status: i32,
    /// What was wrong.
    pub error: String,
    /// The address that was dialled.
    pub address: String,
}

/// The result of an attempt.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The delivery.
    pub delivery: Uuid,
    /// The claim.
    pub claim: Uuid,
    /// Where the delivery is now.
    pub state: DeliveryState,
    /// When it is due again, or when it ended.
    pub at: DateTime<Utc>,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: i64,
    /// The status code; 0 when there was no answer.
    pub status: i32,
    /// What was wrong; empty when nothing was.
    pub error: &'a str,
    /// The address that was dialled; empty when none was.
    pub address: &'a str,
}

/// Which deliveries to claim.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// What is due then.
    pub now: DateTime<Utc>,
    /// When others may take them over.
    pub lease_until: DateTime<Utc>,
    /// How many at most.
    pub limit: i64,
    /// How many may be under way to one target.
    pub per_target: i64,
    /// The targets to which deliveries are under way.
    pub targets: &'a [String],
    /// How many, side by side with the targets.
    pub busy: &'a [i64],
}

/// Makes a delivery of the message to every confirmed subscription; says how many.
pub async fn insert_for_confirmed(
    db: &mut PgConnection,
    topic: Uuid,
    message: Uuid,
    ordering_key: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let inserted = sqlx::query(include_str!("sql/deliveries/insert_for_confirmed.sql"))
        .bind(message)
        .bind(topic)
        .bind(ordering_key)
        .bind(now)
        .execute(db)
        .await?;
    Ok(inserted.rows_affected())
}

/// A delivery that carries a token.
#[derive(Clone, Debug)]
pub struct NewConfirmation<'a> {
    /// The message.
    pub message: Uuid,
    /// The topic.
    pub topic: Uuid,
    /// The subscription.
    pub subscription: Uuid,
    /// Whom the load falls on.
    pub target: &'a str,
    /// The token.
    pub token: &'a str,
    /// When it is made, and due.
    pub now: DateTime<Utc>,
}

/// Makes a delivery that carries a token.
pub async fn insert_confirmation(
    db: &mut PgConnection,
    confirmation: NewConfirmation<'_>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/deliveries/insert_confirmation.sql"))
        .bind(Uuid::new_v4())
        .bind(confirmation.message)
        .bind(confirmation.topic)
        .bind(confirmation.subscription)
        .bind(confirmation.target)
        .bind(confirmation.token)
        .bind(confirmation.now)
        .execute(db)
        .await
        .map(drop)
}

/// Drops everything that is on its way to a subscription.
pub async fn drop_all(
    db: &mut PgConnection,
    subscription: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let dropped = sqlx::query(include_str!("sql/deliveries/drop.sql"))
        .bind(subscription)
        .bind(now)
        .execute(db)
        .await?;
    Ok(dropped.rows_affected())
}

/// Claims due deliveries.
pub async fn claim(
    db: &mut PgConnection,
    request: &ClaimRequest<'_>,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as(include_str!("sql/deliveries/claim.sql"))
        .bind(request.now)
        .bind(request.limit)
        .bind(request.per_target)
        .bind(request.targets)
        .bind(request.busy)
        .bind(request.lease_until)
        .fetch_all(db)
        .await
}

/// Records the result of an attempt; false when the claim has passed to somebody else.
pub async fn record(db: &mut PgConnection, record: &Record<'_>) -> sqlx::Result<bool> {
    let ended = (record.state != DeliveryState::Pending).then_some(record.at);
    let recorded = sqlx::query(include_str!("sql/deliveries/record.sql"))
        .bind(record.delivery)
        .bind(record.claim)
        .bind(record.state.as_str())
        .bind(record.at)
        .bind(record.started_at)
        .bind(record.duration_ms)
        .bind(record.status)
        .bind(record.error)
        .bind(record.address)
        .bind(ended)
        .execute(db)
        .await?;
    Ok(recorded.rows_affected() == 1)
}

/// Gives claims back: the deliveries are due at once.
pub async fn release(
    db: &mut PgConnection,
    claims: &[Uuid],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/deliveries/release.sql"))
        .bind(claims)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Ends a claimed delivery whose subscription ended in the meantime.
pub async fn abandon(db: &mut PgConnection, claim: Uuid, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/deliveries/abandon.sql"))
        .bind(claim)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// A delivery of one of the account's topics.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    region: &str,
    id: Uuid,
) -> sqlx::Result<Option<DeliveryRow>> {
    sqlx::query_as(include_str!("sql/deliveries/find.sql"))
        .bind(owner.to_string())
        .bind(region)
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Which deliveries of a topic to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Only those to this subscription.
    pub subscription: Option<Uuid>,
    /// Only those in this state.
    pub state: Option<&'a str>,
    /// Only those of this message.
    pub message: Option<Uuid>,
    /// Only those before this place.
    pub before: Option<i64>,
}

/// A topic's deliveries, the newest first.
pub async fn list(
    db: &mut PgConnection,
    topic: Uuid,
    filter: Filter<'_>,
    limit: i64,
) -> sqlx::Result<Vec<DeliveryRow>> {
    sqlx::query_as(include_str!("sql/deliveries/list.sql"))
        .bind(topic)
        .bind(filter.subscription)
        .bind(filter.state)
        .bind(filter.message)
        .bind(filter.before)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// The attempts of a delivery, the oldest first.
pub async fn attempts(db: &mut PgConnection, delivery: Uuid) -> sqlx::Result<Vec<AttemptRow>> {
    sqlx::query_as(include_str!("sql/deliveries/attempts.sql")).bind(delivery).fetch_all(db).await
}
