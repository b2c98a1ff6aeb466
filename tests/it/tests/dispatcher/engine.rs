//! Order, throttles, replays, queues for what was given up, keys, and the tables of days.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::options::BasicGetOptions;
use lapin::{Connection, ConnectionProperties};
use postern_dispatcher::deliver::redrive::amqp::AmqpDeadLetters;
use postern_dispatcher::deliver::sign::keys::{self, Sealing, SigningKeys};
use postern_dispatcher::deliver::sign::seal::SealingKey;
use postern_dispatcher::store::{Store, signing_key};
use postern_dispatcher::sweep;
use postern_model::event::EventKind;
use postern_model::id::EndpointId;
use postern_proto::v1;
use postern_runtime::clock::{Clock as _, ManualClock};
use postern_runtime::config::Secret;
use postern_testkit::rabbitmq::Vhost;
use postern_testkit::receiver::{Behaviour, Received, Receiver};

use crate::world::{PATIENCE, PROVIDER, Setup, World, by, database, event, message, start};

fn is_notification(request: &Received) -> bool {
    request.headers.get("x-amz-sns-message-type").is_some_and(|kind| kind == "Notification")
}

async fn subscribed(world: &World, receiver: &Receiver) -> (String, v1::Subscription) {
    let topic = world.topic().await.topic_arn;
    receiver.confirm(true);
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    (topic, subscription)
}

fn set(subscription: &v1::Subscription) -> v1::SetSubscriptionAttributesRequest {
    v1::SetSubscriptionAttributesRequest {
        subscription_arn: subscription.subscription_arn.clone(),
        ..Default::default()
    }
}

async fn change(world: &World, asked: v1::SetSubscriptionAttributesRequest) {
    world.client().set_subscription_attributes(by(PROVIDER, asked)).await.unwrap();
}

#[tokio::test]
async fn an_ordered_subscription_waits_for_the_retries_of_what_came_before() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    change(
        &world,
        v1::SetSubscriptionAttributesRequest { ordered: Some(true), ..set(&subscription) },
    )
    .await;
    receiver.next("/hook", [Behaviour::Status(500)]);
    let endpoint = EndpointId::generate(&mut rand::rng());
    for kind in [EventKind::Connect, EventKind::Accept] {
        world.send(message(&event(kind, endpoint, &topic))).await;
    }
    let other = world.happens(EventKind::Connect, &topic).await.id.to_string();
    // Another endpoint's does not wait.
    receiver.wait_for(PATIENCE, |one| one.body.contains(&other)).await.unwrap();
    let accepts = |one: &Received| one.body.contains("VPC endpoint Accept");
    world
        .until("the first was tried", async || {
            world.deliveries(&topic).await.iter().any(|one| one.last_status_code == 500)
        })
        .await;
    assert!(!receiver.received().iter().any(accepts));
    world.clock.advance(Duration::from_secs(23));
    receiver.wait_for(PATIENCE, accepts).await.unwrap();
    let subjects: Vec<_> = receiver
        .received()
        .into_iter()
        .filter(|one| one.body.contains(&endpoint.to_string()))
        .map(|one| one.json().unwrap()["Subject"].clone())
        .collect();
    assert_eq!(subjects, ["VPC endpoint Connect", "VPC endpoint Connect", "VPC endpoint Accept"]);
}

#[tokio::test]
async fn a_throttled_subscription_gets_its_messages_at_its_rate() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    let policy = r#"{"throttlePolicy":{"maxReceivesPerSecond":2}}"#.to_owned();
    let asked = v1::SetSubscriptionAttributesRequest {
        delivery_policy: Some(policy),
        ..set(&subscription)
    };
    change(&world, asked).await;
    for number in 0..5 {
        world.publish(&topic, &number.to_string()).await;
    }
    let taken = || receiver.received().iter().filter(|one| is_notification(one)).count();
    for expected in 1..=5 {
        receiver.wait_for_all(PATIENCE, expected, is_notification).await.unwrap();
        let waiting = 5 - expected;
        world
            .until("the others have moments of their own", async || {
                let now = world.clock.now();
                let all = world.deliveries(&topic).await;
                let later = |one: &&v1::Delivery| {
                    one.next_attempt_time.is_some_and(|at| {
                        (at.seconds, at.nanos)
                            > (now.timestamp(), now.timestamp_subsec_nanos() as i32)
                    })
                };
                all.iter().filter(later).count() == waiting
            })
            .await;
        assert_eq!(taken(), expected);
        world.clock.advance(Duration::from_millis(500));
    }
}

