//! Connection notifications: which topics may be told, who is told, and when telling stops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use postern_control_plane::Error;
use postern_control_plane::app::client_tokens::ClientToken;
use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::notifications::{CreateNotification, ModifyNotification, Outcome};
use postern_control_plane::app::{PublishDecision, TopicAccess};
use postern_control_plane::store::notifications::{About, Notification};
use postern_it::cp::doors::Doors;
use postern_it::cp::{code, refusal};
use postern_model::Code;
use postern_model::event::EventKind;
use postern_model::id::{EndpointId, NotificationId, ServiceId};
use postern_proto::page::Page;

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
const OTHER: &str = "arn:aws:sns:us-east-1:111122223333:others";

/// Topics with policies: each lets some sources publish.
#[derive(Default)]
struct Topics {
    /// The sources that a topic lets publish, by the topic's ARN.
    policies: Mutex<BTreeMap<String, Vec<String>>>,
    away: Mutex<bool>,
}

impl Topics {
    fn allow(&self, topic: &str, source: &str) {
        let mut policies = self.policies.lock().unwrap();
        policies.entry(topic.to_owned()).or_default().push(source.to_owned());
    }

    fn deny_all(&self, topic: &str) {
        self.policies.lock().unwrap().insert(topic.to_owned(), Vec::new());
    }
}

#[async_trait]
impl TopicAccess for Topics {
    async fn check_publish(
        &self,
        topic: &str,
        source: &str,
        account: &str,
    ) -> Result<PublishDecision, Error> {
        if *self.away.lock().unwrap() {
            return Err(Error::Unavailable { part: "the dispatcher", source: "away".into() });
        }
        assert!(source.contains(&format!(":{account}:")), "{source} is of another account");
        Ok(match self.policies.lock().unwrap().get(topic) {
            None => PublishDecision::NoSuchTopic,
            Some(sources) if sources.iter().any(|one| one == source) => PublishDecision::Allowed,
            Some(_) => PublishDecision::Denied {
                explanation: format!("no statement lets vpce.amazonaws.com publish for {source}"),
            },
        })
    }
}

async fn doors() -> (Doors, Arc<Topics>) {
    let mut doors = Doors::deciding().await;
    let topics = Arc::new(Topics::default());
    doors.cp.app.topics = topics.clone();
    (doors, topics)
}

fn source_of_service(doors: &Doors) -> String {
    let (owner, id) = (doors.cp.id_of(&doors.provider), doors.service());
    format!("arn:aws:ec2:us-east-1:{owner}:vpc-endpoint-service/{id}")
}

fn source_of(doors: &Doors, id: EndpointId) -> String {
    format!("arn:aws:ec2:us-east-1:{}:vpc-endpoint/{id}", doors.cp.id_of(&doors.consumer))
}

fn about(about: About, events: &[EventKind]) -> CreateNotification {
    let topic = TOPIC.parse().unwrap();
    CreateNotification { about, topic, events: events.to_vec(), client_token: None }
}

async fn of_service(doors: &Doors, events: &[EventKind]) -> Notification {
    let command = about(About::Service(doors.service()), events);
    doors.cp.app.create_notification(&doors.provider, command).await.unwrap()
}

fn page() -> Page {
    Page::parse(0, "").unwrap()
}

