//! Takes events from the bus and turns them into messages of topics.
//!
//! What has come in is one transaction: the inbox rows, the topics' decisions, the messages and their
//! deliveries. The events are acknowledged when that is durable, so none is lost; and since a repeat
//! finds its inbox row, each has its effect once. While the database is away they are held,
//! unacknowledged and in their places: giving them back would use up their delivery limit and their
//! order.

pub mod amqp;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::FutureExt as _;
use postern_model::arn::TopicArn;
use postern_model::event::{CloudEvent, EndpointHappening, Notified};
use postern_model::policy::{
    Context, Decision, ENDPOINT_EVENTS, Effect, Element, Policy, Request, Requester,
    suggested_statement,
};
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{Delivery, Message, SettleError, Source, SourceError};
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, error, info, info_span, warn};
use uuid::Uuid;

use crate::error::Error;
use crate::fanout::Fanout;
use crate::metrics::ConsumeMetrics;
use crate::store::messages::{MessageKind, NewMessage};
use crate::store::outcomes::NewOutcome;
use crate::store::topics::TopicRow;
use crate::store::{Store, inbox, messages, outcomes, topics};

/// While the database or the broker is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// Events of one transaction.
const BATCH: usize = 256;

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
    /// Finds who wants a message.
    pub fanout: Fanout,
    /// What is counted.
    pub metrics: ConsumeMetrics,
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
                    let mut batch = vec![delivery];
                    // Whatever else is here already: a batch costs little more than one event.
                    while batch.len() < BATCH
                        && let Some(Ok(more)) = source.next().now_or_never()
                    {
                        batch.push(more);
                    }
                    tokio::select! {
                        biased;
                        () = stop.killed() => return Ok(()),
                        taken = self.take(batch, &stop) => if !taken { return Ok(()) },
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

    /// Handles a batch to its end; false when it was left because of a stop.
    async fn take(&self, batch: Vec<Delivery>, stop: &Stop) -> bool {
        let (mut events, mut good) = (Vec::with_capacity(batch.len()), Vec::new());
        for delivery in batch {
            match read(&delivery.message) {
                Ok(event) => {
                    events.push((event, delivery.message.headers.clone()));
                    good.push(delivery);
                }
                Err(reason) => {
                    let event = delivery.message.id;
                    error!(%event, reason, "an event is malformed, putting it aside");
                    self.metrics.event("malformed");
                    settle(delivery.reject().await);
                }
            }
        }
        let mut away = AWAY.delays(crate::randomness());
        while !good.is_empty() {
            match self.handle(&events).await {
                Ok(new) => {
                    for delivery in good {
                        let new = new.contains(&delivery.message.id);
                        self.metrics.event(if new { "taken" } else { "repeated" });
                        settle(delivery.ack().await);
                    }
                    return true;
                }
                // The database is there and does not like one of them: the others shall not wait.
                Err(Error::Internal(error)) if good.len() > 1 => {
                    warn!(%error, "a batch of events was not taken, taking them one by one");
                    for one in good {
                        if !Box::pin(self.take(vec![one], stop)).await {
                            return false;
                        }
                    }
                    return true;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    warn!(
                        error = format!("{error:#}"),
                        events = good.len(),
                        "holding events, trying again"
                    );
                    tokio::select! {
                        () = sleep(away.next().unwrap_or(AWAY.max)) => {}
                        // Dropped unsettled, they come again.
                        () = stop.stopped() => return false,
                    }
                }
            }
        }
        true
    }

    /// Stores everything that follows from the events; answers which of them are new.
    async fn handle(
        &self,
        batch: &[(CloudEvent, BTreeMap<String, String>)],
    ) -> Result<HashSet<Uuid>, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let ids: Vec<Uuid> = batch.iter().map(|(event, _)| event.id).collect();
        let new = inbox::insert(&mut tx, &ids, now).await?;
        // The same event may come twice in one batch.
        let mut seen = HashSet::new();
        let mut known: HashMap<&str, Option<TopicRow>> = HashMap::new();
        let (mut told, mut published) = (Vec::new(), Vec::new());
        for (event, headers) in batch {
            if !new.contains(&event.id) || !seen.insert(event.id) {
                continue;
            }
            let span = info_span!(
                "endpoint event",
                trace_id = tracing::field::Empty,
                event = %event.id,
                kind = %event.data.event,
                key = %event.data.vpc_endpoint_id,
            );
            telemetry::set_parent(&span, headers);
            let trace = telemetry::inject(&span);
            for notified in &event.data.notifications {
                let arn = notified.topic_arn.as_str();
                if !known.contains_key(arn) {
                    let topic = match arn.parse::<TopicArn>() {
                        Ok(arn) if arn.region().as_str() == self.region => {
                            topics::find(&mut tx, &arn).await?
                        }
                        _ => None,
                    };
                    known.insert(arn, topic);
                }
                let topic = known.get(arn).and_then(Option::as_ref);
                let reason = span.in_scope(|| refusal(topic, notified, now));
                self.metrics.publish(reason.is_none());
                if let Some(reason) = &reason {
                    span.in_scope(|| {
                        info!(topic = arn, reason, "the topic does not take the event")
                    });
                } else if let Some(topic) = topic {
                    published.push(new_message(topic, event, notified, trace.clone(), now));
                }
                told.push(NewOutcome {
                    event_id: event.id,
                    notification_id: notified.notification_id.to_string(),
                    topic_arn: arn.to_owned(),
                    allowed: reason.is_none(),
                    reason: reason.unwrap_or_default(),
                });
            }
        }
        outcomes::insert(&mut tx, &told, now).await?;
        if !published.is_empty() {
            let kind = MessageKind::Notification;
            messages::insert_batch(&mut tx, kind, &published, ENDPOINT_EVENTS, now).await?;
            let made = self.fanout.insert(&mut tx, &published, now).await?;
            debug!(messages = published.len(), deliveries = made, "published");
        }
        tx.commit().await?;
        self.due.notify_one();
        self.decided.notify_one();
        Ok(new)
    }
}

