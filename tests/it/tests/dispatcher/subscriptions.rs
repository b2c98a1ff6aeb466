//! What subscriptions ask for besides: filters, secrets, dead-letter queues; and how they are doing.

use std::time::Duration;

use base64::Engine as _;
use postern_model::event::EventKind;
use postern_proto::{status, v1};
use postern_testkit::receiver::Receiver;
use sqlx::PgPool;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{CONSUMER, PATIENCE, PROVIDER, World, by};

fn field(refused: &tonic::Status) -> String {
    refused.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

fn set(subscription: &v1::Subscription) -> v1::SetSubscriptionAttributesRequest {
    v1::SetSubscriptionAttributesRequest {
        subscription_arn: subscription.subscription_arn.clone(),
        ..Default::default()
    }
}

async fn confirmed(world: &World, topic: &str, receiver: &Receiver) -> v1::Subscription {
    receiver.confirm(true);
    let subscription = world.subscribe(topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    subscription
}

async fn pool(world: &World) -> PgPool {
    PgPool::connect(&world.database.as_ref().unwrap().url()).await.unwrap()
}

#[tokio::test]
async fn a_filter_lets_through_what_it_matches_and_nothing_else() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = world.topic().await.topic_arn;
    let subscription = confirmed(&world, &topic, &receiver).await;
    let mut client = world.client();
    let filter = r#"{"event": ["Delete", {"prefix": "Rej"}]}"#.to_owned();
    let asked = v1::SetSubscriptionAttributesRequest {
        filter_policy: Some(filter.clone()),
        ..set(&subscription)
    };
    let changed = client.set_subscription_attributes(by(PROVIDER, asked)).await.unwrap();
    let changed = changed.into_inner().subscription.unwrap();
    assert_eq!(changed.filter_policy, filter);
    assert_eq!(changed.filter_policy_scope(), v1::FilterPolicyScope::MessageAttributes);
    for kind in EventKind::ALL {
        world.happens(kind, &topic).await;
    }
    let is_event = |one: &postern_testkit::receiver::Received| one.body.contains("VPC endpoint ");
    receiver.wait_for_all(PATIENCE, 2, is_event).await.unwrap();
    world.until("all four are decided", async || world.bus.depth() == 0).await;
    let mut subjects: Vec<String> = receiver
        .received()
        .iter()
        .filter(|one| is_event(one))
        .map(|one| one.json().unwrap()["Subject"].as_str().unwrap().to_owned())
        .collect();
    subjects.sort();
    assert_eq!(subjects, ["VPC endpoint Delete", "VPC endpoint Reject"]);
    assert_eq!(world.deliveries(&topic).await.len(), 3, "the confirmation and two events");

    // Of the body, and taken away again.
    let asked = v1::SetSubscriptionAttributesRequest {
        filter_policy: Some(r#"{"size": [{"numeric": [">", 10]}]}"#.to_owned()),
        filter_policy_scope: v1::FilterPolicyScope::MessageBody.into(),
        ..set(&subscription)
    };
    client.set_subscription_attributes(by(PROVIDER, asked)).await.unwrap();
    world.publish(&topic, r#"{"size": 3}"#).await;
    world.publish(&topic, r#"{"size": 30}"#).await;
    world.publish(&topic, "no JSON").await;
    let large = |one: &postern_testkit::receiver::Received| one.body.contains(r#"\"size\": 30"#);
    receiver.wait_for(PATIENCE, large).await.unwrap();
    let asked = v1::SetSubscriptionAttributesRequest {
        filter_policy: Some(String::new()),
        ..set(&subscription)
    };
    client.set_subscription_attributes(by(PROVIDER, asked)).await.unwrap();
    world.publish(&topic, "everything").await;
    let last = |one: &postern_testkit::receiver::Received| one.body.contains("everything");
    receiver.wait_for(PATIENCE, last).await.unwrap();
    assert!(receiver.received().iter().all(|one| !one.body.contains("no JSON")));
    assert!(receiver.received().iter().all(|one| !one.body.contains(r#"\"size\": 3}"#)));
}

#[tokio::test]
async fn bad_attributes_are_refused_with_their_field() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let hook = world.subscribe(&topic, "http://127.0.0.1:9999/hook").await;
    let mail = world.subscribe(&topic, "someone@example.com").await;
    let mut client = world.client();
    let text = |text: &str| Some(text.to_owned());
    let queue = |arn: &str| Some(format!(r#"{{"deadLetterTargetArn": "{arn}"}}"#));
    type Request = v1::SetSubscriptionAttributesRequest;
    for (request, place, part) in [
        (
            Request { filter_policy: text(r#"{"a": []}"#), ..set(&hook) },
            "filter_policy",
            "FilterPolicy:",
        ),
        (Request { filter_policy: text("x"), ..set(&hook) }, "filter_policy", "FilterPolicy:"),
        (Request { filter_policy_scope: 7, ..set(&hook) }, "filter_policy_scope", ""),
        (Request { redrive_policy: text("{}"), ..set(&hook) }, "redrive_policy", "RedrivePolicy:"),
        (
            Request { redrive_policy: queue("arn:aws:sns:us-east-1:111122223333:q"), ..set(&hook) },
            "redrive_policy",
            "queue",
        ),
        (
            Request { redrive_policy: queue("arn:aws:sqs:us-east-1:444455556666:q"), ..set(&hook) },
            "redrive_policy",
            "111122223333",
        ),
        (
            Request { redrive_policy: queue("arn:aws:sqs:eu-west-1:111122223333:q"), ..set(&hook) },
            "redrive_policy",
            "us-east-1",
        ),
        (Request { digest_seconds: Some(60), ..set(&hook) }, "digest_seconds", "email"),
        (Request { digest_seconds: Some(-1), ..set(&mail) }, "digest_seconds", "86400"),
        (Request { digest_seconds: Some(86_401), ..set(&mail) }, "digest_seconds", "86400"),
        (Request { raw_message_delivery: Some(true), ..set(&mail) }, "raw_message_delivery", ""),
        (Request { delivery_policy: text("{}"), ..set(&mail) }, "delivery_policy", ""),
    ] {
        let shown = format!("{request:?}");
        let refused = client.set_subscription_attributes(by(PROVIDER, request)).await.unwrap_err();
        assert_eq!(status::reason(&refused).as_deref().map(|r| &r[..16]), Some("InvalidParameter"));
        assert_eq!(field(&refused), place, "{shown}");
        assert!(refused.message().contains(part), "{shown}: {refused:?}");
    }
    let good = Request {
        redrive_policy: queue("arn:aws:sqs:us-east-1:111122223333:dead"),
        ordered: Some(true),
        ..set(&hook)
    };
    let changed = client.set_subscription_attributes(by(PROVIDER, good)).await.unwrap();
    let changed = changed.into_inner().subscription.unwrap();
    assert!(changed.ordered && changed.redrive_policy.contains(":dead"));
    // Asked for again with what it has, and with something else.
    let again = |ordered: bool| v1::SubscribeRequest {
        topic_arn: topic.clone(),
        protocol: v1::SubscriptionProtocol::Http.into(),
        endpoint: "http://127.0.0.1:9999/hook".to_owned(),
        ordered: Some(ordered),
        ..Default::default()
    };
    let same = client.subscribe(by(PROVIDER, again(true))).await.unwrap().into_inner();
    assert_eq!(same.subscription.unwrap().subscription_arn, hook.subscription_arn);
    let refused = client.subscribe(by(PROVIDER, again(false))).await.unwrap_err();
    assert!(refused.message().contains("different attributes"), "{refused:?}");
}

#[tokio::test]
async fn a_topic_has_at_most_200_filters() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let first = world.subscribe(&topic, "first@example.com").await;
    let pool = pool(&world).await;
    // As many others as there may be, made by copying.
    sqlx::query(
        "INSERT INTO dispatcher.subscription (id, topic_id, owner_id, principal, protocol, endpoint,
                target, state, raw, created_at, filter_policy, filter_sha256)
         SELECT gen_random_uuid(), topic_id, owner_id, principal, protocol, n || endpoint, target,
                'pending', raw, created_at, '{}', sha256(n::text::bytea)
           FROM dispatcher.subscription CROSS JOIN generate_series(1, 200) AS n",
    )
    .execute(&pool)
    .await
    .unwrap();
    let asked = v1::SetSubscriptionAttributesRequest {
        filter_policy: Some(r#"{"a": ["b"]}"#.to_owned()),
        ..set(&first)
    };
    let refused =
        world.client().set_subscription_attributes(by(PROVIDER, asked)).await.unwrap_err();
    assert_eq!(status::reason(&refused).as_deref(), Some("FilterPolicyLimitExceeded"));
}

#[tokio::test]
async fn a_secret_is_its_owners_alone_and_the_one_before_it_ends() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let hook = world.subscribe(&topic, "http://127.0.0.1:9999/hook").await;
    let mut client = world.client();
    let arn = hook.subscription_arn.clone();
    let get = || v1::GetSubscriptionSecretRequest { subscription_arn: arn.clone() };
    let first = client.get_subscription_secret(by(PROVIDER, get())).await.unwrap().into_inner();
    let bytes = first.secret.strip_prefix("whsec_").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap();
    assert_eq!((bytes.len(), first.previous_until_time), (32, None));
    let refused = client.get_subscription_secret(by(CONSUMER, get())).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    let rotate = |seconds: i64| {
        let overlap = Some(prost_types::Duration { seconds, nanos: 0 });
        by(PROVIDER, v1::RotateSubscriptionSecretRequest { subscription_arn: arn.clone(), overlap })
    };
    let second = client.rotate_subscription_secret(rotate(3600)).await.unwrap().into_inner();
    assert_ne!(second.secret, first.secret);
    let until = second.previous_until_time.unwrap().seconds;
    assert_eq!(until, crate::world::start().timestamp() + 3600);
    let got = client.get_subscription_secret(by(PROVIDER, get())).await.unwrap().into_inner();
    assert_eq!(
        (&got.secret, got.previous_until_time),
        (&second.secret, second.previous_until_time)
    );
    world.clock.advance(Duration::from_secs(3601));
    let got = client.get_subscription_secret(by(PROVIDER, get())).await.unwrap().into_inner();
    assert_eq!(got.previous_until_time, None);
    let third = client.rotate_subscription_secret(rotate(0)).await.unwrap().into_inner();
    assert_eq!(third.previous_until_time, None);
    for seconds in [-1, 7 * 86_400 + 1] {
        let refused = client.rotate_subscription_secret(rotate(seconds)).await.unwrap_err();
        assert_eq!(field(&refused), "overlap");
    }
    let mail = world.subscribe(&topic, "someone@example.com").await;
    let of_mail = v1::GetSubscriptionSecretRequest { subscription_arn: mail.subscription_arn };
    let refused = client.get_subscription_secret(by(PROVIDER, of_mail)).await.unwrap_err();
    assert_eq!(field(&refused), "subscription_arn");
}

#[tokio::test]
async fn a_disabled_subscription_gets_nothing_and_its_owner_is_told_once() {
    let world = World::new().await;
    let (receiver, owner) = (Receiver::start().await.unwrap(), Receiver::start().await.unwrap());
    let topic = world.topic().await.topic_arn;
    let mut client = world.client();
    let notices = v1::CreateTopicRequest { name: "notices".to_owned(), ..Default::default() };
    let notices = client.create_topic(by(PROVIDER, notices)).await.unwrap().into_inner();
    let notices = notices.topic.unwrap().topic_arn;
    let attributes = v1::SetTopicAttributesRequest {
        topic_arn: topic.clone(),
        notice_topic_arn: Some(notices.clone()),
        ..Default::default()
    };
    client.set_topic_attributes(by(PROVIDER, attributes)).await.unwrap();
    confirmed(&world, &notices, &owner).await;
    let subscription = confirmed(&world, &topic, &receiver).await;

    let pool = pool(&world).await;
    sqlx::query(
        "UPDATE dispatcher.subscription
            SET failure_streak = 12, failing_since = $2, disabled_at = $2,
                disabled_reason = 'nothing was taken for 5 days'
          WHERE id = $1::uuid",
    )
    .bind(subscription.subscription_arn.rsplit(':').next().unwrap())
    .bind(crate::world::start())
    .execute(&pool)
    .await
    .unwrap();
    let told =
        |one: &postern_testkit::receiver::Received| one.body.contains("SubscriptionDisabled");
    let notice = owner.wait_for(PATIENCE, told).await.unwrap().json().unwrap();
    assert_eq!(notice["Subject"], "Subscription disabled");
    let text: serde_json::Value =
        serde_json::from_str(notice["Message"].as_str().unwrap()).unwrap();
    assert_eq!(text["subscriptionArn"], subscription.subscription_arn);
    assert_eq!(text["failureStreak"], 12);
    assert_eq!(text["reason"], "nothing was taken for 5 days");

    let get =
        || v1::GetSubscriptionRequest { subscription_arn: subscription.subscription_arn.clone() };
    let got = client.get_subscription(by(PROVIDER, get())).await.unwrap().into_inner();
    let shown = got.subscription.unwrap().status.unwrap();
    assert_eq!((shown.failure_streak, shown.disabled_time.is_some()), (12, true));
    let before = world.deliveries(&topic).await.len();
    world.publish(&topic, "not wanted").await;
    assert_eq!(world.deliveries(&topic).await.len(), before);
    let enable =
        v1::EnableSubscriptionRequest { subscription_arn: subscription.subscription_arn.clone() };
    let enabled = client.enable_subscription(by(PROVIDER, enable)).await.unwrap().into_inner();
    let shown = enabled.subscription.unwrap().status.unwrap();
    assert_eq!((shown.failure_streak, shown.disabled_time), (0, None));
    world.publish(&topic, "wanted again").await;
    let wanted = |one: &postern_testkit::receiver::Received| one.body.contains("wanted again");
    receiver.wait_for(PATIENCE, wanted).await.unwrap();
    assert_eq!(owner.received().iter().filter(|one| told(one)).count(), 1);
}

#[tokio::test]
async fn each_protocol_gets_the_text_that_is_meant_for_it() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let topic = world.topic().await.topic_arn;
    confirmed(&world, &topic, &receiver).await;
    let mut client = world.client();
    let publish = |message: &str| v1::PublishRequest {
        topic_arn: topic.clone(),
        message: message.to_owned(),
        message_by_protocol: true,
        ..Default::default()
    };
    for bad in ["no JSON", "[]", r#"{"http": "x"}"#, r#"{"default": ""}"#, r#"{"default": 1}"#] {
        let refused = client.publish(by(PROVIDER, publish(bad))).await.unwrap_err();
        assert_eq!(field(&refused), "message", "{bad}");
    }
    let message = r#"{"default": "for all", "http": "for hooks", "sms": "not for us"}"#;
    client.publish(by(PROVIDER, publish(message))).await.unwrap();
    client.publish(by(PROVIDER, publish(r#"{"default": "for all"}"#))).await.unwrap();
    let meant = |text: &'static str| {
        move |one: &postern_testkit::receiver::Received| {
            one.json().is_ok_and(|json| json["Message"] == text)
        }
    };
    receiver.wait_for(PATIENCE, meant("for hooks")).await.unwrap();
    receiver.wait_for(PATIENCE, meant("for all")).await.unwrap();
}