#[tokio::test]
async fn a_topic_must_be_there_and_let_vpce_publish() {
    let (doors, topics) = doors().await;
    let app = &doors.cp.app;
    let command = about(About::Service(doors.service()), &EventKind::ALL);
    let missing = refusal(app.create_notification(&doors.provider, command.clone()).await);
    assert_eq!(missing.code, Code::InvalidParameter);
    assert!(missing.message.contains("does not exist"), "{missing:?}");
    topics.deny_all(TOPIC);
    let denied = refusal(app.create_notification(&doors.provider, command.clone()).await);
    assert_eq!(denied.code, Code::InvalidParameter);
    assert!(denied.message.contains("no statement lets vpce.amazonaws.com"), "{denied:?}");
    assert_eq!(denied.field.unwrap().field, "connection_notification_arn");

    *topics.away.lock().unwrap() = true;
    let away = app.create_notification(&doors.provider, command.clone()).await;
    assert!(matches!(away, Err(Error::Unavailable { .. })), "{away:?}");
    *topics.away.lock().unwrap() = false;
    topics.allow(TOPIC, &source_of_service(&doors));
    let made = app.create_notification(&doors.provider, command.clone()).await.unwrap();
    assert!(made.enabled);
    assert_eq!(app.notification(&doors.provider, made.id).await.unwrap(), made);

    let mut elsewhere = command;
    elsewhere.topic = TOPIC.replace("us-east-1", "eu-west-1").parse().unwrap();
    let elsewhere = refusal(app.create_notification(&doors.provider, elsewhere).await);
    assert_eq!(elsewhere.code, Code::InvalidParameter);
    assert!(elsewhere.message.contains("region"), "{elsewhere:?}");
}

#[tokio::test]
async fn one_is_told_about_ones_own_things_only() {
    let (doors, topics) = doors().await;
    let app = &doors.cp.app;
    let endpoint = doors.endpoint().await.id;
    topics.allow(TOPIC, &source_of_service(&doors));
    topics.allow(TOPIC, &source_of(&doors, endpoint));
    let of_service = about(About::Service(doors.service()), &EventKind::ALL);
    let of_endpoint = about(About::Endpoint(endpoint), &EventKind::ALL);
    let none = ServiceId::generate(&mut rand::rng());
    let unknown = about(About::Service(none), &EventKind::ALL);

    let foreign = refusal(app.create_notification(&doors.consumer, of_service).await);
    assert_eq!(foreign.code, Code::InvalidVpcEndpointServiceIdNotFound);
    let unknown = refusal(app.create_notification(&doors.consumer, unknown).await);
    assert_eq!(
        foreign.message.replace(&doors.service().to_string(), "X"),
        unknown.message.replace(&none.to_string(), "X")
    );
    let foreign = app.create_notification(&doors.provider, of_endpoint.clone()).await;
    assert_eq!(code(foreign), Code::InvalidVpcEndpointIdNotFound);

    let made = app.create_notification(&doors.consumer, of_endpoint).await.unwrap();
    let hidden = app.notification(&doors.provider, made.id).await;
    assert_eq!(code(hidden), Code::InvalidConnectionNotification);
    let listed = app.notifications(&doors.consumer, None, Some(endpoint), &page()).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&made));
    assert_eq!(app.notifications(&doors.provider, None, None, &page()).await.unwrap(), []);
    let failed = app.delete_notifications(&doors.provider, &[made.id]).await.unwrap();
    assert_eq!(failed[0].refusal.code, Code::InvalidConnectionNotification);
    let failed = app.delete_notifications(&doors.consumer, &[made.id]).await.unwrap();
    assert_eq!(failed, []);
    let gone = app.notification(&doors.consumer, made.id).await;
    assert_eq!(code(gone), Code::InvalidConnectionNotification);
}

