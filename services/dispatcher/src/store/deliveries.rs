//! Deliveries: one message on its way to one subscription. How they are looked at is in
//! [`inspect`].

pub mod inspect;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
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
    /// When it was made: with the id this finds its row.
    pub created_at: DateTime<Utc>,
    /// Proves the claim when the result is recorded.
    pub claim: Uuid,
    /// Whom the load falls on.
    pub target: String,
    /// What a confirmation carries.
    pub token: Option<String>,
    /// How many attempts ended.
    pub attempts: i32,
    /// How many of them were before it was last replayed.
    pub replayed_after: i32,
    /// Whether the subscription's throttle gave it this moment.
    pub paced: bool,
    /// Since when it was due.
    pub due_at: DateTime<Utc>,
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
    /// Where it goes when it is given up: a document.
    pub redrive_policy: Option<String>,
    /// What messages are signed with besides: `whsec_` and base64.
    pub webhook_secret: Option<String>,
    /// What they were signed with before.
    pub webhook_secret_previous: Option<String>,
    /// Until when that signs too.
    pub webhook_secret_previous_until: Option<DateTime<Utc>>,
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

/// The result of an attempt.
#[derive(Clone, Debug)]
pub struct Record {
    /// The delivery.
    pub delivery: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The claim.
    pub claim: Uuid,
    /// Where the delivery is now.
    pub state: DeliveryState,
    /// When it is due again, or when it ended.
    pub at: DateTime<Utc>,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
    /// The status code; 0 when there was no answer.
    pub status: i32,
    /// What was wrong; empty when nothing was.
    pub error: String,
    /// The address that was dialled; empty when none was.
    pub address: String,
    /// What was sent, in bytes.
    pub request_bytes: i32,
    /// What was read of the answer's body, in bytes.
    pub response_bytes: i32,
    /// The beginning of a refusal, where it may be shown.
    pub response: String,
}

/// A claim, as far as it takes to give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The delivery.
    pub id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The claim.
    pub claim: Uuid,
}

impl Claimed {
    /// The claim alone.
    pub fn held(&self) -> Held {
        Held { id: self.id, created_at: self.created_at, claim: self.claim }
    }
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
    /// How many to a target of which nothing is known.
    pub per_target: i64,
    /// The targets of which something is known.
    pub targets: &'a [String],
    /// How many to each of these, side by side.
    pub places: &'a [i64],
    /// Nothing that is pending was made before.
    pub since: DateTime<Utc>,
}

/// Makes a delivery of the message to one subscription.
pub async fn insert_test(
    db: &mut PgConnection,
    delivery: Uuid,
    message: Uuid,
    subscription: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/deliveries/insert_test.sql"))
        .bind(delivery)
        .bind(message)
        .bind(subscription)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
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
    /// When it is made, and due: when its message was published.
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

/// Drops what is on its way to subscriptions that are gone.
pub async fn drop_orphans(db: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let dropped =
        sqlx::query(include_str!("sql/deliveries/drop_orphans.sql")).bind(now).execute(db).await?;
    Ok(dropped.rows_affected())
}

/// Gives up what has waited for a target since before `before`; at most `limit`.
pub async fn give_up(
    db: &mut PgConnection,
    target: &str,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
    why: &str,
) -> sqlx::Result<u64> {
    let given_up: i64 = sqlx::query_scalar(include_str!("sql/deliveries/give_up.sql"))
        .bind(target)
        .bind(before)
        .bind(now)
        .bind(limit)
        .bind(why)
        .fetch_one(db)
        .await?;
    Ok(given_up.unsigned_abs())
}

/// When the oldest was made that is on its way.
pub async fn oldest_pending(db: &mut PgConnection) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar(include_str!("sql/deliveries/oldest_pending.sql")).fetch_one(db).await
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
        .bind(request.places)
        .bind(request.lease_until)
        .bind(request.since)
        .fetch_all(db)
        .await
}

