//! Takes events from the bus and turns them into messages of topics.
//!
//! One event is one transaction: the inbox row, the topics' decisions, the messages and their
//! deliveries. The event is acknowledged when that is durable, so it is never lost; and since a
//! repeat finds its inbox row, it has its effect once. While the database is away the event is held,
//! unacknowledged and in its place: giving it back would use up its delivery limit and its order.

pub mod amqp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use postern_model::arn::TopicArn;
use postern_model::event::{CloudEvent, EndpointHappening, Notified};
use postern_model::policy::{
    Context, Decision, ENDPOINT_EVENTS, Policy, Request, Requester, suggested_statement,
};
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{Delivery, Message, Source, SourceError};
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{Instrument as _, debug, error, info, info_span, warn};
use uuid::Uuid;

use crate::error::Error;
use crate::metrics::ConsumeMetrics;
use crate::store::messages::{MessageKind, NewMessage};
use crate::store::outcomes::NewOutcome;
use crate::store::topics::TopicRow;
use crate::store::{Store, deliveries, inbox, messages, outcomes, topics};

/// While the database or the broker is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// Takes events from a source.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Where everything is kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The region that topics are in.
    pub region: String,
    /// Poked when deliveries were made.
    pub due: Arc<Notify>,
    /// Poked when there are outcomes to report.
    pub decided: Arc<Notify>,
    /// What is counted.
    pub metrics: ConsumeMetrics,
}

