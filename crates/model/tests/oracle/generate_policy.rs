//! Requests, and policies that nearly fit them.

use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::policy::{Asked, Who};

pub(crate) const NOW: &str = "2026-11-24T10:00:00Z";
pub(crate) const NOW_EPOCH: &str = "1795514400";
const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
const ACCOUNTS: [&str; 3] = ["111122223333", "444455556666", "777788889999"];
const NAMES: [&str; 4] = ["user/bob", "user/Bob", "role/ci", "root"];
const SERVICES: [&str; 2] = ["vpce.amazonaws.com", "events.amazonaws.com"];
const PROVIDERS: [&str; 2] =
    ["accounts.google.com", "arn:aws:iam::111122223333:saml-provider/work"];
const ACTIONS: [&str; 9] = [
    "SNS:AddPermission",
    "SNS:DeleteTopic",
    "SNS:GetTopicAttributes",
    "SNS:ListSubscriptionsByTopic",
    "SNS:Publish",
    "SNS:Receive",
    "SNS:RemovePermission",
    "SNS:SetTopicAttributes",
    "SNS:Subscribe",
];
/// Keys and what they may hold.
const KEYS: [(&str, &[&str]); 17] = [
    (
        "aws:SourceArn",
        &[
            "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1",
            "arn:aws:ec2:us-east-1:444455556666:vpc-endpoint/vpce-1:x",
            "no-arn",
        ],
    ),
    ("aws:SourceAccount", &["111122223333", "444455556666"]),
    ("aws:SourceOwner", &["111122223333", "444455556666"]),
    ("aws:PrincipalArn", &["arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:root"]),
    ("aws:PrincipalAccount", &["111122223333", "444455556666"]),
    ("aws:PrincipalOrgID", &["o-doors", "O-Doors", "o-*"]),
    ("aws:PrincipalType", &["User", "Account", "AssumedRole"]),
    ("aws:SourceIp", &["10.1.2.3", "10.1.3.3", "192.0.2.7", "2001:db8::1", "nowhere"]),
    ("aws:SourceVpce", &["vpce-1", "vpce-2"]),
    ("aws:SourceVpc", &["vpc-1", "vpc-2"]),
    ("aws:VpcSourceIp", &["10.1.2.3", "10.9.9.9"]),
    ("aws:SecureTransport", &["true", "false"]),
    ("aws:CurrentTime", &[NOW, "2026-11-25T00:00:00Z"]),
    ("aws:EpochTime", &[NOW_EPOCH, "0", "-5"]),
    ("aws:UserAgent", &["curl/8", "a*b?c", "", "caf\u{e9}", "12.5"]),
    ("sns:Endpoint", &["https://example.com/hook", "ops@example.com"]),
    ("sns:Protocol", &["https", "email", "email-json"]),
];

fn one<'a, T: ?Sized>(random: &mut StdRng, choices: &[&'a T]) -> &'a T {
    choices.choose(random).unwrap()
}

fn who(random: &mut StdRng) -> Who {
    match random.random_range(0..10) {
        0..4 => Who::Service(one(random, &SERVICES).to_owned()),
        4 => Who::Federated(one(random, &PROVIDERS).to_owned()),
        _ => {
            let account = one(random, &ACCOUNTS);
            let arn = format!("arn:aws:iam::{account}:{}", one(random, &NAMES));
            Who::Account { account: account.to_owned(), arn }
        }
    }
}

pub(crate) fn asked(random: &mut StdRng) -> Asked {
    let mut context = Vec::new();
    for (key, values) in KEYS {
        let count = *[0, 1, 1, 1, 1, 2].choose(random).unwrap();
        let values = (0..count).map(|_| one(random, values).to_owned()).collect::<Vec<_>>();
        if !values.is_empty() {
            context.push((key.to_owned(), values));
        }
    }
    let action = one(random, &ACTIONS).to_owned();
    Asked { who: who(random), action, resource: TOPIC.to_owned(), context }
}

