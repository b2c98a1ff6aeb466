//! Topics and subscriptions over gRPC.

use postern_proto::{status, v1};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{CONSUMER, PROVIDER, World, by};

fn create(name: &str) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest { name: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_topic_is_made_once_and_has_the_default_policy() {
    let world = World::new().await;
    let mut client = world.client();
    let make = by(PROVIDER, create("doors"));
    let topic = client.create_topic(make).await.unwrap().into_inner().topic.unwrap();
    assert_eq!(topic.topic_arn, "arn:aws:sns:us-east-1:111122223333:doors");
    assert_eq!(topic.signature_version(), v1::SignatureVersion::Sha256);
    assert!(topic.policy.contains("__default_statement_ID"));
    let again = client.create_topic(by(PROVIDER, create("doors"))).await.unwrap();
    assert_eq!(again.into_inner().topic.unwrap(), topic);
    let other =
        v1::CreateTopicRequest { display_name: Some("Doors".to_owned()), ..create("doors") };
    let refused = client.create_topic(by(PROVIDER, other)).await.unwrap_err();
    assert_eq!(status::reason(&refused).as_deref(), Some("InvalidParameter"));
    let refused = client.create_topic(by(PROVIDER, create("a b"))).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "name");
}

#[tokio::test]
async fn another_account_s_topic_does_not_exist_unless_its_policy_says_so() {
    let world = World::new().await;
    let topic = world.topic().await;
    let get = || v1::GetTopicRequest { topic_arn: topic.topic_arn.clone() };
    let mut client = world.client();
    for request in
        [v1::GetTopicRequest { topic_arn: topic.topic_arn.replace("doors", "none") }, get()]
    {
        let refused = client.get_topic(by(CONSUMER, request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
    let policy = format!(
        r#"{{"Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{CONSUMER}"}},
            "Action": "SNS:GetTopicAttributes", "Resource": "{}"}}]}}"#,
        topic.topic_arn
    );
    let set = v1::SetTopicAttributesRequest {
        topic_arn: topic.topic_arn.clone(),
        policy: Some(policy),
        ..Default::default()
    };
    client.set_topic_attributes(by(PROVIDER, set)).await.unwrap();
    client.get_topic(by(CONSUMER, get())).await.unwrap();
    let publish = v1::PublishRequest {
        topic_arn: topic.topic_arn.clone(),
        message: "m".to_owned(),
        ..Default::default()
    };
    let refused = client.publish(by(CONSUMER, publish)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = client.get_topic(by("operator", get())).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = client.get_topic(by("nobody", get())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_its_place() {
    let world = World::new().await;
    let topic = world.topic().await;
    for (policy, place) in [
        ("{\n \"Statement\": [}", "line 2, column 16"),
        (r#"{"Statement": [{"Principals": "*"}]}"#, "Statement[0].Principals"),
        (
            r#"{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*",
                "Resource": "arn:aws:sns:us-east-1:111122223333:other"}]}"#,
            "Statement[0].Resource",
        ),
    ] {
        let set = v1::SetTopicAttributesRequest {
            topic_arn: topic.topic_arn.clone(),
            policy: Some(policy.to_owned()),
            ..Default::default()
        };
        let refused = world.client().set_topic_attributes(by(PROVIDER, set)).await.unwrap_err();
        assert_eq!(status::reason(&refused).as_deref(), Some("InvalidParameter"));
        let details = refused.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "policy");
        assert!(violation.description.contains(place), "{}", violation.description);
    }
}

#[tokio::test]
async fn deleting_a_topic_takes_its_subscriptions_along_and_repeating_it_is_no_fault() {
    let world = World::new().await;
    let topic = world.topic().await;
    world.subscribe(&topic.topic_arn, "someone@example.com").await;
    for _ in 0..2 {
        let request = v1::DeleteTopicRequest { topic_arn: topic.topic_arn.clone() };
        world.client().delete_topic(by(PROVIDER, request)).await.unwrap();
    }
    let list = v1::ListSubscriptionsRequest::default();
    let left = world.client().list_subscriptions(by(PROVIDER, list)).await.unwrap().into_inner();
    assert!(left.subscriptions.is_empty());
}

#[tokio::test]
async fn lists_are_paged_without_gaps() {
    let world = World::new().await;
    let mut client = world.client();
    for number in 0..5 {
        client.create_topic(by(PROVIDER, create(&format!("t{number}")))).await.unwrap();
    }
    client.create_topic(by(CONSUMER, create("theirs"))).await.unwrap();
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTopicsRequest { page_size: 2, page_token };
        let page = client.list_topics(by(PROVIDER, request)).await.unwrap().into_inner();
        names.extend(page.topics.into_iter().map(|topic| topic.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn what_a_subscription_cannot_be_is_refused_with_the_field() {
    let world = World::new().await;
    let topic_arn = world.topic().await.topic_arn;
    let good = v1::SubscribeRequest {
        topic_arn,
        protocol: v1::SubscriptionProtocol::Http.into(),
        endpoint: "http://example.com/hook".to_owned(),
        ..Default::default()
    };
    for (request, field) in [
        (v1::SubscribeRequest { topic_arn: "arn:aws:sns".to_owned(), ..good.clone() }, "topic_arn"),
        (v1::SubscribeRequest { protocol: 0, ..good.clone() }, "protocol"),
        (v1::SubscribeRequest { endpoint: "x".to_owned(), ..good.clone() }, "endpoint"),
        (
            v1::SubscribeRequest { endpoint: "http://10.0.0.1/".to_owned(), ..good.clone() },
            "endpoint",
        ),
        (
            v1::SubscribeRequest { filter_policy: Some("[]".to_owned()), ..good.clone() },
            "filter_policy",
        ),
        (
            v1::SubscribeRequest { delivery_policy: Some("[]".to_owned()), ..good.clone() },
            "delivery_policy",
        ),
    ] {
        let refused = world.client().subscribe(by(PROVIDER, request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let details = refused.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}
