//! Looking at deliveries and their attempts, and making ended ones due again.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use sqlx::PgConnection;
use uuid::Uuid;

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

impl DeliveryRow {
    /// The topic's ARN.
    pub fn topic_arn(&self) -> String {
        format!("arn:aws:sns:{}:{}:{}", self.region, self.topic_owner_id, self.topic_name)
    }
}

/// One try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status code; 0 when there was no answer.
    pub status: i32,
    /// What was wrong.
    pub error: String,
    /// The address that was dialled.
    pub address: String,
    /// What was sent, in bytes.
    pub request_bytes: i32,
    /// What was read of the answer's body, in bytes.
    pub response_bytes: i32,
    /// The beginning of a refusal; empty where its address is not public.
    pub response: String,
}

/// An attempt that somebody watches for.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct WatchedRow {
    /// Its place among all attempts.
    pub attempt_seq: i64,
    /// The delivery.
    pub delivery_id: Uuid,
    /// The attempt.
    #[sqlx(flatten)]
    pub attempt: AttemptRow,
}

/// A delivery of one of the account's topics.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    region: &str,
    id: Uuid,
) -> sqlx::Result<Option<DeliveryRow>> {
    sqlx::query_as(include_str!("../sql/deliveries/find.sql"))
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
    /// Only those of this event.
    pub event: Option<Uuid>,
    /// Only those made from then on.
    pub from: Option<DateTime<Utc>>,
    /// Only those made before.
    pub until: Option<DateTime<Utc>>,
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
    // Statements are planned once for all values, so each index has its own.
    let statement = if filter.message.is_some() {
        include_str!("../sql/deliveries/list_of_message.sql")
    } else if filter.subscription.is_some() {
        include_str!("../sql/deliveries/list_of_subscription.sql")
    } else {
        include_str!("../sql/deliveries/list.sql")
    };
    sqlx::query_as(statement)
        .bind(topic)
        .bind(filter.subscription)
        .bind(filter.state)
        .bind(filter.message)
        .bind(filter.before)
        .bind(limit)
        .bind(filter.event)
        .bind(filter.from)
        .bind(filter.until)
        .fetch_all(db)
        .await
}

/// The attempts of a delivery, the oldest first.
pub async fn attempts(
    db: &mut PgConnection,
    delivery: Uuid,
    created_at: DateTime<Utc>,
) -> sqlx::Result<Vec<AttemptRow>> {
    sqlx::query_as(include_str!("../sql/deliveries/attempts.sql"))
        .bind(delivery)
        .bind(created_at)
        .fetch_all(db)
        .await
}

/// The place of a topic's newest attempt; 0 when there is none.
pub async fn last_attempt(db: &mut PgConnection, topic: Uuid) -> sqlx::Result<i64> {
    let last: Option<i64> = sqlx::query_scalar(include_str!("../sql/deliveries/last_attempt.sql"))
        .bind(topic)
        .fetch_one(db)
        .await?;
    Ok(last.unwrap_or_default())
}

/// Attempts at a topic's deliveries after the place `after`.
pub async fn watch(
    db: &mut PgConnection,
    topic: Uuid,
    subscription: Option<Uuid>,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<WatchedRow>> {
    sqlx::query_as(include_str!("../sql/deliveries/watch.sql"))
        .bind(topic)
        .bind(after)
        .bind(subscription)
        .bind(limit)
        .fetch_all(db)
        .await
}

/// Which ended deliveries of a topic to make due again.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// In which states.
    pub states: Vec<&'static str>,
    /// Made from then on.
    pub from: Option<DateTime<Utc>>,
    /// Made before.
    pub until: Option<DateTime<Utc>>,
    /// To this subscription.
    pub subscription: Option<Uuid>,
    /// Just this one.
    pub delivery: Option<Uuid>,
    /// Ended at that time at the latest.
    pub ended_before: Option<DateTime<Utc>>,
}

/// Makes ended deliveries due again, at most `limit`; says which.
pub async fn replay(
    db: &mut PgConnection,
    topic: Uuid,
    asked: &Replayed,
    limit: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar(include_str!("../sql/deliveries/replay.sql"))
        .bind(topic)
        .bind(&asked.states)
        .bind(asked.from)
        .bind(asked.until)
        .bind(asked.subscription)
        .bind(asked.delivery)
        .bind(limit)
        .bind(now)
        .bind(asked.ended_before)
        .fetch_all(db)
        .await
}