#[tokio::test]
async fn what_was_given_up_is_sent_again_alone_or_all_together() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver).await;
    receiver.always("/hook", Behaviour::Status(404));
    for number in 0..3 {
        world.publish(&topic, &number.to_string()).await;
    }
    let dead = async || {
        let all = world.deliveries(&topic).await;
        let dead = |one: &v1::Delivery| one.state() == v1::DeliveryState::DeadLettered;
        all.into_iter().filter(dead).collect::<Vec<_>>()
    };
    world.until("all are given up", async || dead().await.len() == 3).await;
    let first = dead().await.pop().unwrap();
    receiver.always("/hook", Behaviour::Status(200));
    let mut client = world.inspector();
    let request = v1::ReplayDeliveryRequest { delivery_id: first.delivery_id.clone() };
    client.replay_delivery(by(PROVIDER, request.clone())).await.unwrap();
    world.until("one is taken", async || dead().await.len() == 2).await;
    let id = first.message_id.as_str();
    let same =
        receiver.received().into_iter().filter(|one| one.headers["x-amz-sns-message-id"] == id);
    assert_eq!(same.count(), 2, "the same message again");
    let request = v1::ReplayDeliveriesRequest { topic_arn: topic.clone(), ..Default::default() };
    let answer = client.replay_deliveries(by(PROVIDER, request)).await.unwrap().into_inner();
    assert_eq!(answer.replayed, 2);
    world.until("all are taken", async || dead().await.is_empty()).await;
    let delivery_id = first.delivery_id.clone();
    let got = client.get_delivery(by(PROVIDER, v1::GetDeliveryRequest { delivery_id })).await;
    let codes: Vec<i32> = got
        .unwrap()
        .into_inner()
        .delivery
        .unwrap()
        .attempts
        .iter()
        .map(|one| one.status_code)
        .collect();
    assert_eq!(codes, [404, 200]);

    // A range takes in what was taken; without a beginning it is refused; a confirmation never goes.
    let range = v1::ReplayDeliveriesRequest {
        topic_arn: topic.clone(),
        include_delivered: true,
        ..Default::default()
    };
    let refused = client.replay_deliveries(by(PROVIDER, range.clone())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    let from = postern_proto::time::timestamp(start());
    let range = v1::ReplayDeliveriesRequest { from_time: Some(from), ..range };
    let answer = client.replay_deliveries(by(PROVIDER, range)).await.unwrap().into_inner();
    assert_eq!(answer.replayed, 3);
    let request = v1::ReplayDeliveryRequest { delivery_id: first.delivery_id };
    let stranger = by(crate::world::CONSUMER, request);
    let hidden = client.replay_delivery(stranger).await.unwrap_err();
    assert_eq!(hidden.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn a_test_event_is_sent_like_any_other_and_whoever_watches_sees_its_attempts() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    let mut client = world.inspector();
    let request = v1::WatchDeliveriesRequest { topic_arn: topic.clone(), ..Default::default() };
    let mut watched = client.watch_deliveries(by(PROVIDER, request)).await.unwrap().into_inner();
    receiver.next("/hook", [Behaviour::Status(500)]);
    let subscription_arn = subscription.subscription_arn.clone();
    let request = v1::SendTestEventRequest { subscription_arn };
    let sent = client.send_test_event(by(PROVIDER, request)).await.unwrap().into_inner();
    // The confirmation's own attempt may be written down only now, and is seen first then.
    let delivery = loop {
        let next = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap();
        let delivery = next.unwrap().unwrap().delivery.unwrap();
        if delivery.kind != v1::DeliveryKind::SubscriptionConfirmation as i32 {
            break delivery;
        }
    };
    assert_eq!((&delivery.delivery_id, delivery.attempts[0].status_code), (&sent.delivery_id, 500));
    world.clock.advance(Duration::from_secs(23));
    let next = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
    let delivery = next.delivery.unwrap();
    assert_eq!((delivery.attempts[0].number, delivery.attempts[0].status_code), (2, 200));
    let body = receiver.wait_for(PATIENCE, is_notification).await.unwrap().json().unwrap();
    assert!(body["Message"].as_str().unwrap().contains("\"event\":\"Test\""));
}

#[tokio::test]
async fn deliveries_are_found_by_event_and_time() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver).await;
    let event = world.happens(EventKind::Connect, &topic).await;
    world.newest(&topic, |delivery| delivery.event_id == event.id.to_string()).await;
    let list = async |request: v1::ListDeliveriesRequest| {
        let request = v1::ListDeliveriesRequest { topic_arn: topic.clone(), ..request };
        let answer = world.inspector().list_deliveries(by(PROVIDER, request)).await.unwrap();
        answer.into_inner().deliveries.len()
    };
    let by_event =
        v1::ListDeliveriesRequest { event_id: event.id.to_string(), ..Default::default() };
    assert_eq!(list(by_event).await, 1);
    let later = postern_proto::time::timestamp(start() + Duration::from_secs(1));
    let until = v1::ListDeliveriesRequest { until_time: Some(later), ..Default::default() };
    let from = v1::ListDeliveriesRequest { from_time: Some(later), ..Default::default() };
    assert_eq!((list(until).await, list(from).await), (2, 0));
}

