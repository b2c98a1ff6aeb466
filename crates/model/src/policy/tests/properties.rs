//! What holds for all policies.

use proptest::prelude::*;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::*;

fn any_condition() -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    prop::sample::select(vec![
        ("StringEquals", "aws:SourceAccount", json!("111122223333")),
        ("StringEquals", "aws:SourceAccount", json!(["1", "111122223333"])),
        ("StringNotEquals", "AWS:SourceOwner", json!("111122223333")),
        ("StringLikeIfExists", "aws:SourceVpce", json!("vpce-*")),
        ("ForAnyValue:StringLike", "aws:SourceArn", json!(["*svc*", "x"])),
        ("ForAllValues:StringEquals", "aws:SourceVpc", json!("vpc-1")),
        ("ArnLike", "aws:SourceArn", json!("arn:aws:ec2:*:${aws:SourceAccount}:*")),
        ("ArnNotEquals", "aws:SourceArn", json!("arn:aws:ec2:*:444455556666:*")),
        ("NumericLessThan", "aws:EpochTime", json!([5, "1795514401"])),
        ("DateGreaterThan", "aws:CurrentTime", json!("2026-11-24T09:00Z")),
        ("Bool", "aws:SecureTransport", json!(true)),
        ("Null", "aws:SecureTransport", json!("true")),
        ("IpAddress", "aws:SourceIp", json!(["10.0.0.1/8", "::1"])),
        ("NotIpAddress", "aws:SourceIp", json!("10.0.0.0/8")),
        ("BinaryEquals", "aws:SourceAccount", json!("MTExMTIyMjIzMzMz")),
    ])
}

fn any_statement() -> impl Strategy<Value = Value> {
    let principal = prop::sample::select(vec![
        ("Principal", json!("*")),
        ("Principal", json!({"AWS": ["*", "111122223333"], "Service": ENDPOINT_EVENTS})),
        ("Principal", json!({"Service": ["events.amazonaws.com", ENDPOINT_EVENTS]})),
        ("Principal", json!({"AWS": "arn:aws:iam::111122223333:user/bob"})),
        ("Principal", json!({"Federated": "cognito-identity.amazonaws.com"})),
        ("NotPrincipal", json!({"Service": "events.amazonaws.com"})),
        ("NotPrincipal", json!({"AWS": ["arn:aws:iam::111122223333:user/bob", "111122223333"]})),
    ]);
    let action = prop::sample::select(vec![
        ("Action", json!("SNS:Publish")),
        ("Action", json!(["sns:p*", "SNS:Subscribe"])),
        ("Action", json!("*")),
        ("Action", json!("SNS:Subscribe")),
        ("NotAction", json!(["SNS:Subscribe", "SNS:Add*"])),
        ("NotAction", json!("SNS:Publish")),
    ]);
    let resource = prop::sample::select(vec![
        ("Resource", json!(TOPIC)),
        ("Resource", json!(["*", TOPIC])),
        ("Resource", json!("arn:aws:sns:us-east-1:111122223333:other")),
        ("NotResource", json!("arn:aws:sns:us-east-1:111122223333:other")),
    ]);
    let conditions = prop::collection::vec(any_condition(), 0..3);
    (any::<bool>(), principal, action, resource, conditions).prop_map(
        |(allow, principal, action, resource, conditions)| {
            let allow = allow && principal.0 == "Principal";
            let mut statement = json!({
                "Effect": if allow { "Allow" } else { "Deny" },
                principal.0: principal.1, action.0: action.1, resource.0: resource.1,
            });
            for (operator, key, value) in conditions {
                statement["Condition"][operator][key] = value;
            }
            statement
        },
    )
}

fn statements() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(any_statement(), 0..6)
}

fn policy(statements: &[Value]) -> Policy {
    parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string())
}

fn requests() -> Vec<Request<'static>> {
    let bob = Requester::Account {
        account: account("111122223333"),
        principal: "arn:aws:iam::111122223333:user/bob",
    };
    [EVENTS, bob]
        .into_iter()
        .flat_map(|requester| {
            let plain = publish(requester);
            let mut rich = plain.clone();
            rich.context = rich
                .context
                .with(ConditionKey::SourceVpce, "vpce-1")
                .with(ConditionKey::SourceVpc, "vpc-1")
                .with(ConditionKey::SourceVpc, "vpc-2")
                .with(ConditionKey::SecureTransport, "true")
                .with(ConditionKey::SourceIp, "10.1.2.3");
            [plain, rich]
        })
        .collect()
}

