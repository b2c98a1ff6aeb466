//! Looking at deliveries, and sending them again.

use chrono::{DateTime, SecondsFormat, Utc};
use postern_model::arn::{SubscriptionArn, TopicArn};
use postern_model::{Code, Refusal};
use postern_proto::page::Page;
use postern_runtime::telemetry;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::deliveries::inspect::{
    self, AttemptRow, DeliveryRow, Filter, Replayed, WatchedRow,
};
use crate::store::deliveries::{self, DeliveryState};
use crate::store::messages::{self, MessageKind, NewMessage};
use crate::store::topics;
use crate::store::topics::TopicRow;

/// Deliveries that are made due again in one transaction.
const REPLAY_BATCH: i64 = 1000;
/// Attempts that a watcher is told of at a time.
const WATCH_BATCH: i64 = 200;
/// How far behind the newest attempt a late one may be: its number was given out before it was seen.
const LATE: i64 = 1000;

/// A delivery with its attempts.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The delivery.
    pub delivery: DeliveryRow,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// Asks for a page of deliveries.
#[derive(Clone, Debug)]
pub struct ListDeliveries {
    /// The topic.
    pub topic: TopicArn,
    /// Only those to this subscription.
    pub subscription: Option<SubscriptionArn>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of this message.
    pub message: Option<Uuid>,
    /// Only those of this event.
    pub event: Option<Uuid>,
    /// Only those made from then on.
    pub from: Option<DateTime<Utc>>,
    /// Only those made before.
    pub until: Option<DateTime<Utc>>,
    /// Which page.
    pub page: Page,
}

/// Asks to send deliveries again.
#[derive(Clone, Debug)]
pub struct ReplayDeliveries {
    /// The topic.
    pub topic: TopicArn,
    /// Only those to this subscription.
    pub subscription: Option<SubscriptionArn>,
    /// Only those made from then on.
    pub from: Option<DateTime<Utc>>,
    /// Only those made before.
    pub until: Option<DateTime<Utc>>,
    /// Those too that were taken.
    pub delivered: bool,
}

/// What somebody watches.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    topic: Uuid,
    subscription: Option<Uuid>,
    from: i64,
    last: i64,
}

/// A message that is sent as a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The delivery.
    pub delivery: Uuid,
    /// The message.
    pub message: Uuid,
}

fn no_delivery(id: Uuid) -> Error {
    let message = format!("the delivery {id} does not exist");
    Refusal::of_field(Code::NotFound, "delivery_id", message).into()
}

impl App {
    /// One of the caller's topics.
    async fn own_topic(
        &self,
        db: &mut PgConnection,
        caller: &Caller,
        arn: &TopicArn,
    ) -> Result<TopicRow, Error> {
        let (account, _) = caller.account()?;
        let topic = if arn.account() == account && *arn.region() == self.region {
            topics::find(db, arn).await?
        } else {
            None
        };
        topic.ok_or_else(|| super::no_topic(arn))
    }

    /// Makes one ended delivery due again.
    ///
    /// # Errors
    /// When there is none, or it can't be sent again.
    pub async fn replay_delivery(&self, caller: &Caller, id: Uuid) -> Result<Inspected, Error> {
        let (account, _) = caller.account()?;
        let mut db = self.store.connection().await?;
        let region = self.region.as_str();
        let delivery =
            inspect::find(&mut db, account, region, id).await?.ok_or_else(|| no_delivery(id))?;
        let wrong = |why: &str| Refusal::of_field(Code::InvalidState, "delivery_id", why);
        if delivery.state == DeliveryState::Pending.as_str() {
            return Err(wrong("the delivery is still on its way").into());
        }
        let arn = delivery.topic_arn().parse().map_err(|error| Error::Internal(Box::new(error)))?;
        let topic = self.own_topic(&mut db, caller, &arn).await?;
        let asked = Replayed {
            states: vec!["delivered", "dead-lettered", "dropped"],
            delivery: Some(id),
            ..Replayed::default()
        };
        let replayed = inspect::replay(&mut db, topic.id, &asked, 1, self.clock.now()).await?;
        if replayed.is_empty() {
            let why = "only a message can be sent again, and only to a confirmed subscription";
            return Err(wrong(why).into());
        }
        drop(db);
        self.due.notify_one();
        self.get_delivery(caller, id).await
    }

    /// Makes ended deliveries of a topic due again; says how many.
    ///
    /// # Errors
    /// When the topic isn't the caller's, or everything is asked for without a beginning.
    pub async fn replay_deliveries(
        &self,
        caller: &Caller,
        asked: ReplayDeliveries,
    ) -> Result<u64, Error> {
        if asked.delivered && asked.from.is_none() {
            let why = "is needed where deliveries that were taken are sent again too";
            return Err(Refusal::of_field(Code::InvalidParameter, "from_time", why).into());
        }
        let mut db = self.store.connection().await?;
        let topic = self.own_topic(&mut db, caller, &asked.topic).await?;
        // What ends while this runs is not sent again and again.
        let now = self.clock.now();
        let mut states = vec![DeliveryState::DeadLettered.as_str()];
        if asked.delivered {
            states.push(DeliveryState::Delivered.as_str());
        }
        let chosen = Replayed {
            states,
            from: asked.from,
            until: asked.until,
            subscription: asked.subscription.map(|arn| arn.id()),
            delivery: None,
            ended_before: Some(now),
        };
        let mut replayed = 0;
        loop {
            let some = inspect::replay(&mut db, topic.id, &chosen, REPLAY_BATCH, now).await?;
            replayed += some.len() as u64;
            self.due.notify_one();
            if (some.len() as i64) < REPLAY_BATCH {
                return Ok(replayed);
            }
        }
    }

