//! Permissions by label, and why a policy answers what it does.

use std::collections::HashMap;

use postern_model::event::EventKind;
use postern_proto::{status, v1};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{CONSUMER, PROVIDER, World, by};

fn add(topic: &str, label: &str, actions: &[&str]) -> v1::AddPermissionRequest {
    v1::AddPermissionRequest {
        topic_arn: topic.to_owned(),
        label: label.to_owned(),
        account_ids: vec![CONSUMER.to_owned()],
        action_names: actions.iter().map(|action| (*action).to_owned()).collect(),
    }
}

fn field(refused: &tonic::Status) -> String {
    refused.get_error_details().bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test]
async fn a_permission_lets_an_account_in_until_it_is_removed() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let mut client = world.client();
    let publish = || {
        let message = "m".to_owned();
        by(CONSUMER, v1::PublishRequest { topic_arn: topic.clone(), message, ..Default::default() })
    };
    assert_eq!(client.publish(publish()).await.unwrap_err().code(), Code::NotFound);
    let asked = by(PROVIDER, add(&topic, "partners", &["Publish", "subscribe"]));
    let changed = client.add_permission(asked).await.unwrap().into_inner().topic.unwrap();
    let policy: serde_json::Value = serde_json::from_str(&changed.policy).unwrap();
    let statement = &policy["Statement"][1];
    assert_eq!(statement["Sid"], "partners");
    assert_eq!(statement["Action"], serde_json::json!(["SNS:Publish", "SNS:Subscribe"]));
    client.publish(publish()).await.unwrap();

    let taken = client.add_permission(by(PROVIDER, add(&topic, "partners", &["Publish"]))).await;
    let refused = taken.unwrap_err();
    assert_eq!(status::reason(&refused).as_deref(), Some("InvalidParameter"));
    assert_eq!(field(&refused), "label");
    let unknown = client.add_permission(by(PROVIDER, add(&topic, "x", &["Sing"]))).await;
    let refused = unknown.unwrap_err();
    assert_eq!(field(&refused), "action_names");
    assert!(refused.message().contains("out of service scope"), "{refused:?}");
    let foreign = client.add_permission(by(CONSUMER, add(&topic, "x", &["Publish"]))).await;
    assert_eq!(foreign.unwrap_err().code(), Code::NotFound);

    let remove = || {
        let label = "partners".to_owned();
        by(PROVIDER, v1::RemovePermissionRequest { topic_arn: topic.clone(), label })
    };
    client.remove_permission(remove()).await.unwrap();
    assert_eq!(client.publish(publish()).await.unwrap_err().code(), Code::NotFound);
    let refused = client.remove_permission(remove()).await.unwrap_err();
    assert_eq!(status::reason(&refused).as_deref(), Some("NotFound"));
    // Made, allowed, removed: the control plane hears of each, or of the last of several at once.
    world.until("the changes are reported", async || !world.heard.policies().is_empty()).await;
    assert!(world.heard.policies().iter().all(|arn| *arn == topic));
}

fn explain(topic: &str, context: &[(&str, &str)]) -> v1::ExplainTopicRequest {
    let context: HashMap<String, String> =
        context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    v1::ExplainTopicRequest { topic_arn: topic.to_owned(), context, ..Default::default() }
}