/// Records the results of attempts; answers the deliveries whose claims had not passed to others.
pub async fn record(db: &mut PgConnection, records: &[Record]) -> sqlx::Result<Vec<Uuid>> {
    let column = |of: fn(&Record) -> Uuid| records.iter().map(of).collect::<Vec<_>>();
    let times = |of: fn(&Record) -> DateTime<Utc>| records.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&Record) -> i32| records.iter().map(of).collect::<Vec<_>>();
    let texts = |of: fn(&Record) -> &str| records.iter().map(of).collect::<Vec<_>>();
    let ended = |record: &Record| (record.state != DeliveryState::Pending).then_some(record.at);
    sqlx::query_scalar(include_str!("sql/deliveries/record.sql"))
        .bind(column(|record| record.delivery))
        .bind(times(|record| record.created_at))
        .bind(column(|record| record.claim))
        .bind(texts(|record| record.state.as_str()))
        .bind(times(|record| record.at))
        .bind(times(|record| record.started_at))
        .bind(records.iter().map(|record| record.duration_ms).collect::<Vec<_>>())
        .bind(numbers(|record| record.status))
        .bind(texts(|record| &record.error))
        .bind(texts(|record| &record.address))
        .bind(numbers(|record| record.request_bytes))
        .bind(numbers(|record| record.response_bytes))
        .bind(texts(|record| &record.response))
        .bind(records.iter().map(ended).collect::<Vec<_>>())
        .fetch_all(db)
        .await
}

/// Gives claims back: the deliveries are due at once.
pub async fn release(db: &mut PgConnection, held: &[Held]) -> sqlx::Result<()> {
    let (ids, times, claims) = columns(held);
    sqlx::query(include_str!("sql/deliveries/release.sql"))
        .bind(ids)
        .bind(times)
        .bind(claims)
        .execute(db)
        .await
        .map(drop)
}

/// Gives claims back that are due at moments of their own.
pub async fn postpone(
    db: &mut PgConnection,
    held: &[Held],
    at: &[DateTime<Utc>],
) -> sqlx::Result<()> {
    let (ids, times, claims) = columns(held);
    sqlx::query(include_str!("sql/deliveries/postpone.sql"))
        .bind(ids)
        .bind(times)
        .bind(claims)
        .bind(at)
        .execute(db)
        .await
        .map(drop)
}

fn columns(held: &[Held]) -> (Vec<Uuid>, Vec<DateTime<Utc>>, Vec<Uuid>) {
    let ids = held.iter().map(|held| held.id).collect();
    let times = held.iter().map(|held| held.created_at).collect();
    (ids, times, held.iter().map(|held| held.claim).collect())
}

/// Takes `count` moments of a throttled subscription, `apart` from each other; answers the first.
pub async fn reserve(
    db: &mut PgConnection,
    subscription: Uuid,
    now: DateTime<Utc>,
    apart: Duration,
    count: i32,
) -> sqlx::Result<DateTime<Utc>> {
    let micros = i64::try_from(apart.as_micros()).unwrap_or(i64::MAX);
    let apart = PgInterval { months: 0, days: 0, microseconds: micros };
    sqlx::query_scalar(include_str!("sql/deliveries/reserve.sql"))
        .bind(subscription)
        .bind(now)
        .bind(apart)
        .bind(count)
        .fetch_one(db)
        .await
}

/// Ends a claimed delivery whose subscription ended in the meantime.
pub async fn abandon(db: &mut PgConnection, held: Held, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/deliveries/abandon.sql"))
        .bind(held.id)
        .bind(held.created_at)
        .bind(held.claim)
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// What a batch of results says of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The subscription.
    pub subscription: Uuid,
    /// When one of its messages was last taken, if one was.
    pub taken_at: Option<DateTime<Utc>>,
    /// How many were given up since.
    pub failures: i32,
    /// When the first of those was.
    pub failed_at: Option<DateTime<Utc>>,
}

/// When a subscription is disabled: after so many failures in a row, the first before that time.
#[derive(Clone, Copy, Debug)]
pub struct DisableAfter {
    /// How many.
    pub failures: i32,
    /// Before when the first was.
    pub since: DateTime<Utc>,
}

/// Writes down how subscriptions do; answers those that are disabled by it.
pub async fn note_health(
    db: &mut PgConnection,
    all: &[Health],
    now: DateTime<Utc>,
    after: DisableAfter,
) -> sqlx::Result<Vec<Uuid>> {
    let noted: Vec<(Uuid, Option<bool>)> =
        sqlx::query_as(include_str!("sql/deliveries/health.sql"))
            .bind(all.iter().map(|one| one.subscription).collect::<Vec<_>>())
            .bind(all.iter().map(|one| one.taken_at.is_some()).collect::<Vec<_>>())
            .bind(all.iter().map(|one| one.failures).collect::<Vec<_>>())
            .bind(all.iter().map(|one| one.failed_at).collect::<Vec<_>>())
            .bind(all.iter().map(|one| one.taken_at).collect::<Vec<_>>())
            .bind(now)
            .bind(after.failures)
            .bind(after.since)
            .fetch_all(db)
            .await?;
    Ok(noted
        .into_iter()
        .filter(|(_, disabled)| *disabled == Some(true))
        .map(|(id, _)| id)
        .collect())
}