#[tokio::test]
async fn an_event_names_the_notifications_that_asked_for_it_then() {
    let (doors, topics) = doors().await;
    topics.allow(TOPIC, &source_of_service(&doors));
    let connects = of_service(&doors, &[EventKind::Connect]).await;
    let rejects = of_service(&doors, &[EventKind::Reject, EventKind::Delete]).await;
    let endpoint = doors.endpoint().await.id;
    let other = doors.endpoint().await.id;
    topics.allow(TOPIC, &source_of(&doors, endpoint));
    let own = doors
        .cp
        .app
        .create_notification(&doors.consumer, about(About::Endpoint(endpoint), &EventKind::ALL))
        .await
        .unwrap();
    doors.decide(endpoint, Decision::Accept).await;
    doors.decide(endpoint, Decision::Reject).await;
    let deleted = doors.cp.app.delete_notifications(&doors.provider, &[rejects.id]).await.unwrap();
    assert_eq!(deleted, []);
    doors.delete(endpoint).await;
    doors.decide(other, Decision::Reject).await;

    let notified: Vec<(&str, Vec<NotificationId>)> = doors
        .events(endpoint)
        .await
        .iter()
        .map(|event| {
            let ids = event.data.notifications.iter().map(|one| one.notification_id).collect();
            (event.data.event.as_str(), ids)
        })
        .collect();
    let mut both = vec![rejects.id, own.id];
    both.sort();
    let expected = [
        ("Connect", vec![connects.id]),
        ("Accept", vec![own.id]),
        ("Reject", both),
        ("Delete", vec![own.id]),
    ];
    assert_eq!(notified, expected);
    let events = doors.events(endpoint).await;
    let connect = &events[0].data.notifications[0];
    assert_eq!(connect.source_arn, source_of_service(&doors));
    assert_eq!(connect.owner_account, doors.cp.id_of(&doors.provider));
    assert_eq!(connect.topic_arn, TOPIC);
    assert_eq!(events[1].data.notifications[0].source_arn, source_of(&doors, endpoint));
    let of_other = doors.events(other).await;
    assert!(of_other[1].data.notifications.is_empty(), "it is about the one endpoint");

    // With the endpoint goes what is about it, after its last event.
    doors.obey().await;
    let gone = doors.cp.app.notification(&doors.consumer, own.id).await;
    assert_eq!(code(gone), Code::InvalidConnectionNotification);
}

async fn tell(doors: &Doors, notification: NotificationId, event: &str, allowed: bool) {
    let outcome = Outcome {
        notification,
        event: event.to_owned(),
        allowed,
        reason: "the policy of the topic denies it".to_owned(),
    };
    doors.cp.app.report_outcome(outcome).await.unwrap();
}

#[tokio::test]
async fn three_denials_in_a_row_disable_a_notification_and_a_change_enables_it_again() {
    let (doors, topics) = doors().await;
    let app = &doors.cp.app;
    topics.allow(TOPIC, &source_of_service(&doors));
    let id = of_service(&doors, &EventKind::ALL).await.id;
    let enabled = async || app.notification(&doors.provider, id).await.unwrap().enabled;
    tell(&doors, id, "1", false).await;
    tell(&doors, id, "2", false).await;
    // Told twice is happened once.
    tell(&doors, id, "2", false).await;
    assert!(enabled().await);
    tell(&doors, id, "3", true).await;
    tell(&doors, id, "4", false).await;
    tell(&doors, id, "5", false).await;
    assert!(enabled().await, "one that was let through starts the count anew");
    tell(&doors, id, "6", false).await;
    let disabled = app.notification(&doors.provider, id).await.unwrap();
    assert!(!disabled.enabled);
    assert_eq!(disabled.disabled_reason, "the policy of the topic denies it");
    let silent = doors.endpoint().await.id;
    assert!(doors.events(silent).await[0].data.notifications.is_empty(), "events are dropped");
    // What became of a notification that is not there any more is no matter.
    tell(&doors, NotificationId::generate(&mut rand::rng()), "7", false).await;

    let again = ModifyNotification { id, topic: None, events: None };
    topics.deny_all(TOPIC);
    let refused = refusal(app.modify_notification(&doors.provider, again.clone()).await);
    assert_eq!(refused.code, Code::InvalidParameter);
    assert!(!enabled().await);
    topics.allow(TOPIC, &source_of_service(&doors));
    let modified = app.modify_notification(&doors.provider, again).await.unwrap();
    assert!(modified.enabled);
    assert_eq!((modified.disabled_reason.as_str(), modified.topic_arn.as_str()), ("", TOPIC));
    let heard = doors.endpoint().await.id;
    assert_eq!(doors.events(heard).await[0].data.notifications.len(), 1);
}