/// The same request but for a thing or two.
pub(crate) fn changed(random: &mut StdRng, asked: &Asked) -> Asked {
    let other = self::asked(random);
    let mut changed = asked.clone();
    match random.random_range(0..6) {
        0 => changed.who = other.who,
        1 => changed.action = other.action,
        2 => changed.resource = TOPIC.replace("doors", one(random, &["other", "doors2"])),
        3 => drop(changed.context.pop()),
        _ => {
            for (key, values) in other.context {
                if random.random_bool(0.3) {
                    changed.context.retain(|(held, _)| *held != key);
                    changed.context.push((key, values));
                }
            }
        }
    }
    changed
}

/// Changes some characters' case.
fn recased(random: &mut StdRng, text: &str) -> String {
    let change = |character: char| {
        if random.random_bool(0.2) {
            if character.is_ascii_lowercase() {
                character.to_ascii_uppercase()
            } else {
                character.to_ascii_lowercase()
            }
        } else {
            character
        }
    };
    text.chars().map(change).collect()
}

/// Puts a wildcard in place of a piece.
fn wild(random: &mut StdRng, text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let from = random.random_range(0..=characters.len());
    let to = random.random_range(from..=characters.len().min(from + 12));
    let (before, after) = (&characters[..from], &characters[to..]);
    let middle = match random.random_range(0..4) {
        0 => "?".repeat(to - from),
        1 => "?".to_owned(),
        _ => "*".to_owned(),
    };
    format!("{}{middle}{}", before.iter().collect::<String>(), after.iter().collect::<String>())
}

/// One alone or several in a list.
fn packed(random: &mut StdRng, mut values: Vec<Value>) -> Value {
    if values.len() == 1 && random.random_bool(0.5) { values.remove(0) } else { json!(values) }
}

pub(crate) fn policy(random: &mut StdRng, asked: &Asked) -> Value {
    let version = *["2012-10-17", "2012-10-17", "2008-10-17", ""].choose(random).unwrap();
    let count = random.random_range(1..5);
    let statements: Vec<Value> =
        (0..count).map(|_| statement(random, asked, version == "2012-10-17")).collect();
    let mut document = Map::new();
    if !version.is_empty() {
        document.insert("Version".to_owned(), json!(version));
    }
    document.insert("Statement".to_owned(), packed(random, statements));
    Value::Object(document)
}

fn statement(random: &mut StdRng, asked: &Asked, has_variables: bool) -> Value {
    let mut statement = Map::new();
    let is_allowing = random.random_bool(0.65);
    statement.insert("Effect".to_owned(), json!(if is_allowing { "Allow" } else { "Deny" }));
    if !is_allowing && random.random_bool(0.4) {
        statement.insert("NotPrincipal".to_owned(), not_principal(random, asked));
    } else {
        statement.insert("Principal".to_owned(), principal(random, asked));
    }
    let count = random.random_range(1..3);
    let actions = (0..count).map(|_| json!(action(random, &asked.action))).collect();
    let word = if random.random_bool(0.15) { "NotAction" } else { "Action" };
    statement.insert(word.to_owned(), packed(random, actions));
    let resource = match random.random_range(0..10) {
        0 => "*".to_owned(),
        1 => wild(random, TOPIC),
        2 => TOPIC.replace("doors", "other"),
        3 if has_variables => TOPIC.replace("111122223333", "${aws:SourceAccount}"),
        _ => TOPIC.to_owned(),
    };
    let word = if random.random_bool(0.05) { "NotResource" } else { "Resource" };
    statement.insert(word.to_owned(), packed(random, vec![json!(resource)]));
    let mut blocks = Map::new();
    for _ in 0..*[0, 1, 1, 2, 3].choose(random).unwrap() {
        let (operator, key, values) = condition(random, asked, has_variables);
        let block = blocks.entry(operator).or_insert_with(|| json!({}));
        let is_new = |key: &str| {
            block.as_object().unwrap().keys().all(|held| !held.eq_ignore_ascii_case(key))
        };
        if is_new(&key) {
            block[key] = values;
        }
    }
    if !blocks.is_empty() {
        statement.insert("Condition".to_owned(), Value::Object(blocks));
    }
    Value::Object(statement)
}

