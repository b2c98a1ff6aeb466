//! Deliveries to web addresses: confirmed, signed, retried, given up, picked up after a crash.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use postern_dispatcher::deliver::SchedulerConfig;
use postern_proto::v1;
use postern_testkit::receiver::{Behaviour, Received, Receiver};
use serde_json::Value;

use crate::world::{PATIENCE, PROVIDER, Setup, World, by};

/// A topic with a confirmed subscription at the receiver's `path`.
async fn subscribed(world: &World, receiver: &Receiver, path: &str) -> (String, v1::Subscription) {
    let topic = world.topic().await.topic_arn;
    receiver.confirm(true);
    let subscription = world.subscribe(&topic, &receiver.url(path)).await;
    world.confirmed(&subscription).await;
    (topic, subscription)
}

fn is_notification(request: &Received) -> bool {
    request.headers.get("x-amz-sns-message-type").is_some_and(|kind| kind == "Notification")
}

/// Checks a message's signature with OpenSSL, which shares no code with what made it: the canonical
/// text is put together here as the documentation says.
async fn verify(world: &World, message: &Value) {
    let (status, certificate) = world.get(message["SigningCertURL"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    let keys: &[&str] = match message["Type"].as_str().unwrap() {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let text: String = keys
        .iter()
        .filter_map(|key| Some(format!("{key}\n{}\n", message.get(key)?.as_str()?)))
        .collect();
    let digest = match message["SignatureVersion"].as_str().unwrap() {
        "1" => "-sha1",
        _ => "-sha256",
    };
    let signature = base64::engine::general_purpose::STANDARD
        .decode(message["Signature"].as_str().unwrap())
        .unwrap();
    let folder = std::env::temp_dir().join(format!("postern-verify-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    std::fs::write(file("cert.pem"), certificate).unwrap();
    std::fs::write(file("text"), text).unwrap();
    std::fs::write(file("signature"), signature).unwrap();
    let key = Command::new("openssl")
        .args(["x509", "-in", &file("cert.pem"), "-pubkey", "-noout", "-out", &file("key.pem")])
        .output()
        .unwrap();
    assert!(key.status.success(), "{key:?}");
    let verified = Command::new("openssl")
        .args(["dgst", digest, "-verify", &file("key.pem"), "-signature", &file("signature")])
        .arg(file("text"))
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_confirmed_subscription_gets_messages_in_sns_s_form_with_signatures_that_verify() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver, "/hook").await;
    let confirmation =
        receiver.wait_for(PATIENCE, |request| !is_notification(request)).await.unwrap();
    let body = confirmation.json().unwrap();
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "Type",
            "MessageId",
            "Token",
            "TopicArn",
            "Message",
            "SubscribeURL",
            "Timestamp",
            "SignatureVersion",
            "Signature",
            "SigningCertURL"
        ]
    );
    assert!(!confirmation.headers.contains_key("x-amz-sns-subscription-arn"));
    verify(&world, &body).await;

    for (version, number) in
        [(v1::SignatureVersion::Sha256, "2"), (v1::SignatureVersion::Sha1, "1")]
    {
        let set = v1::SetTopicAttributesRequest {
            topic_arn: topic.clone(),
            signature_version: version.into(),
            ..Default::default()
        };
        world.client().set_topic_attributes(by(PROVIDER, set)).await.unwrap();
        let id = world.publish(&topic, "line one\nline two, caf\u{e9}").await;
        let request = receiver
            .wait_for(PATIENCE, |request| request.headers["x-amz-sns-message-id"] == id)
            .await
            .unwrap();
        let body = request.json().unwrap();
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "Type",
                "MessageId",
                "TopicArn",
                "Subject",
                "Message",
                "Timestamp",
                "SignatureVersion",
                "Signature",
                "SigningCertURL",
                "UnsubscribeURL"
            ]
        );
        assert_eq!(body["SignatureVersion"], number);
        assert_eq!(body["Timestamp"], "2026-01-02T03:04:05.678Z");
        for (name, value) in [
            ("content-type", "text/plain; charset=UTF-8"),
            ("user-agent", "Amazon Simple Notification Service Agent"),
            ("accept-encoding", "gzip,deflate"),
            ("x-amz-sns-message-type", "Notification"),
            ("x-amz-sns-topic-arn", &topic),
            ("x-amz-sns-subscription-arn", &subscription.subscription_arn),
        ] {
            assert_eq!(request.headers[name], value, "{name}");
        }
        verify(&world, &body).await;
    }
}