#[tokio::test]
async fn a_notification_changes_its_topic_and_its_events() {
    let (doors, topics) = doors().await;
    let app = &doors.cp.app;
    topics.allow(TOPIC, &source_of_service(&doors));
    let made = of_service(&doors, &[EventKind::Connect]).await;
    let change = ModifyNotification {
        id: made.id,
        topic: Some(OTHER.parse().unwrap()),
        events: Some(vec![EventKind::Delete]),
    };
    let refused = refusal(app.modify_notification(&doors.provider, change.clone()).await);
    assert!(refused.message.contains("does not exist"), "{refused:?}");
    topics.allow(OTHER, &source_of_service(&doors));
    let changed = app.modify_notification(&doors.provider, change.clone()).await.unwrap();
    assert_eq!(
        (changed.topic_arn.as_str(), &changed.events[..]),
        (OTHER, &[EventKind::Delete][..])
    );
    let foreign = app.modify_notification(&doors.consumer, change).await;
    assert_eq!(code(foreign), Code::InvalidConnectionNotification);
}

#[tokio::test]
async fn notifications_are_counted_and_a_repeat_is_not_another_one() {
    let (mut doors, topics) = doors().await;
    doors.set(|settings| settings.quotas.notifications_per_resource = 2);
    topics.allow(TOPIC, &source_of_service(&doors));
    let app = &doors.cp.app;
    let client_token = ClientToken::read("t".to_owned()).unwrap();
    let once = about(About::Service(doors.service()), &[EventKind::Connect]);
    let command = CreateNotification { client_token, ..once.clone() };
    let made = app.create_notification(&doors.provider, command.clone()).await.unwrap();
    // The policy is not asked for what is there already.
    topics.deny_all(TOPIC);
    let again = app.create_notification(&doors.provider, command.clone()).await.unwrap();
    assert_eq!(again, made);
    topics.allow(TOPIC, &source_of_service(&doors));
    let different = CreateNotification { events: vec![EventKind::Accept], ..command };
    let mismatch = app.create_notification(&doors.provider, different).await;
    assert_eq!(code(mismatch), Code::IdempotentParameterMismatch);
    app.create_notification(&doors.provider, once.clone()).await.unwrap();
    let full = app.create_notification(&doors.provider, once).await;
    assert_eq!(code(full), Code::ResourceLimitExceeded);

    let deleted = doors.service();
    app.delete_services(&doors.provider, &[deleted]).await.unwrap();
    let gone = app.notifications(&doors.provider, None, None, &page()).await.unwrap();
    assert_eq!(gone, [], "with the service goes what is about it");
}

#[tokio::test]
async fn a_topic_with_another_policy_gets_back_the_notifications_that_it_lets_publish_now() {
    let (doors, topics) = doors().await;
    let app = &doors.cp.app;
    let topic = TOPIC.parse().unwrap();
    topics.allow(TOPIC, &source_of_service(&doors));
    let id = of_service(&doors, &EventKind::ALL).await.id;
    for event in ["1", "2", "3"] {
        tell(&doors, id, event, false).await;
    }
    let shown = async || app.notification(&doors.provider, id).await.unwrap();
    assert!(!shown().await.enabled);
    topics.deny_all(TOPIC);
    assert_eq!(app.topic_policy_changed(&topic).await.unwrap(), 0);
    assert!(!shown().await.enabled, "it still does not let it publish");
    topics.allow(TOPIC, &source_of_service(&doors));
    let other = "arn:aws:sns:us-east-1:111122223333:other".parse().unwrap();
    assert_eq!(app.topic_policy_changed(&other).await.unwrap(), 0);
    assert_eq!(app.topic_policy_changed(&topic).await.unwrap(), 1);
    let enabled = shown().await;
    assert!(enabled.enabled && enabled.disabled_reason.is_empty());
    assert_eq!(app.topic_policy_changed(&topic).await.unwrap(), 0, "a repeat changes nothing");
    // The count begins anew.
    tell(&doors, id, "4", false).await;
    assert!(shown().await.enabled);
}