/// Which of the requests a policy of these statements allows.
fn allowed(statements: &[Value]) -> Vec<bool> {
    let policy = policy(statements);
    requests().iter().map(|request| policy.evaluate(request).is_allowed()).collect()
}

fn shuffled(value: &Value, random: &mut StdRng) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<_> = values.iter().map(|value| shuffled(value, random)).collect();
            values.shuffle(random);
            Value::Array(values)
        }
        Value::Object(map) => {
            let mut entries: Vec<_> =
                map.iter().map(|(key, value)| (key.clone(), shuffled(value, random))).collect();
            entries.shuffle(random);
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn an_explicit_deny_always_wins(mut statements in statements(), place in any::<prop::sample::Index>()) {
        let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
        statements.insert(place.index(statements.len() + 1), deny);
        let policy = policy(&statements);
        for request in requests() {
            let decision = policy.evaluate(&request);
            prop_assert!(matches!(decision, Decision::Denied { .. }), "{:?}", decision);
        }
    }

    #[test]
    fn adding_a_deny_never_allows(mut statements in statements(), mut added in any_statement()) {
        let before = allowed(&statements);
        added["Effect"] = json!("Deny");
        statements.push(added);
        for (before, after) in before.into_iter().zip(allowed(&statements)) {
            prop_assert!(before || !after);
        }
    }

    #[test]
    fn adding_an_allow_never_denies(mut statements in statements(), mut added in any_statement()) {
        let before = allowed(&statements);
        if added.get("Principal").is_some() {
            added["Effect"] = json!("Allow");
            statements.push(added);
        }
        for (before, after) in before.into_iter().zip(allowed(&statements)) {
            prop_assert!(!before || after);
        }
    }

    #[test]
    fn the_order_of_statements_keys_and_values_decides_nothing(statements in statements(), seed in any::<u64>()) {
        let document = json!(statements);
        let other = shuffled(&document, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(allowed(&statements), allowed(other.as_array().unwrap()));
    }

    #[test]
    fn what_is_rendered_parses_to_the_same_policy(statements in statements(), seed in any::<u64>()) {
        let document = json!({"Id": "x", "Version": "2012-10-17", "Statement": statements});
        let policy = parse(&shuffled(&document, &mut StdRng::seed_from_u64(seed)).to_string());
        let rendered = policy.render();
        let again = parse(&rendered);
        prop_assert_eq!(again.render(), rendered);
        // Conditions of one operator are rendered together, so compare what they decide as well.
        for request in requests() {
            prop_assert_eq!(again.evaluate(&request), policy.evaluate(&request));
        }
        prop_assert_eq!(again, policy);
    }

    #[test]
    fn an_explanation_and_the_decision_agree(statements in statements()) {
        let policy = policy(&statements);
        for request in requests() {
            let explanation = policy.explain(&request);
            prop_assert_eq!(explanation.decision, policy.evaluate(&request));
            let applies = |effect| explanation.statements.iter()
                .find(|trace| trace.effect == effect && trace.mismatch.is_none())
                .map(|trace| trace.number);
            let expected = match (applies(Effect::Deny), applies(Effect::Allow)) {
                (Some(by), _) => Decision::Denied { by },
                (None, Some(by)) => Decision::Allowed { by },
                (None, None) => Decision::NotAllowed,
            };
            prop_assert_eq!(explanation.decision, expected);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Policy::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_damage_to_a_policy_makes_the_parser_panic(statements in statements(), seed in any::<u64>()) {
        let mut random = StdRng::seed_from_u64(seed);
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let mut bytes = document.into_bytes();
        for _ in 0..random.random_range(1..6) {
            let place = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[place] = random.random(),
                1 => bytes[place] = *b"\"\\{}[]:,${}*?'-0e".choose(&mut random).unwrap(),
                2 => drop(bytes.drain(place..(place + 3).min(bytes.len()))),
                _ => bytes.extend_from_within(place..),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(policy) = Policy::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(Policy::parse(&policy.render()), Ok(policy.clone()));
            for request in requests() {
                policy.explain(&request);
            }
        }
    }
}