#[tokio::test]
async fn a_topic_explains_which_statement_decides_and_why_the_others_do_not() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let mut client = world.client();
    let source = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1";
    let mut ask = async |context: &[(&str, &str)]| {
        client.explain_topic(by(PROVIDER, explain(&topic, context))).await.unwrap().into_inner()
    };
    let told = ask(&[("aws:SourceArn", source), ("aws:sourceaccount", PROVIDER)]).await;
    assert_eq!((told.decision(), told.decided_by), (v1::PolicyDecision::Allowed, Some(0)));
    assert!(told.statements[0].applies && told.suggested_statement.is_empty());

    let told = ask(&[("aws:SourceArn", source), ("aws:SourceAccount", CONSUMER)]).await;
    assert_eq!((told.decision(), told.decided_by), (v1::PolicyDecision::NotAllowed, None));
    let reason = &told.statements[0].reason;
    assert!(reason.starts_with("Condition.StringEquals.aws:SourceAccount"), "{reason}");
    assert!(reason.contains(CONSUMER), "{reason}");
    // What is advised works.
    let policy = format!("{{\"Statement\": [{}]}}", told.suggested_statement);
    let mut tried = explain(&topic, &[("aws:SourceArn", source), ("aws:SourceAccount", CONSUMER)]);
    tried.policy = Some(policy);
    let mut client = world.client();
    let told = client.explain_topic(by(PROVIDER, tried)).await.unwrap().into_inner();
    assert_eq!(told.decision(), v1::PolicyDecision::Allowed);

    let mut owner = explain(&topic, &[]);
    (owner.principal, owner.action) = (PROVIDER.to_owned(), "SNS:DeleteTopic".to_owned());
    let told = client.explain_topic(by(PROVIDER, owner)).await.unwrap().into_inner();
    assert_eq!((told.decision(), told.decided_by), (v1::PolicyDecision::Allowed, None));

    for (request, place) in [
        (explain(&topic, &[("aws:Nonsense", "x")]), "context[aws:Nonsense]"),
        (v1::ExplainTopicRequest { action: "Sing".to_owned(), ..explain(&topic, &[]) }, "action"),
        (
            v1::ExplainTopicRequest { principal: "?".to_owned(), ..explain(&topic, &[]) },
            "principal",
        ),
        (
            v1::ExplainTopicRequest { policy: Some("{".to_owned()), ..explain(&topic, &[]) },
            "policy",
        ),
    ] {
        let refused = client.explain_topic(by(PROVIDER, request)).await.unwrap_err();
        assert_eq!(field(&refused), place);
    }
    let foreign = client.explain_topic(by(CONSUMER, explain(&topic, &[]))).await;
    assert_eq!(foreign.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_denial_names_the_statement_that_comes_nearest_and_one_that_would_allow_it() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let policy = format!(
        r#"{{"Statement": [{{"Sid": "Events", "Effect": "Allow",
            "Principal": {{"Service": "vpce.amazonaws.com"}}, "Action": "SNS:Publish",
            "Resource": "{topic}",
            "Condition": {{"StringEquals": {{"aws:SourceAccount": "999988887777"}}}}}}]}}"#
    );
    let set = v1::SetTopicAttributesRequest {
        topic_arn: topic.clone(),
        policy: Some(policy),
        ..Default::default()
    };
    world.client().set_topic_attributes(by(PROVIDER, set)).await.unwrap();
    world.happens(EventKind::Connect, &topic).await;
    world.until("the outcome is reported", async || world.heard.all().len() == 1).await;
    let reason = world.heard.all()[0].denied.clone().unwrap();
    for part in ["Statement[0] (Events)", "aws:SourceAccount", "999988887777", "this one would: {"]
    {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn a_policy_may_ask_where_a_subscription_delivers_to_and_over_what_a_request_came() {
    let world = World::new().await;
    let topic = world.topic().await.topic_arn;
    let mut client = world.client();
    let statement = |condition: &str| v1::SetTopicAttributesRequest {
        topic_arn: topic.clone(),
        policy: Some(format!(
            r#"{{"Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{CONSUMER}"}},
                "Action": "SNS:Subscribe", "Resource": "{topic}", "Condition": {condition}}}]}}"#
        )),
        ..Default::default()
    };
    let subscribe = |endpoint: &str| {
        by(
            CONSUMER,
            v1::SubscribeRequest {
                topic_arn: topic.clone(),
                protocol: v1::SubscriptionProtocol::Email.into(),
                endpoint: endpoint.to_owned(),
                ..Default::default()
            },
        )
    };
    let only = r#"{"StringLike": {"sns:Endpoint": "*@example.com"},
                   "StringEquals": {"sns:Protocol": "email"}}"#;
    client.set_topic_attributes(by(PROVIDER, statement(only))).await.unwrap();
    client.subscribe(subscribe("ann@example.com")).await.unwrap();
    let refused = client.subscribe(subscribe("ann@example.org")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    for (condition, allowed) in [
        (r#"{"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}"#, true),
        (r#"{"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}"#, false),
        (r#"{"Bool": {"aws:SecureTransport": "false"}}"#, true),
        (r#"{"Bool": {"aws:SecureTransport": "true"}}"#, false),
        (r#"{"DateLessThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}}"#, false),
    ] {
        client.set_topic_attributes(by(PROVIDER, statement(condition))).await.unwrap();
        let answer = client.subscribe(subscribe("ann@example.com")).await;
        assert_eq!(answer.is_ok(), allowed, "{condition}");
    }
}
