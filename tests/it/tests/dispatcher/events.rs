//! Events from the bus: published once, by the topic's policy.

use postern_model::event::EventKind;
use postern_model::id::EndpointId;
use postern_proto::v1;
use postern_testkit::postgres::PrivatePostgres;
use postern_testkit::receiver::{Behaviour, Receiver};
use serde_json::Value;

use crate::world::{PATIENCE, PROVIDER, Setup, World, by, event, message};

/// A confirmed subscription to the topic `doors`.
async fn subscribed(world: &World, receiver: &Receiver) -> String {
    let topic = world.topic().await.topic_arn;
    receiver.confirm(true);
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    topic
}

#[tokio::test]
async fn an_event_arrives_as_a_signed_message_and_its_outcome_is_reported() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    let event = world.happens(EventKind::Connect, &topic).await;
    let request = receiver
        .wait_for(PATIENCE, |request| request.body.contains("\"Notification\""))
        .await
        .unwrap();
    let body = request.json().unwrap();
    assert_eq!(body["Subject"], "VPC endpoint Connect");
    let text: Value = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
    assert_eq!(text["eventId"], event.id.to_string());
    assert_eq!(text["vpcEndpointState"], "pendingAcceptance");
    let attributes = &body["MessageAttributes"];
    assert_eq!(attributes["event"]["Value"], "Connect");
    assert_eq!(attributes["vpcEndpointId"]["Value"], event.subject);
    world.until("the outcome is reported", async || world.heard.all().len() == 1).await;
    assert_eq!(world.heard.all()[0].denied, None);
    let delivery = world.newest(&topic, |delivery| !delivery.event_id.is_empty()).await;
    assert_eq!(delivery.event_id, event.id.to_string());
}

#[tokio::test]
async fn an_event_that_comes_twice_changes_nothing_and_a_malformed_one_is_put_aside() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    let endpoint = EndpointId::generate(&mut rand::rng());
    let first = event(EventKind::Connect, endpoint, &topic);
    world.send(message(&first)).await;
    world.send(message(&first)).await;
    let mut broken = message(&first);
    broken.id = uuid::Uuid::new_v4();
    broken.body = "{}".into();
    world.send(broken).await;
    // Of the same endpoint, and so sent only when all that came before it has been.
    let last = event(EventKind::Accept, endpoint, &topic);
    world.send(message(&last)).await;
    let last = last.id.to_string();
    receiver.wait_for(PATIENCE, |request| request.body.contains(&last)).await.unwrap();
    let of_first = first.id.to_string();
    let copies = receiver.received().into_iter().filter(|one| one.body.contains(&of_first));
    assert_eq!(copies.count(), 1);
    world.until("the malformed one is put aside", async || world.bus.rejected() == 1).await;
}

#[tokio::test]
async fn the_events_of_an_endpoint_are_sent_in_order() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    let endpoint = EndpointId::generate(&mut rand::rng());
    for kind in EventKind::ALL {
        world.send(message(&event(kind, endpoint, &topic))).await;
    }
    let is_event = |one: &postern_testkit::receiver::Received| one.body.contains("VPC endpoint ");
    let came = receiver.wait_for_all(PATIENCE, 4, is_event).await.unwrap();
    let subjects: Vec<String> = came
        .iter()
        .map(|one| one.json().unwrap()["Subject"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> =
        EventKind::ALL.iter().map(|kind| format!("VPC endpoint {kind}")).collect();
    assert_eq!(subjects, expected);
}

#[tokio::test]
async fn a_topic_that_does_not_let_the_event_in_gets_nothing_and_the_denial_is_reported() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    let set = v1::SetTopicAttributesRequest {
        topic_arn: topic.clone(),
        policy: Some(format!(
            r#"{{"Statement": [{{"Sid": "closed", "Effect": "Deny", "Principal": "*",
                "Action": "SNS:Publish", "Resource": "{topic}"}}]}}"#
        )),
        ..Default::default()
    };
    world.client().set_topic_attributes(by(PROVIDER, set)).await.unwrap();
    world.happens(EventKind::Connect, &topic).await;
    world.happens(EventKind::Connect, &topic.replace("doors", "none")).await;
    world.until("both outcomes are reported", async || world.heard.all().len() == 2).await;
    let reasons: Vec<String> =
        world.heard.all().into_iter().filter_map(|outcome| outcome.denied).collect();
    // Of two endpoints, and so in either order.
    for part in ["Statement[0] (closed)", "does not exist"] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{reasons:?}");
    }
    assert_eq!(world.deliveries(&topic).await.len(), 1, "only the confirmation");
}

#[tokio::test]
async fn a_retry_does_not_hold_up_what_follows_it() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    receiver.next("/hook", [Behaviour::Status(500)]);
    let endpoint = EndpointId::generate(&mut rand::rng());
    for kind in [EventKind::Connect, EventKind::Accept] {
        world.send(message(&event(kind, endpoint, &topic))).await;
    }
    // The clock stands still, so the first one's retry is not due.
    receiver
        .wait_for(PATIENCE, |request| request.body.contains("VPC endpoint Accept"))
        .await
        .unwrap();
}

#[tokio::test]
async fn events_that_come_while_the_database_is_away_take_effect_when_it_is_back() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let url = Some(postgres.url("postgres"));
    let world = World::with(Setup { url, ..Setup::default() }).await;
    let receiver = Receiver::start().await.unwrap();
    let topic = subscribed(&world, &receiver).await;
    // A clean stop: the throwaway server does not promise that a crash keeps the last commits.
    postgres.cluster.stop().await.unwrap();
    let endpoint = EndpointId::generate(&mut rand::rng());
    for kind in [EventKind::Connect, EventKind::Accept] {
        world.send(message(&event(kind, endpoint, &topic))).await;
    }
    let get = v1::GetTopicRequest { topic_arn: topic.clone() };
    let refused = world.client().get_topic(by(PROVIDER, get)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    assert_eq!(world.bus.depth(), 2, "the events are held");
    postgres.cluster.resume().await.unwrap();
    let is_event = |one: &postern_testkit::receiver::Received| one.body.contains("VPC endpoint ");
    let came = receiver.wait_for_all(PATIENCE, 2, is_event).await.unwrap();
    assert!(came[0].body.contains("VPC endpoint Connect"));
}
