mod conditions;
mod permissions;
mod properties;
mod refused;

use super::*;
use crate::account::AccountId;

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
const SOURCE: &str = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1";

fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn publish<'a>(requester: Requester<'a>) -> Request<'a> {
    Request {
        requester,
        action: "SNS:Publish",
        resource: TOPIC,
        context: Context::of(requester, now()).with_source(SOURCE, "111122223333"),
    }
}

const EVENTS: Requester<'static> = Requester::Service(ENDPOINT_EVENTS);

/// A policy of one statement, `extra` in place of what a good one says.
fn statement(extra: &str) -> String {
    let mut parts = Vec::new();
    for (name, default) in [
        ("Effect", "\"Allow\""),
        ("Principal", "{\"Service\": \"vpce.amazonaws.com\"}"),
        ("Action", "\"SNS:Publish\""),
        ("Resource", "\"arn:aws:sns:us-east-1:111122223333:doors\""),
    ] {
        if ["", "Not"].iter().all(|not| !extra.contains(&format!("\"{not}{name}\""))) {
            parts.push(format!("\"{name}\": {default}"));
        }
    }
    if !extra.is_empty() {
        parts.push(extra.to_owned());
    }
    format!("{{\"Statement\": [{{{}}}]}}", parts.join(", "))
}

fn allows(document: &str, requester: Requester<'_>) -> bool {
    Policy::parse(document).unwrap().evaluate(&publish(requester)).is_allowed()
}

fn refused(document: &str) -> PolicyFault {
    match Policy::parse(document) {
        Err(fault) => fault,
        Ok(policy) => panic!("accepted {document}: {policy:?}"),
    }
}

fn parse(document: &str) -> Policy {
    Policy::parse(document).unwrap_or_else(|fault| panic!("{document}: {fault}"))
}

#[test]
fn the_default_policy_is_a_good_one_and_lets_no_service_publish() {
    let topic: TopicArn = TOPIC.parse().unwrap();
    let policy = Policy::parse_for(&default_document(&topic), &topic).unwrap();
    assert_eq!(policy.evaluate(&publish(EVENTS)), Decision::NotAllowed);
}

#[test]
fn the_suggested_statement_lets_the_events_in() {
    let topic: TopicArn = TOPIC.parse().unwrap();
    let document =
        format!("{{\"Statement\":[{}]}}", suggested_statement(&topic, SOURCE, "111122223333"));
    assert!(allows(&document, EVENTS));
}

