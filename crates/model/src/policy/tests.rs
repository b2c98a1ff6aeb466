use proptest::prelude::*;

use super::*;
use crate::account::AccountId;

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
const SOURCE: &str = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1";

fn account(text: &str) -> AccountId {
    text.parse().unwrap()
}

fn publish<'a>(requester: Requester<'a>) -> Request<'a> {
    Request {
        requester,
        action: "SNS:Publish",
        resource: TOPIC,
        context: Context {
            source_arn: Some(SOURCE),
            source_account: Some("111122223333"),
            source_owner: None,
        },
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
        if !extra.contains(&format!("\"{name}\"")) {
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

#[test]
fn the_default_policy_is_a_good_one_and_lets_no_service_publish() {
    let topic: TopicArn = TOPIC.parse().unwrap();
    let policy = Policy::parse(&default_document(&topic)).unwrap();
    policy.check_topic(&topic).unwrap();
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
    foreign.context.source_account = Some("444455556666");
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
fn what_is_not_understood_is_refused_and_never_ignored() {
    for (extra, path) in [
        (r#""Effct": "Allow""#, "Statement[0].Effct"),
        (r#""NotPrincipal": "*""#, "Statement[0].NotPrincipal"),
        (r#""NotAction": "SNS:Publish""#, "Statement[0].NotAction"),
        (r#""NotResource": "*""#, "Statement[0].NotResource"),
        (r#""Action": "SQS:SendMessage""#, "Statement[0].Action"),
        (r#""Action": ["SNS:Publish", "SNS:Nope"]"#, "Statement[0].Action[1]"),
        (r#""Action": []"#, "Statement[0].Action"),
        (r#""Principal": "111122223333""#, "Statement[0].Principal"),
        (r#""Principal": {"AWS": "1111*"}"#, "Statement[0].Principal.AWS"),
        (r#""Principal": {"Service": "*"}"#, "Statement[0].Principal.Service"),
        (r#""Principal": {"Federated": "x"}"#, "Statement[0].Principal.Federated"),
        (r#""Principal": {}"#, "Statement[0].Principal"),
        (r#""Resource": """#, "Statement[0].Resource"),
        (
            r#""Condition": {"Bool": {"aws:SecureTransport": "true"}}"#,
            "Statement[0].Condition.Bool",
        ),
        (
            r#""Condition": {"StringNotEquals": {"aws:SourceAccount": "1"}}"#,
            "Statement[0].Condition.StringNotEquals",
        ),
        (
            r#""Condition": {"StringEqualsIfExists": {"aws:SourceAccount": "1"}}"#,
            "Statement[0].Condition.StringEqualsIfExists",
        ),
        (
            r#""Condition": {"ForAnyValue:StringEquals": {"aws:SourceAccount": "1"}}"#,
            "Statement[0].Condition.ForAnyValue:StringEquals",
        ),
        (
            r#""Condition": {"StringEquals": {"aws:SourceIp": "1"}}"#,
            "Statement[0].Condition.StringEquals.aws:SourceIp",
        ),
        (
            r#""Condition": {"StringEquals": {"aws:SourceAccount": 111122223333}}"#,
            "Statement[0].Condition.StringEquals.aws:SourceAccount",
        ),
        (
            r#""Condition": {"StringEquals": {"aws:SourceAccount": "1", "AWS:sourceaccount": "2"}}"#,
            "Statement[0].Condition.StringEquals.AWS:sourceaccount",
        ),
        (
            r#""Condition": {"ArnLike": {"aws:SourceArn": "*"}}"#,
            "Statement[0].Condition.ArnLike.aws:SourceArn",
        ),
        (r#""Condition": {"StringEquals": {}}"#, "Statement[0].Condition.StringEquals"),
    ] {
        assert_eq!(refused(&statement(extra)).path, path, "{extra}");
    }
    for document in ["", "[]", "{}", r#"{"Statement": []}"#, r#"{"Statement": [], "X": 1}"#] {
        refused(document);
    }
    assert!(refused(&statement(r#""NotAction": "*""#)).reason.contains("not supported yet"));
    assert!(refused(r#"{"Statement": [], "Statement": []}"#).reason.contains("twice"));
    let variable = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": "*", "Action": "*", "Resource": "${aws:username}"}]}"#;
    assert!(refused(variable).reason.contains("variables"));
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
fn a_policy_for_another_topic_is_noticed() {
    let topic: TopicArn = "arn:aws:sns:us-east-1:111122223333:other".parse().unwrap();
    let fault = Policy::parse(&statement("")).unwrap().check_topic(&topic).unwrap_err();
    assert_eq!(fault.path, "Statement[0].Resource");
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let principal = prop_oneof![
        Just(StatementPrincipal::Aws(PrincipalPattern::All)),
        Just(StatementPrincipal::Service(ENDPOINT_EVENTS.to_owned())),
        Just(StatementPrincipal::Service("events.amazonaws.com".to_owned())),
        Just(StatementPrincipal::Aws("111122223333".parse().unwrap())),
    ];
    let condition = (
        prop_oneof![Just(Operator::StringEquals), Just(Operator::StringLike)],
        prop_oneof![Just(ConditionKey::SourceAccount), Just(ConditionKey::SourceOwner)],
        prop_oneof![Just("111122223333".to_owned()), Just("*".to_owned())],
    )
        .prop_map(|(operator, key, value)| Condition { operator, key, values: vec![value] });
    (
        any::<bool>(),
        prop::collection::vec(principal, 1..3),
        prop::sample::select(vec!["SNS:Publish", "SNS:*", "*", "SNS:Subscribe"]),
        prop::sample::select(vec!["*", TOPIC, "arn:aws:sns:us-east-1:111122223333:other"]),
        prop::collection::vec(condition, 0..2),
    )
        .prop_map(|(allow, principals, action, resource, conditions)| Statement {
            sid: None,
            effect: if allow { Effect::Allow } else { Effect::Deny },
            principals,
            actions: vec![action.to_owned()],
            resources: vec![resource.to_owned()],
            conditions,
        })
}

fn policy(statements: Vec<Statement>) -> Policy {
    Policy { version: Version::V2012, id: None, statements }
}

proptest! {
    #[test]
    fn a_matching_deny_always_wins(
        mut statements in prop::collection::vec(any_statement(), 0..6),
        place in any::<prop::sample::Index>(),
    ) {
        let deny = Statement {
            sid: None,
            effect: Effect::Deny,
            principals: vec![StatementPrincipal::Aws(PrincipalPattern::All)],
            actions: vec!["*".to_owned()],
            resources: vec!["*".to_owned()],
            conditions: Vec::new(),
        };
        statements.insert(place.index(statements.len() + 1), deny);
        prop_assert!(!policy(statements).evaluate(&publish(EVENTS)).is_allowed());
    }

    #[test]
    fn the_order_of_statements_decides_nothing(
        (statements, shuffled) in prop::collection::vec(any_statement(), 0..6)
            .prop_flat_map(|statements| (Just(statements.clone()), Just(statements).prop_shuffle())),
    ) {
        let allowed = |statements| policy(statements).evaluate(&publish(EVENTS)).is_allowed();
        prop_assert_eq!(allowed(statements), allowed(shuffled));
    }

    #[test]
    fn adding_a_deny_never_allows(
        statements in prop::collection::vec(any_statement(), 0..6),
        mut added in any_statement(),
    ) {
        added.effect = Effect::Deny;
        let before = policy(statements.clone()).evaluate(&publish(EVENTS)).is_allowed();
        let mut more = statements;
        more.push(added);
        let after = policy(more).evaluate(&publish(EVENTS)).is_allowed();
        prop_assert!(before || !after);
    }

    #[test]
    fn adding_an_allow_never_forbids_what_was_allowed(
        statements in prop::collection::vec(any_statement(), 0..6),
        mut added in any_statement(),
    ) {
        added.effect = Effect::Allow;
        let before = policy(statements.clone()).evaluate(&publish(EVENTS)).is_allowed();
        let mut more = statements;
        more.push(added);
        prop_assert!(!before || policy(more).evaluate(&publish(EVENTS)).is_allowed());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]{}\":,a-zA-Z0-9*\\\\ \n]{0,64}") {
        let _ = Policy::parse(&text);
    }
}