    /// Sends a test message to one subscription.
    ///
    /// # Errors
    /// When there is no such subscription for the caller, or it isn't confirmed.
    pub async fn send_test_event(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
    ) -> Result<Sent, Error> {
        let (_, principal) = caller.account()?;
        let subscription = self.get_subscription(caller, arn).await?;
        if subscription.state != "confirmed" {
            let why = "the subscription is not confirmed";
            return Err(Refusal::of_field(Code::InvalidState, "subscription_arn", why).into());
        }
        let now = self.clock.now();
        let body = json!({
            "version": "1",
            "event": "Test",
            "time": now.to_rfc3339_opts(SecondsFormat::Millis, true),
            "region": self.region,
            "subscriptionArn": arn.to_string(),
        });
        let message = NewMessage {
            id: Uuid::new_v4(),
            topic_id: subscription.topic_id,
            kind: MessageKind::Notification,
            event_id: None,
            notification_id: None,
            subject: Some("Test of a subscription".to_owned()),
            body: body.to_string(),
            variants: None,
            attributes: json!({"event": {"Type": "String", "Value": "Test"}}).to_string(),
            published_by: principal.to_owned(),
            ordering_key: None,
            trace: telemetry::inject(&tracing::Span::current()),
            published_at: now,
        };
        let sent = Sent { delivery: Uuid::new_v4(), message: message.id };
        let mut tx = self.store.begin().await?;
        messages::insert(&mut tx, &message).await?;
        deliveries::insert_test(&mut tx, sent.delivery, sent.message, subscription.id, now).await?;
        tx.commit().await?;
        self.due.notify_one();
        Ok(sent)
    }

    /// Begins to watch the attempts at a topic's deliveries.
    ///
    /// # Errors
    /// When the topic isn't the caller's.
    pub async fn watch_deliveries(
        &self,
        caller: &Caller,
        topic: &TopicArn,
        subscription: Option<&SubscriptionArn>,
    ) -> Result<Watch, Error> {
        let mut db = self.store.connection().await?;
        let topic = self.own_topic(&mut db, caller, topic).await?.id;
        let from = inspect::last_attempt(&mut db, topic).await?;
        Ok(Watch { topic, subscription: subscription.map(SubscriptionArn::id), from, last: from })
    }

    /// The attempts that ended since the last look: each with its delivery as it is now. `seen` are
    /// those that were told of.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn watched(
        &self,
        caller: &Caller,
        watch: &mut Watch,
        seen: &mut std::collections::BTreeSet<i64>,
    ) -> Result<Vec<Inspected>, Error> {
        let (account, _) = caller.account()?;
        let mut db = self.store.connection().await?;
        let after = (watch.last - LATE).max(watch.from);
        let limit = WATCH_BATCH + LATE;
        let rows = inspect::watch(&mut db, watch.topic, watch.subscription, after, limit).await?;
        let mut told = Vec::new();
        for WatchedRow { attempt_seq, delivery_id, attempt } in rows {
            watch.last = watch.last.max(attempt_seq);
            if !seen.insert(attempt_seq) {
                continue;
            }
            let region = self.region.as_str();
            if let Some(delivery) = inspect::find(&mut db, account, region, delivery_id).await? {
                told.push(Inspected { delivery, attempts: vec![attempt] });
            }
        }
        // What is older than this is not asked for any more.
        *seen = seen.split_off(&(watch.last - LATE));
        Ok(told)
    }

    /// A delivery of one of the caller's topics.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get_delivery(&self, caller: &Caller, id: Uuid) -> Result<Inspected, Error> {
        let (account, _) = caller.account()?;
        let mut db = self.store.connection().await?;
        let delivery = inspect::find(&mut db, account, self.region.as_str(), id).await?;
        let delivery = delivery.ok_or_else(|| no_delivery(id))?;
        let attempts = inspect::attempts(&mut db, id, delivery.created_at).await?;
        Ok(Inspected { delivery, attempts })
    }

    /// A page of the deliveries of one of the caller's topics, and the token of the next.
    ///
    /// # Errors
    /// When the topic isn't the caller's.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        asked: ListDeliveries,
    ) -> Result<(Vec<DeliveryRow>, String), Error> {
        let before = asked.page.after.as_deref().map(str::parse::<i64>).transpose();
        let before = before.map_err(|_| {
            let message = "no list of deliveries gave out this token";
            Refusal::of_field(Code::InvalidNextToken, "page_token", message)
        })?;
        let mut db = self.store.connection().await?;
        let topic = self.own_topic(&mut db, caller, &asked.topic).await?;
        let filter = Filter {
            subscription: asked.subscription.map(|arn| arn.id()),
            state: asked.state.map(DeliveryState::as_str),
            message: asked.message,
            event: asked.event,
            from: asked.from,
            until: asked.until,
            before,
        };
        let mut rows = inspect::list(&mut db, topic.id, filter, asked.page.limit()).await?;
        let token = asked.page.cut(&mut rows, |row| row.seq.to_string());
        Ok((rows, token))
    }
}
