//! What is not sent at once: digests when their windows are over, and notices that a subscription was
//! disabled.
//!
//! Both are rows until the transaction that turns them into a message with its delivery, so that a crash
//! loses none and repeats none. Replicas pass over what another one is at.

use std::sync::Arc;
use std::time::Duration;

use postern_model::arn::TopicArn;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use serde_json::json;
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::error::Error;
use crate::fanout::Fanout;
use crate::store::digests::DueRow;
use crate::store::messages::{MessageKind, NewMessage};
use crate::store::subscriptions::{self, DisabledRow};
use crate::store::{Store, digests, fanout as deliveries, messages, topics};

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);
/// How many messages a digest has at most: when so many wait, it is sent before its window is over.
pub const MAX_ITEMS: i64 = 100;
/// How many characters of each message are in a digest.
pub const MAX_ITEM_LENGTH: i32 = 2000;
/// How many subscriptions are dealt with in one transaction.
const BATCH: i64 = 100;
/// Who publishes digests and notices.
const POSTERN: &str = "postern.internal";

/// What a pass sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Digests.
    pub digests: usize,
    /// Subscriptions whose topic's owner was told that they are disabled.
    pub notices: usize,
}

/// One pass: sends what is due. Told nothing, and safe beside others.
///
/// # Errors
/// When the store fails; nothing is lost, and nothing sent twice.
pub async fn pass(store: &Store, clock: &dyn Clock, fanout: &Fanout) -> Result<Report, Error> {
    Ok(Report {
        digests: send_digests(store, clock).await?,
        notices: send_notices(store, clock, fanout).await?,
    })
}

pub(crate) async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    fanout: Fanout,
    due: Arc<Notify>,
    stop: Stop,
) -> anyhow::Result<()> {
    while !stop.is_stopping() {
        match pass(&store, clock.as_ref(), &fanout).await {
            Ok(report) if report == Report::default() => {}
            Ok(report) => {
                debug!(?report, "sent what was due");
                due.notify_one();
                continue; // There may be more.
            }
            Err(error) => warn!(%error, cause = ?error, "cannot send digests, trying again"),
        }
        tokio::select! {
            () = sleep(PERIOD) => {}
            () = stop.stopped() => {}
        }
    }
    Ok(())
}

async fn send_digests(store: &Store, clock: &dyn Clock) -> Result<usize, Error> {
    let now = clock.now();
    let mut tx = store.begin().await?;
    let due = digests::due(&mut tx, now, MAX_ITEMS, BATCH).await?;
    for row in &due {
        send_digest(&mut tx, row, clock).await?;
    }
    tx.commit().await?;
    Ok(due.len())
}

async fn send_digest(db: &mut PgConnection, row: &DueRow, clock: &dyn Clock) -> Result<(), Error> {
    if !row.wanted {
        digests::discard(db, row.id).await?;
        return Ok(());
    }
    let items = digests::take(db, row.id, MAX_ITEMS, MAX_ITEM_LENGTH).await?;
    // Another replica took them between the look and the hold.
    if items.is_empty() {
        return Ok(());
    }
    let body = serde_json::to_string(&items).map_err(|error| Error::Internal(error.into()))?;
    let message = NewMessage { kind: MessageKind::Digest, ..message(row.topic_id, body, clock) };
    messages::insert(db, &message).await?;
    deliveries::insert_one(db, &message, row.id, &row.target).await?;
    Ok(())
}

async fn send_notices(store: &Store, clock: &dyn Clock, fanout: &Fanout) -> Result<usize, Error> {
    let mut tx = store.begin().await?;
    let disabled = subscriptions::lock_unnoticed(&mut tx, BATCH).await?;
    for row in &disabled {
        warn!(
            subscription = %row.arn(), endpoint = %row.endpoint, reason = %row.disabled_reason,
            "a subscription is disabled"
        );
        send_notice(&mut tx, row, clock, fanout).await?;
    }
    let ids: Vec<Uuid> = disabled.iter().map(|row| row.id).collect();
    if !ids.is_empty() {
        subscriptions::noticed(&mut tx, &ids, clock.now()).await?;
    }
    tx.commit().await?;
    Ok(disabled.len())
}

/// Publishes to the topic that gets notices, if there is one. It is of the same owner, who set it.
async fn send_notice(
    db: &mut PgConnection,
    row: &DisabledRow,
    clock: &dyn Clock,
    fanout: &Fanout,
) -> Result<(), Error> {
    let arn: Option<TopicArn> = row.notice_topic_arn.as_ref().and_then(|text| text.parse().ok());
    let Some(arn) = arn.filter(|arn| arn.account().to_string() == row.topic_owner_id) else {
        return Ok(());
    };
    let Some(topic) = topics::find(db, &arn).await? else { return Ok(()) };
    let body = json!({
        "version": "1",
        "notice": "SubscriptionDisabled",
        "subscriptionArn": row.arn(),
        "subscriptionOwner": row.owner_id,
        "protocol": row.protocol,
        "endpoint": row.endpoint,
        "disabledTime": crate::deliver::message::timestamp(row.disabled_at),
        "failureStreak": row.failure_streak,
        "reason": row.disabled_reason,
    });
    let notice = json!({"Type": "String", "Value": "SubscriptionDisabled"});
    let message = NewMessage {
        subject: Some("Subscription disabled".to_owned()),
        attributes: json!({"notice": notice}).to_string(),
        ..message(topic.id, body.to_string(), clock)
    };
    messages::insert(db, &message).await?;
    fanout.insert(db, std::slice::from_ref(&message), message.published_at).await?;
    Ok(())
}

fn message(topic_id: Uuid, body: String, clock: &dyn Clock) -> NewMessage {
    NewMessage {
        id: Uuid::new_v4(),
        topic_id,
        kind: MessageKind::Notification,
        event_id: None,
        notification_id: None,
        subject: None,
        body,
        variants: None,
        attributes: "{}".to_owned(),
        published_by: POSTERN.to_owned(),
        ordering_key: None,
        trace: Default::default(),
        published_at: clock.now(),
    }
}