/// Why an event has no effect.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// It is not what it should be, and never will be.
    #[error("the event is malformed: {0}")]
    Malformed(String),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Consumer {
    /// Takes events until asked to stop.
    ///
    /// # Errors
    /// When the source has closed for good.
    pub async fn run(self, mut source: Box<dyn Source>, stop: Stop) -> anyhow::Result<()> {
        let mut away = AWAY.delays(crate::randomness());
        loop {
            let next = tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                next = source.next() => next,
            };
            match next {
                Ok(delivery) => {
                    away.reset();
                    tokio::select! {
                        biased;
                        () = stop.killed() => return Ok(()),
                        taken = self.take(delivery, &stop) => if !taken { return Ok(()) },
                    }
                }
                Err(SourceError::Closed) if stop.is_stopping() => return Ok(()),
                Err(error @ SourceError::Closed) => return Err(error.into()),
                Err(error @ SourceError::Unavailable(_)) => {
                    let error = anyhow::Error::from(error);
                    warn!(error = format!("{error:#}"), "cannot get events, trying again");
                    tokio::select! {
                        () = sleep(away.next().unwrap_or(AWAY.max)) => {}
                        () = stop.stopped() => return Ok(()),
                    }
                }
            }
        }
    }

    /// Handles one event to its end; false when it was left because of a stop.
    async fn take(&self, delivery: Delivery, stop: &Stop) -> bool {
        let span = info_span!(
            "endpoint event",
            trace_id = tracing::field::Empty,
            event = %delivery.message.id,
            kind = %delivery.message.kind,
            key = %delivery.message.key,
        );
        telemetry::set_parent(&span, &delivery.message.headers);
        let take = async {
            let mut away = AWAY.delays(crate::randomness());
            let settled = loop {
                match self.handle(&delivery.message).await {
                    Ok(new) => {
                        self.metrics.event(if new { "taken" } else { "repeated" });
                        break delivery.ack().await;
                    }
                    Err(Fault::Malformed(reason)) => {
                        error!(reason, "an event is malformed, putting it aside");
                        self.metrics.event("malformed");
                        break delivery.reject().await;
                    }
                    Err(Fault::Store(error)) => {
                        let error = anyhow::Error::from(error);
                        warn!(error = format!("{error:#}"), "holding an event, trying again");
                        tokio::select! {
                            () = sleep(away.next().unwrap_or(AWAY.max)) => {}
                            // Dropped unsettled, it comes again.
                            () = stop.stopped() => return false,
                        }
                    }
                }
            };
            if let Err(error) = settled {
                warn!(%error, "an event could not be settled: it will come again, to no effect");
            }
            true
        };
        take.instrument(span).await
    }

    /// Stores everything that follows from an event; false when that was done before.
    async fn handle(&self, message: &Message) -> Result<bool, Fault> {
        let event: CloudEvent = serde_json::from_slice(&message.body)
            .map_err(|error| Fault::Malformed(error.to_string()))?;
        if event.specversion != "1.0" {
            return Err(Fault::Malformed(format!("CloudEvents {:?}", event.specversion)));
        }
        if event.id != message.id {
            return Err(Fault::Malformed("its id is not the message's".to_owned()));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if !inbox::insert(&mut tx, event.id, now).await? {
            debug!("the event was taken before");
            return Ok(false);
        }
        let trace = telemetry::inject(&tracing::Span::current());
        for notified in &event.data.notifications {
            self.publish(&mut tx, &event, notified, &trace).await?;
        }
        tx.commit().await?;
        self.due.notify_one();
        self.decided.notify_one();
        Ok(true)
    }

    async fn publish(
        &self,
        db: &mut PgConnection,
        event: &CloudEvent,
        notified: &Notified,
        trace: &BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        let now = self.clock.now();
        let topic = match notified.topic_arn.parse::<TopicArn>() {
            Ok(arn) if arn.region().as_str() == self.region => topics::find(db, &arn).await?,
            _ => None,
        };
        let reason = refusal(topic.as_ref(), notified);
        self.metrics.publish(reason.is_none());
        let notification_id = notified.notification_id.to_string();
        let outcome = NewOutcome {
            event_id: event.id,
            notification_id: &notification_id,
            topic_arn: &notified.topic_arn,
            allowed: reason.is_none(),
            reason: reason.as_deref().unwrap_or_default(),
            created_at: now,
        };
        outcomes::insert(db, outcome).await?;
        if let Some(reason) = reason {
            info!(topic = %notified.topic_arn, reason, "the topic does not take the event");
            return Ok(());
        }
        let Some(topic) = topic else { return Ok(()) };
        let endpoint = event.data.vpc_endpoint_id.to_string();
        let message = NewMessage {
            id: Uuid::new_v4(),
            topic_id: topic.id,
            kind: MessageKind::Notification,
            event_id: Some(event.id),
            notification_id: Some(notification_id),
            subject: Some(format!("VPC endpoint {}", event.data.event)),
            body: payload(event, notified).to_string(),
            attributes: attributes(&event.data).to_string(),
            published_by: ENDPOINT_EVENTS.to_owned(),
            ordering_key: Some(endpoint),
            trace: trace.clone(),
            published_at: now,
        };
        messages::insert(db, &message).await?;
        let key = message.ordering_key.as_deref();
        let made = deliveries::insert_for_confirmed(db, topic.id, message.id, key, now).await?;
        debug!(topic = %notified.topic_arn, message = %message.id, deliveries = made, "published");
        Ok(())
    }
}

/// Why the topic does not let the notification publish; `None` when it does.
fn refusal(topic: Option<&TopicRow>, notified: &Notified) -> Option<String> {
    let Some(topic) = topic else { return Some("the topic does not exist".to_owned()) };
    explain_denial(topic, &notified.source_arn, &notified.owner_account.to_string())
}

/// Why the topic's policy does not let `vpce.amazonaws.com` publish for this source; `None` when it
/// does. The same question is asked when a notification is made.
pub(crate) fn explain_denial(
    topic: &TopicRow,
    source_arn: &str,
    source_account: &str,
) -> Option<String> {
    // It was parsed when it was set; a later version that reads it no longer must not let anyone in.
    let Ok(policy) = Policy::parse(&topic.policy) else {
        return Some("the topic's policy cannot be read".to_owned());
    };
    let arn = format!("arn:aws:sns:{}:{}:{}", topic.region, topic.owner_id, topic.name);
    let request = Request {
        requester: Requester::Service(ENDPOINT_EVENTS),
        action: "SNS:Publish",
        resource: &arn,
        context: Context {
            source_arn: Some(source_arn),
            source_account: Some(source_account),
            source_owner: None,
        },
    };
    match policy.evaluate(&request) {
        Decision::Allowed { .. } => None,
        Decision::Denied { by } => {
            let sid = policy.statements.get(by).and_then(|statement| statement.sid.as_deref());
            let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
            Some(format!("Statement[{by}]{sid} of the topic's policy denies SNS:Publish"))
        }
        Decision::NotAllowed => {
            let suggestion = arn
                .parse()
                .map(|arn| suggested_statement(&arn, source_arn, source_account))
                .unwrap_or_default();
            Some(format!(
                "no statement of the topic's policy allows {ENDPOINT_EVENTS} to do SNS:Publish \
                 for {source_arn}; this one would: {suggestion}"
            ))
        }
    }
}