fn principal(random: &mut StdRng, asked: &Asked) -> Value {
    if random.random_bool(0.25) {
        return json!("*");
    }
    let mut kinds = Map::new();
    for _ in 0..random.random_range(1..4) {
        let who = if random.random_bool(0.6) { asked.who.clone() } else { who(random) };
        let (kind, value) = match who {
            Who::Service(service) => ("Service", service),
            Who::Federated(provider) => ("Federated", provider),
            Who::Account { account, arn } => match random.random_range(0..4) {
                0 => ("AWS", account),
                1 => ("AWS", format!("arn:aws:iam::{account}:root")),
                _ => ("AWS", arn),
            },
        };
        let held = kinds.entry(kind).or_insert_with(|| json!([]));
        held.as_array_mut().unwrap().push(json!(value));
    }
    let mut packed_kinds = Map::new();
    for (kind, values) in kinds {
        let values = values.as_array().unwrap().clone();
        packed_kinds.insert(kind, packed(random, values));
    }
    Value::Object(packed_kinds)
}

/// A list that names the account of each user in it, as it must.
fn not_principal(random: &mut StdRng, asked: &Asked) -> Value {
    loop {
        let mut listed = principal(random, asked);
        let Some(map) = listed.as_object_mut() else { continue };
        if let Some(values) = map.get("AWS") {
            let mut values = match values {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            };
            for value in values.clone() {
                let text = value.as_str().unwrap();
                let number: String = text.chars().filter(char::is_ascii_digit).collect();
                values.push(json!(number));
            }
            map.insert("AWS".to_owned(), json!(values));
        }
        return listed;
    }
}

fn action(random: &mut StdRng, asked: &str) -> String {
    let action = if random.random_bool(0.7) { asked } else { one(random, &ACTIONS) };
    let pattern = match random.random_range(0..6) {
        0 => "*".to_owned(),
        1 => "sns:*".to_owned(),
        2 => wild(random, action),
        3 => recased(random, action),
        _ => action.to_owned(),
    };
    // A mark more than there are characters would match no action, and be refused.
    if pattern.contains('?') && !pattern.contains('*') && pattern.len() != action.len() {
        return action.to_owned();
    }
    pattern
}

fn condition(random: &mut StdRng, asked: &Asked, has_variables: bool) -> (String, String, Value) {
    let operators: [(&[&str], &[&str]); 7] = [
        (
            &[
                "StringEquals",
                "StringNotEquals",
                "StringEqualsIgnoreCase",
                "StringNotEqualsIgnoreCase",
                "StringLike",
                "StringNotLike",
            ],
            &[],
        ),
        (
            &[
                "NumericEquals",
                "NumericNotEquals",
                "NumericLessThan",
                "NumericLessThanEquals",
                "NumericGreaterThan",
                "NumericGreaterThanEquals",
            ],
            &["aws:EpochTime", "aws:SourceAccount", "aws:UserAgent"],
        ),
        (
            &[
                "DateEquals",
                "DateNotEquals",
                "DateLessThan",
                "DateLessThanEquals",
                "DateGreaterThan",
                "DateGreaterThanEquals",
            ],
            &["aws:CurrentTime", "aws:EpochTime"],
        ),
        (&["Bool"], &["aws:SecureTransport", "sns:Protocol"]),
        (&["BinaryEquals"], &["sns:Protocol", "aws:UserAgent"]),
        (&["IpAddress", "NotIpAddress"], &["aws:SourceIp", "aws:VpcSourceIp", "sns:Protocol"]),
        (
            &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
            &["aws:SourceArn", "aws:PrincipalArn", "aws:UserAgent"],
        ),
    ];
    let all_keys = KEYS.map(|(key, _)| key);
    let kind = *[0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 6, 7].choose(random).unwrap();
    if kind == 7 {
        let key = one(random, &all_keys).to_owned();
        let value = [json!("true"), json!("false"), json!(true)].choose(random).unwrap().clone();
        return ("Null".to_owned(), recased(random, &key), value);
    }
    let (bases, keys) = operators[kind];
    let key = one(random, if keys.is_empty() { &all_keys } else { keys });
    let base = one(random, bases);
    let set = *["", "", "", "ForAnyValue:", "ForAllValues:"].choose(random).unwrap();
    let suffix = *["", "", "IfExists"].choose(random).unwrap();
    let held: Vec<String> = asked
        .context
        .iter()
        .filter(|(name, _)| name == key)
        .flat_map(|(_, values)| values.clone())
        .collect();
    let pool: Vec<&str> =
        KEYS.iter().find(|(name, _)| *name == key).map(|(_, values)| values.to_vec()).unwrap();
    let mut values = Vec::new();
    for _ in 0..*[1, 1, 2, 3].choose(random).unwrap() {
        let near = match held.choose(random) {
            Some(value) if random.random_bool(0.7) => value.clone(),
            _ => one(random, &pool).to_owned(),
        };
        values.push(value(random, kind, &near, has_variables));
    }
    let key = if random.random_bool(0.3) { recased(random, key) } else { key.to_owned() };
    (format!("{set}{base}{suffix}"), key, packed(random, values))
}