async fn give_up_one(world: &World, receiver: &Receiver) -> v1::Subscription {
    let (topic, subscription) = subscribed(world, receiver).await;
    let queue = r#"{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:111122223333:dead"}"#.to_owned();
    let asked =
        v1::SetSubscriptionAttributesRequest { redrive_policy: Some(queue), ..set(&subscription) };
    change(world, asked).await;
    receiver.always("/hook", Behaviour::Status(404));
    world.publish(&topic, "nobody's").await;
    subscription
}

const QUEUE: &str = "postern.redrive.111122223333.dead";

#[tokio::test]
async fn what_is_given_up_goes_to_the_queue_of_its_subscription() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let subscription = give_up_one(&world, &receiver).await;
    world.until("it is in the queue", async || world.letters.letters(QUEUE).len() == 1).await;
    let letter = world.letters.letters(QUEUE).remove(0);
    assert_eq!(letter.headers["status-code"], "404");
    assert_eq!(letter.headers["subscription-arn"], subscription.subscription_arn);
    let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!(body["Message"], "nobody's");
}

#[tokio::test]
async fn a_queue_at_the_broker_is_made_and_has_the_message() {
    let vhost = Vhost::claim().await.unwrap();
    let dead_letters = Some(Arc::new(AmqpDeadLetters::new(Secret::new(vhost.url.clone()))) as _);
    let world = World::with(Setup { dead_letters, ..Setup::default() }).await;
    let receiver = Receiver::start().await.unwrap();
    give_up_one(&world, &receiver).await;
    let connection =
        Connection::connect(&vhost.url, ConnectionProperties::default()).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let got = loop {
        // To ask for a queue that is not there closes the channel.
        let channel = connection.create_channel().await.unwrap();
        let got = channel.basic_get(QUEUE.into(), BasicGetOptions { no_ack: true }).await;
        if let Ok(Some(got)) = got {
            break got;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing came: {got:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(String::from_utf8_lossy(&got.delivery.data).contains("nobody's"));
}

/// The HMAC of a text under a key, by OpenSSL.
fn hmac(key: &[u8], text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("postern-hmac-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("text");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-binary", "-macopt"])
        .arg(format!("hexkey:{}", key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{output:?}");
    STANDARD.encode(output.stdout)
}

#[tokio::test]
async fn messages_carry_the_headers_of_standard_webhooks_with_both_secrets_while_they_overlap() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    let arn = subscription.subscription_arn.clone();
    let get = v1::GetSubscriptionSecretRequest { subscription_arn: arn.clone() };
    let first = world.client().get_subscription_secret(by(PROVIDER, get)).await.unwrap();
    let first = first.into_inner().secret;
    let rotate = v1::RotateSubscriptionSecretRequest { subscription_arn: arn, overlap: None };
    let second = world.client().rotate_subscription_secret(by(PROVIDER, rotate)).await.unwrap();
    let second = second.into_inner().secret;
    let expected = |request: &Received, secrets: &[&String]| {
        let head = |name: &str| request.headers[name].clone();
        assert_eq!(head("webhook-id"), head("x-amz-sns-message-id"));
        assert_eq!(head("webhook-timestamp"), world.clock.now().timestamp().to_string());
        let text = format!("{}.{}.{}", head("webhook-id"), head("webhook-timestamp"), request.body);
        let key =
            |secret: &String| STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signatures = secrets.iter().map(|secret| format!("v1,{}", hmac(&key(secret), &text)));
        assert_eq!(head("webhook-signature"), signatures.collect::<Vec<_>>().join(" "));
    };
    world.publish(&topic, "m").await;
    let request = receiver.wait_for(PATIENCE, is_notification).await.unwrap();
    expected(&request, &[&second, &first]);
    world.clock.advance(Duration::from_secs(25 * 3600));
    world.publish(&topic, "later").await;
    let request = receiver.wait_for(PATIENCE, |one| one.body.contains("later")).await.unwrap();
    expected(&request, &[&second]);
}

#[tokio::test]
async fn a_new_key_signs_and_the_certificate_before_it_stays() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver).await;
    world.publish(&topic, "before").await;
    let before = receiver.wait_for(PATIENCE, is_notification).await.unwrap().json().unwrap();
    let store = world.store().await;
    let name = keys::rotate(&store, &Sealing::default(), world.clock.now()).await.unwrap();
    let after = std::sync::Mutex::new(before.clone());
    world
        .until("the new key signs", async || {
            let id = world.publish(&topic, "after").await;
            let by_id = |one: &Received| one.headers["x-amz-sns-message-id"] == id;
            let body = receiver.wait_for(PATIENCE, by_id).await.unwrap().json().unwrap();
            let new = body["SigningCertURL"].as_str().unwrap().ends_with(&name);
            *after.lock().unwrap() = body;
            new
        })
        .await;
    let after = after.into_inner().unwrap();
    for message in [&before, &after] {
        postern_testkit::deployment::verify(message).await;
    }
    let all = signing_key::list(&mut store.connection().await.unwrap()).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[1].private_key_pem.is_none(), "the private key that signs no more is gone");
    // When what it signed is out of use, the certificate goes too.
    world.clock.advance(Duration::from_secs(16 * 24 * 3600));
    let retention = Duration::from_secs(14 * 24 * 3600);
    let report = sweep::pass(&store, &world.clock, retention).await.unwrap();
    assert_eq!(report.certificates, 1);
    let (status, _) = world.get(before["SigningCertURL"].as_str().unwrap()).await;
    assert_eq!(status, 404);
}