#[tokio::test]
async fn an_unconfirmed_subscription_gets_nothing() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver, "/yes").await;
    receiver.confirm(false);
    world.subscribe(&topic, &receiver.url("/no")).await;
    world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;
    world.publish(&topic, "m").await;
    receiver.wait_for(PATIENCE, is_notification).await.unwrap();
    // Every delivery has ended, and none of a notification went to /no.
    world
        .until("everything is delivered", async || {
            let pending = v1::DeliveryState::Pending;
            world.deliveries(&topic).await.iter().all(|delivery| delivery.state() != pending)
        })
        .await;
    assert!(!receiver.received_at("/no").iter().any(is_notification));
}

#[tokio::test]
async fn an_answer_of_500_is_retried_after_the_delay_and_shows_its_attempts() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver, "/hook").await;
    receiver.next("/hook", [Behaviour::Status(500), Behaviour::Reset]);
    let id = world.publish(&topic, "m").await;
    let pending = |attempts| {
        move |delivery: &v1::Delivery| {
            delivery.attempt_count == attempts && delivery.state() == v1::DeliveryState::Pending
        }
    };
    let first = world.newest(&topic, pending(1)).await;
    assert_eq!(first.last_status_code, 500);
    assert_eq!(receiver.received_at("/hook").iter().filter(|r| is_notification(r)).count(), 1);
    world.clock.advance(Duration::from_secs(23));
    world.newest(&topic, pending(2)).await;
    world.clock.advance(Duration::from_secs(23));
    let done =
        world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;
    let codes: Vec<i32> = done.attempts.iter().map(|attempt| attempt.status_code).collect();
    assert_eq!(codes, [500, 0, 200]);
    assert!(!done.attempts[1].error.is_empty() && done.attempts[2].error.is_empty());
    assert_eq!(done.attempts[2].address, receiver.address().to_string());
    let same = receiver.received_at("/hook").into_iter().filter(is_notification);
    assert!(same.into_iter().all(|request| request.headers["x-amz-sns-message-id"] == id));
}

#[tokio::test]
async fn a_delivery_that_fails_every_time_is_dead_lettered() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver, "/hook").await;
    receiver.always("/hook", Behaviour::Status(503));
    world.publish(&topic, "m").await;
    for attempts in 1..=3 {
        world.newest(&topic, |delivery| delivery.attempt_count == attempts).await;
        world.clock.advance(Duration::from_secs(23));
    }
    let dead =
        world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::DeadLettered).await;
    assert_eq!(dead.attempt_count, 4);
}

#[tokio::test]
async fn redirects_are_not_followed_and_client_errors_are_not_retried() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver, "/hook").await;
    for behaviour in [Behaviour::Redirect(receiver.url("/elsewhere")), Behaviour::Status(404)] {
        receiver.next("/hook", [behaviour]);
        let id = world.publish(&topic, "m").await;
        let dead = world
            .newest(&topic, |delivery| {
                delivery.message_id == id && delivery.state() == v1::DeliveryState::DeadLettered
            })
            .await;
        assert_eq!(dead.attempt_count, 1);
    }
    assert!(receiver.received_at("/elsewhere").is_empty());
}