/// A value of the kind, near what the request has.
fn value(random: &mut StdRng, kind: usize, near: &str, has_variables: bool) -> Value {
    let variables = [
        "${aws:SourceAccount}",
        "${AWS:principalaccount}",
        "${aws:SourceVpce, 'vpce-1'}",
        "${aws:PrincipalOrgID}",
        "o-${*}",
        "a${*}b${?}c",
        "${aws:SourceVpc}",
    ];
    let near = if near.is_ascii() { near } else { "caf?" };
    match kind {
        0 => json!(match random.random_range(0..8) {
            0 => recased(random, near),
            1 | 2 => wild(random, near),
            3 if has_variables => one(random, &variables).to_owned(),
            _ => near.to_owned(),
        }),
        1 => {
            let number = near.parse::<f64>().unwrap_or(12.5);
            let moved = number + *[0.0, 0.0, 1.0, -1.0, 0.5].choose(random).unwrap();
            if random.random_bool(0.3) { json!(moved) } else { json!(moved.to_string()) }
        }
        2 => {
            let near = one(random, &[NOW, NOW_EPOCH, "2026-11-25", "2026-11-24T10:01Z", "0", "-5"]);
            match near.parse::<i64>() {
                Ok(epoch) if random.random_bool(0.5) => json!(epoch),
                _ => json!(near),
            }
        }
        3 => [json!("true"), json!("false"), json!(true), json!(false)]
            .choose(random)
            .unwrap()
            .clone(),
        4 => json!(one(random, &["aHR0cHM=", "ZW1haWw=", "Y3VybC84", "", "Y2Fmw6k="])),
        5 => json!(one(
            random,
            &[
                "10.1.2.3",
                "10.1.2.0/24",
                "10.1.2.9/16",
                "10.0.0.0/8",
                "0.0.0.0/0",
                "192.0.2.0/24",
                "192.0.2.7/32",
                "2001:db8::/32",
                "::/0",
                "2001:db8::1",
            ],
        )),
        _ => {
            let near = if near.split(':').count() > 5 { near } else { KEYS[0].1[0] };
            json!(match random.random_range(0..6) {
                0 => near.replace("us-east-1", "*"),
                1 => near.replace("111122223333", "*").replace("1", "?"),
                2 if has_variables => near.replace("111122223333", "${aws:SourceAccount}"),
                3 => {
                    let (head, resource) = near.rsplit_once(':').unwrap();
                    format!("{head}:{}", wild(random, resource))
                }
                4 => near.replace("ec2", "*").replace("vpce", "*"),
                _ => near.to_owned(),
            })
        }
    }
}