fn sealing(byte: u8) -> Sealing {
    let key = SealingKey::new(&Secret::new(STANDARD.encode([byte; 32]))).unwrap();
    Sealing { current: Some(key), previous: None }
}

#[tokio::test]
async fn a_key_is_sealed_when_the_configuration_has_what_to_seal_it_with() {
    let database = database().await;
    let store = Store::new(&database.url(), 2).unwrap();
    let kept = async || signing_key::list(&mut store.connection().await.unwrap()).await.unwrap();
    assert!(kept().await[0].private_key_pem.is_some());
    let open = SigningKeys::obtain(&store, Sealing::default(), start()).await.unwrap();
    let sealed = SigningKeys::obtain(&store, sealing(1), start()).await.unwrap();
    assert_eq!(open.current().certificate_name(), sealed.current().certificate_name());
    assert!(kept().await[0].private_key_pem.is_none() && kept().await[0].sealed.is_some());
    for wrong in [Sealing::default(), sealing(2)] {
        let error = SigningKeys::obtain(&store, wrong, start()).await.unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(text.contains("POSTERN_KEY_ENCRYPTION_KEY"), "{text}");
    }
    // Another key takes over where the one before is given too.
    let next = Sealing { previous: sealing(1).current, ..sealing(2) };
    SigningKeys::obtain(&store, next, start()).await.unwrap();
    SigningKeys::obtain(&store, sealing(2), start()).await.unwrap();
}

#[tokio::test]
async fn days_are_forgotten_whole_once_nothing_of_them_is_on_its_way() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver).await;
    receiver.always("/hook", Behaviour::Status(500));
    world.publish(&topic, "m").await;
    world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
    let store = world.store().await;
    let retention = Duration::from_secs(2 * 24 * 3600);
    // Another clock: that of the world would have the retries made.
    let later = ManualClock::new(start() + Duration::from_secs(4 * 24 * 3600));
    let report = sweep::pass(&store, &later, retention).await.unwrap();
    assert_eq!(report.days, 6, "the day before and the day after; this one is needed");
    assert_eq!(world.deliveries(&topic).await.len(), 2);
    receiver.always("/hook", Behaviour::Status(200));
    world.clock.advance(Duration::from_secs(23));
    world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;
    let report = sweep::pass(&store, &later, retention).await.unwrap();
    assert_eq!(report.days, 3, "{report:?}");
    assert!(world.deliveries(&topic).await.is_empty());
    // And the days to come are there.
    world.clock.advance(Duration::from_secs(5 * 24 * 3600));
    world.publish(&topic, "another day").await;
    receiver.wait_for(PATIENCE, |one| one.body.contains("another day")).await.unwrap();
}