#[tokio::test]
async fn a_target_that_hangs_delays_no_other() {
    let world = World::with(Setup { per_target: 2, ..Setup::default() }).await;
    let (good, bad) = (Receiver::start().await.unwrap(), Receiver::start().await.unwrap());
    let (topic, _) = subscribed(&world, &good, "/hook").await;
    bad.confirm(true);
    let hung = world.subscribe(&topic, &bad.url("/hook")).await;
    world.confirmed(&hung).await;
    bad.always("/hook", Behaviour::Hang);
    for number in 0..20 {
        world.publish(&topic, &number.to_string()).await;
    }
    // Well before the first of the hanging ones is over.
    good.wait_for_all(Duration::from_secs(12), 20, is_notification).await.unwrap();
    let under_way = bad.received_at("/hook").iter().filter(|one| is_notification(one)).count();
    assert!(under_way <= 2, "{under_way}");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_dialled() {
    let world = World::with(Setup { allow: Vec::new(), ..Setup::default() }).await;
    let receiver = Receiver::start().await.unwrap();
    let topic = world.topic().await.topic_arn;
    let endpoint = format!("http://localhost:{}/hook", receiver.address().port());
    world.subscribe(&topic, &endpoint).await;
    let failed = world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
    assert!(failed.last_error.contains("not a public address"), "{}", failed.last_error);
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn what_a_crashed_dispatcher_had_under_way_is_delivered_when_the_lease_is_over() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver, "/hook").await;
    receiver.next("/hook", [Behaviour::Hang]);
    let id = world.publish(&topic, "m").await;
    receiver.wait_for(PATIENCE, is_notification).await.unwrap();
    let (database, clock) = world.crash().await;
    let setup = Setup { database: Some(database), clock: clock.clone(), ..Setup::default() };
    let world = World::with(setup).await;
    let held = world.newest(&topic, |_| true).await;
    assert_eq!((held.state(), held.attempt_count), (v1::DeliveryState::Pending, 0));
    clock.advance(SchedulerConfig::default().lease + Duration::from_secs(1));
    world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;
    let came = receiver.wait_for_all(PATIENCE, 2, is_notification).await.unwrap();
    assert!(came.iter().all(|request| request.headers["x-amz-sns-message-id"] == id));
}

#[tokio::test]
async fn an_end_by_the_link_is_told_to_the_endpoint_which_can_take_it_back() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver, "/hook").await;
    receiver.confirm(false);
    world.publish(&topic, "m").await;
    let message = receiver.wait_for(PATIENCE, is_notification).await.unwrap().json().unwrap();
    let (status, answer) = world.get(message["UnsubscribeURL"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    assert!(answer.contains("<UnsubscribeResponse xmlns="), "{answer}");
    let told = receiver
        .wait_for(PATIENCE, |request| {
            request.headers["x-amz-sns-message-type"] == "UnsubscribeConfirmation"
        })
        .await
        .unwrap()
        .json()
        .unwrap();
    verify(&world, &told).await;
    let get =
        || v1::GetSubscriptionRequest { subscription_arn: subscription.subscription_arn.clone() };
    let gone = world.client().get_subscription(by(PROVIDER, get())).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    let (status, answer) = world.get(told["SubscribeURL"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(&subscription.subscription_arn), "{answer}");
    world.confirmed(&subscription).await;
    let (status, answer) = world.get("/?Action=ConfirmSubscription&TopicArn=x&Token=y").await;
    assert_eq!(status, 400);
    assert!(answer.contains("<Code>InvalidParameter</Code>"), "{answer}");
}

#[tokio::test]
async fn raw_delivery_is_the_bare_message() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver, "/hook").await;
    let set = v1::SetSubscriptionAttributesRequest {
        subscription_arn: subscription.subscription_arn,
        raw_message_delivery: Some(true),
        ..Default::default()
    };
    world.client().set_subscription_attributes(by(PROVIDER, set)).await.unwrap();
    world.publish(&topic, "just this").await;
    let request = receiver.wait_for(PATIENCE, is_notification).await.unwrap();
    assert_eq!(request.body, "just this");
    assert_eq!(request.headers["x-amz-sns-rawdelivery"], "true");
}