/// The text of the message (spec 7). It carries nothing of the consumer's network.
fn payload(event: &CloudEvent, notified: &Notified) -> Value {
    let data = &event.data;
    json!({
        "version": "1",
        "eventId": event.id,
        "event": data.event,
        "time": data.time.to_rfc3339_opts(SecondsFormat::Millis, true),
        "region": data.region,
        "notificationId": notified.notification_id,
        "serviceId": data.service_id,
        "serviceName": data.service_name,
        "vpcEndpointId": data.vpc_endpoint_id,
        "vpcEndpointOwner": data.vpc_endpoint_owner,
        "vpcEndpointState": data.vpc_endpoint_state,
        "previousState": data.previous_state,
        "acceptanceRequired": data.acceptance_required,
        "actor": data.actor,
    })
}

/// The message's attributes, for filters (spec 7).
fn attributes(data: &EndpointHappening) -> Value {
    let text = |value: String| json!({"Type": "String", "Value": value});
    json!({
        "event": text(data.event.to_string()),
        "serviceId": text(data.service_id.to_string()),
        "vpcEndpointId": text(data.vpc_endpoint_id.to_string()),
        "vpcEndpointOwner": text(data.vpc_endpoint_owner.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use postern_model::endpoint::EndpointState;
    use postern_model::event::{Actor, EventKind, Side};

    use super::*;

    #[test]
    fn the_payload_is_that_of_the_specification() {
        let notified = Notified {
            notification_id: "vpce-nfn-0a1b2c3d4e5f60718".parse().unwrap(),
            topic_arn: "arn:aws:sns:us-east-1:111122223333:t".to_owned(),
            owner_account: "111122223333".parse().unwrap(),
            source_arn: "arn".to_owned(),
        };
        let happening = EndpointHappening {
            event: EventKind::Connect,
            time: "2025-01-02T03:04:05.678Z".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            service_id: "vpce-svc-0a1b2c3d4e5f60718".parse().unwrap(),
            service_name: "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718".to_owned(),
            service_owner: "111122223333".parse().unwrap(),
            vpc_endpoint_id: "vpce-0a1b2c3d4e5f60718".parse().unwrap(),
            vpc_endpoint_owner: "444455556666".parse().unwrap(),
            vpc_endpoint_state: EndpointState::PendingAcceptance,
            previous_state: None,
            acceptance_required: true,
            actor: Actor { side: Side::Consumer, account: Some("444455556666".parse().unwrap()) },
            sequence: 1,
            notifications: Vec::new(),
        };
        let event = CloudEvent::new(Uuid::nil(), happening);
        assert_eq!(
            payload(&event, &notified).to_string(),
            "{\"version\":\"1\",\"eventId\":\"00000000-0000-0000-0000-000000000000\",\
             \"event\":\"Connect\",\"time\":\"2025-01-02T03:04:05.678Z\",\"region\":\"us-east-1\",\
             \"notificationId\":\"vpce-nfn-0a1b2c3d4e5f60718\",\
             \"serviceId\":\"vpce-svc-0a1b2c3d4e5f60718\",\
             \"serviceName\":\"com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718\",\
             \"vpcEndpointId\":\"vpce-0a1b2c3d4e5f60718\",\"vpcEndpointOwner\":\"444455556666\",\
             \"vpcEndpointState\":\"pendingAcceptance\",\"previousState\":null,\
             \"acceptanceRequired\":true,\
             \"actor\":{\"side\":\"consumer\",\"account\":\"444455556666\"}}"
        );
        assert_eq!(
            attributes(&event.data)["vpcEndpointOwner"],
            json!({"Type": "String", "Value": "444455556666"})
        );
    }
}