#[test]
fn each_element_of_a_statement_must_match() {
    for (extra, expected) in [
        ("", true),
        (r#""Principal": "*""#, true),
        (r#""Principal": {"AWS": "*"}"#, true),
        (r#""Principal": {"AWS": "111122223333"}"#, false),
        (r#""Principal": {"Service": "events.amazonaws.com"}"#, false),
        (r#""Principal": {"Service": ["events.amazonaws.com", "vpce.amazonaws.com"]}"#, true),
        (r#""Action": "sns:publish""#, true),
        (r#""Action": "SNS:*""#, true),
        (r#""Action": "*""#, true),
        (r#""Action": "SNS:P?blish""#, true),
        (r#""Action": "SNS:Subscribe""#, false),
        (r#""Action": ["SNS:Subscribe", "SNS:Publish"]"#, true),
        (r#""Resource": "*""#, true),
        (r#""Resource": "arn:aws:sns:*:111122223333:doors""#, true),
        (r#""Resource": "arn:aws:sns:us-east-1:111122223333:other""#, false),
        (r#""Effect": "Deny""#, false),
    ] {
        assert_eq!(allows(&statement(extra), EVENTS), expected, "{extra}");
    }
}

#[test]
fn conditions_compare_as_their_operators_say() {
    for (condition, expected) in [
        (r#"{"StringEquals": {"aws:SourceAccount": "111122223333"}}"#, true),
        (r#"{"StringEquals": {"AWS:SOURCEACCOUNT": "111122223333"}}"#, true),
        (r#"{"StringEquals": {"aws:SourceAccount": ["1", "111122223333"]}}"#, true),
        (r#"{"StringEquals": {"aws:SourceAccount": "1111*"}}"#, false),
        (r#"{"StringLike": {"aws:SourceAccount": "1111*"}}"#, true),
        (
            r#"{"ArnLike": {"aws:SourceArn": "arn:aws:ec2:*:111122223333:vpc-endpoint-service/*"}}"#,
            true,
        ),
        (
            r#"{"ArnEquals": {"aws:SourceArn": "arn:aws:ec2:*:111122223333:vpc-endpoint-service/*"}}"#,
            true,
        ),
        (r#"{"ArnLike": {"aws:SourceArn": "arn:aws:ec2:*:444455556666:*"}}"#, false),
        // Two blocks, and two keys of one, must both hold.
        (
            r#"{"StringEquals": {"aws:SourceAccount": "111122223333"},
                "StringLike": {"aws:SourceArn": "*:vpc-endpoint/*"}}"#,
            false,
        ),
        (r#"{"StringLike": {"aws:SourceAccount": "*", "aws:SourceArn": "*vpce-svc-1"}}"#, true),
        // A key that the request has not lets nothing through.
        (r#"{"StringLike": {"aws:SourceOwner": "*"}}"#, false),
    ] {
        let document = statement(&format!("\"Condition\": {condition}"));
        assert_eq!(allows(&document, EVENTS), expected, "{condition}");
    }
}

#[test]
fn accounts_users_and_roles_are_told_apart() {
    let bob = Requester::Account {
        account: account("444455556666"),
        principal: "arn:aws:iam::444455556666:user/bob",
    };
    for (principal, expected) in [
        ("444455556666", true),
        ("arn:aws:iam::444455556666:root", true),
        ("arn:aws:iam::444455556666:user/bob", true),
        ("arn:aws:iam::444455556666:user/alice", false),
        ("111122223333", false),
    ] {
        let document = statement(&format!(r#""Principal": {{"AWS": ["{principal}"]}}"#));
        assert_eq!(allows(&document, bob), expected, "{principal}");
    }
    assert!(!allows(&statement(""), bob), "a service's statement is not for accounts");
}

#[test]
fn a_decision_names_the_statement() {
    let document = r#"{"Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "SNS:Subscribe", "Resource": "*"},
        {"Effect": "Allow", "Principal": "*", "Action": "SNS:Publish", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "SNS:*", "Resource": "*",
         "Condition": {"StringEquals": {"aws:SourceAccount": "444455556666"}}}]}"#;
    let policy = Policy::parse(document).unwrap();
    assert_eq!(policy.evaluate(&publish(EVENTS)), Decision::Allowed { by: 1 });
    let mut foreign = publish(EVENTS);
    foreign.context = Context::default().with_source(SOURCE, "444455556666");
    assert_eq!(policy.evaluate(&foreign), Decision::Denied { by: 2 });
}

#[test]
fn faults_name_the_element_and_the_place() {
    let fault = refused("{\n  \"Statement\": [\n    {\"Effect\": \"allow\"}\n  ]\n}");
    assert_eq!(fault.path, "Statement[0].Effect");
    assert_eq!(fault.position, Some((3, 16)));
    assert!(fault.to_string().starts_with("Statement[0].Effect (line 3, column 16): "), "{fault}");
    assert_eq!(refused("{\"Statement\": [}").position, Some((1, 16)));
}

#[test]
fn the_limits_hold() {
    assert!(refused(&" ".repeat(MAX_BYTES + 1)).reason.contains("bytes"));
    assert!(refused(&statement("\"Sid\": \"caf\u{e9}\"")).reason.contains("ASCII"));
    let one = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
    let many = |count| format!("{{\"Statement\":[{}]}}", vec![one; count].join(","));
    assert!(Policy::parse(&many(MAX_STATEMENTS)).is_ok());
    assert!(refused(&many(MAX_STATEMENTS + 1)).reason.contains("at most 100"));
    let sid = r#"{"Sid":"a","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
    assert!(refused(&format!("{{\"Statement\":[{sid},{sid}]}}")).reason.contains("Sid"));
}

#[test]
fn not_action_and_not_resource_mean_everything_else() {
    for (extra, expected) in [
        (r#""NotAction": "SNS:Subscribe""#, true),
        (r#""NotAction": ["SNS:Subscribe", "sns:pub*"]"#, false),
        (r#""NotResource": "arn:aws:sns:us-east-1:111122223333:other""#, true),
        (r#""NotResource": "arn:aws:sns:us-east-1:111122223333:doors""#, false),
    ] {
        assert_eq!(allows(&statement(extra), EVENTS), expected, "{extra}");
    }
}

#[test]
fn not_principal_denies_all_but_the_listed() {
    let asks = |principal: &'static str| Requester::Account {
        account: account(principal.get(13..25).unwrap()),
        principal,
    };
    let root = asks("arn:aws:iam::444455556666:root");
    let bob = asks("arn:aws:iam::444455556666:user/bob");
    let alice = asks("arn:aws:iam::444455556666:user/alice");
    let other = asks("arn:aws:iam::777788889999:user/bob");
    let bob_alone =
        r#"{"AWS": ["arn:aws:iam::444455556666:user/bob", "444455556666", "111122223333"]}"#;
    for (list, exempt, denied) in [
        (bob_alone, vec![bob, root], vec![alice, other, EVENTS]),
        (r#"{"AWS": "444455556666"}"#, vec![bob, alice, root], vec![other, EVENTS]),
        (r#"{"Service": "vpce.amazonaws.com"}"#, vec![EVENTS], vec![bob, root, other]),
    ] {
        let document = format!(
            r#"{{"Statement": [
                {{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}},
                {{"Effect": "Deny", "NotPrincipal": {list}, "Action": "*", "Resource": "*"}}]}}"#
        );
        assert!(exempt.into_iter().all(|one| allows(&document, one)), "{list}");
        assert!(!denied.into_iter().any(|one| allows(&document, one)), "{list}");
    }
}

#[test]
fn federated_principals_are_told_apart() {
    let google = Requester::Federated("accounts.google.com");
    let saml = "arn:aws:iam::111122223333:saml-provider/work";
    let document = |provider| statement(&format!(r#""Principal": {{"Federated": "{provider}"}}"#));
    assert!(allows(&document("accounts.google.com"), google));
    assert!(!allows(&document(saml), google));
    assert!(allows(&document(saml), Requester::Federated(saml)));
    assert!(!allows(&document("vpce.amazonaws.com"), EVENTS), "a provider is no service");
}

#[test]
fn an_explanation_names_the_first_element_that_does_not_match() {
    let topic = r#""Resource": "arn:aws:sns:us-east-1:111122223333:doors""#;
    let document = format!(
        r#"{{"Statement": [
        {{"Sid": "who", "Effect": "Allow", "Principal": {{"AWS": "444455556666"}}, "Action": "*", {topic}}},
        {{"Effect": "Allow", "Principal": "*", "NotAction": "SNS:Pub*", {topic}}},
        {{"Effect": "Allow", "Principal": "*", "Action": ["SNS:Publish"], "Resource": "arn:aws:sns:*:*:x"}},
        {{"Effect": "Deny", "Principal": "*", "Action": "*", {topic}, "Condition": {{
            "StringEquals": {{"aws:SourceAccount": "111122223333", "aws:SourceOwner": ["1", "2"]}}}}}},
        {{"Effect": "Deny", "Principal": "*", "Action": "*", {topic}, "Condition": {{
            "ArnNotLike": {{"AWS:SOURCEARN": "arn:aws:ec2:*:*:*"}}}}}},
        {{"Sid": "in", "Effect": "Allow", "Principal": "*", "Action": "*", {topic}}}]}}"#
    );
    let explanation = parse(&document).explain(&publish(EVENTS));
    assert_eq!(explanation.decision, Decision::Allowed { by: 5 });
    let elements: Vec<_> = explanation
        .statements
        .iter()
        .map(|trace| trace.mismatch.as_ref().map(|mismatch| mismatch.element))
        .collect();
    let expected = [
        Some(Element::Principal),
        Some(Element::Action),
        Some(Element::Resource),
        Some(Element::Condition(1)),
        Some(Element::Condition(0)),
        None,
    ];
    assert_eq!(elements, expected);
    let lines: Vec<_> = explanation.statements.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "Statement[0] (who), Allow: does not apply: Principal is \
             {\"AWS\":\"arn:aws:iam::444455556666:root\"}, and the request has the service \
             vpce.amazonaws.com",
            "Statement[1], Allow: does not apply: NotAction is \"SNS:Pub*\", and the request has \
             SNS:Publish",
            "Statement[2], Allow: does not apply: Resource is \"arn:aws:sns:*:*:x\", and the request \
             has arn:aws:sns:us-east-1:111122223333:doors",
            "Statement[3], Deny: does not apply: Condition.StringEquals.aws:SourceOwner is \
             [\"1\",\"2\"], and the key is missing",
            "Statement[4], Deny: does not apply: Condition.ArnNotLike.aws:SourceArn is \
             \"arn:aws:ec2:*:*:*\", and the request has \
             arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1",
            "Statement[5] (in), Allow: applies",
        ]
    );
}