fn settle(settled: Result<(), SettleError>) {
    if let Err(error) = settled {
        warn!(%error, "an event could not be settled: it will come again, to no effect");
    }
}

/// The event that a message carries, or what is wrong with it for good.
fn read(message: &Message) -> Result<CloudEvent, String> {
    let event: CloudEvent =
        serde_json::from_slice(&message.body).map_err(|error| error.to_string())?;
    if event.specversion != "1.0" {
        return Err(format!("CloudEvents {:?}", event.specversion));
    }
    if event.id != message.id {
        return Err("its id is not the message's".to_owned());
    }
    Ok(event)
}

fn new_message(
    topic: &TopicRow,
    event: &CloudEvent,
    notified: &Notified,
    trace: BTreeMap<String, String>,
    now: DateTime<Utc>,
) -> NewMessage {
    NewMessage {
        id: Uuid::new_v4(),
        topic_id: topic.id,
        kind: MessageKind::Notification,
        event_id: Some(event.id),
        notification_id: Some(notified.notification_id.to_string()),
        subject: Some(format!("VPC endpoint {}", event.data.event)),
        body: payload(event, notified).to_string(),
        variants: None,
        attributes: attributes(&event.data).to_string(),
        published_by: ENDPOINT_EVENTS.to_owned(),
        ordering_key: Some(event.data.vpc_endpoint_id.to_string()),
        trace,
        published_at: now,
    }
}

/// Why the topic does not let the notification publish; `None` when it does.
fn refusal(topic: Option<&TopicRow>, notified: &Notified, now: DateTime<Utc>) -> Option<String> {
    let Some(topic) = topic else { return Some("the topic does not exist".to_owned()) };
    explain_denial(topic, &notified.source_arn, &notified.owner_account.to_string(), now)
}

/// Why the topic's policy does not let `vpce.amazonaws.com` publish for this source; `None` when it
/// does. The same question is asked when a notification is made.
pub(crate) fn explain_denial(
    topic: &TopicRow,
    source_arn: &str,
    source_account: &str,
    now: DateTime<Utc>,
) -> Option<String> {
    // It was parsed when it was set; a later version that reads it no longer must not let anyone in.
    let Ok(policy) = Policy::parse(&topic.policy) else {
        return Some("the topic's policy cannot be read".to_owned());
    };
    let arn = format!("arn:aws:sns:{}:{}:{}", topic.region, topic.owner_id, topic.name);
    let requester = Requester::Service(ENDPOINT_EVENTS);
    let request = Request {
        requester,
        action: "SNS:Publish",
        resource: &arn,
        context: Context::of(requester, now).with_source(source_arn, source_account),
    };
    match policy.evaluate(&request) {
        Decision::Allowed { .. } => None,
        Decision::Denied { by } => {
            Some(format!("{} of the topic's policy denies SNS:Publish", policy.statement_name(by)))
        }
        Decision::NotAllowed => {
            let suggestion = arn
                .parse()
                .map(|arn| suggested_statement(&arn, source_arn, source_account))
                .unwrap_or_default();
            Some(format!(
                "no statement of the topic's policy allows {ENDPOINT_EVENTS} to do SNS:Publish \
                 for {source_arn}{}; this one would: {suggestion}",
                nearest(&policy, &request)
            ))
        }
    }
}

/// The statement that would allow it, were it not for a condition: where the fault is, most likely.
fn nearest(policy: &Policy, request: &Request<'_>) -> String {
    let explanation = policy.explain(request);
    let nearest = explanation.statements.iter().find(|trace| {
        trace.effect == Effect::Allow
            && trace
                .mismatch
                .as_ref()
                .is_some_and(|mismatch| matches!(mismatch.element, Element::Condition(_)))
    });
    nearest.map(|trace| format!(" ({trace})")).unwrap_or_default()
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
