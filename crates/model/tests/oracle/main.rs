//! Policies and filters held against a second opinion: small evaluators written from the words of the
//! specification (8.5, 8.6), over plain JSON, sharing nothing with the crate. Cases are random, from a
//! fixed seed, and nearly match: each part of a statement is taken from the request and then perhaps
//! changed a little.

// A test's helpers may fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod filter;
mod generate_filter;
mod generate_policy;
mod policy;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use postern_model::filter::{Attribute, FilterPolicy, FilterScope, Message};
use postern_model::policy::{ConditionKey, Context, Decision, Policy, Request, Requester};
use rand::{SeedableRng, rngs::StdRng};

/// Policies, each held against [`REQUESTS`] requests. An optimised build has time for more.
const POLICIES: usize = if cfg!(debug_assertions) { 4_000 } else { 20_000 };
const REQUESTS: usize = 5;

/// A request of the oracle as one of the crate.
fn request(asked: &policy::Asked) -> Request<'_> {
    let requester = match &asked.who {
        policy::Who::Service(service) => Requester::Service(service),
        policy::Who::Federated(provider) => Requester::Federated(provider),
        policy::Who::Account { account, arn } => {
            Requester::Account { account: account.parse().unwrap(), principal: arn }
        }
    };
    let mut context = Context::default();
    for (key, values) in &asked.context {
        let key: ConditionKey = key.parse().unwrap();
        for value in values {
            context = context.with(key, value.as_str());
        }
    }
    Request { requester, action: &asked.action, resource: &asked.resource, context }
}

#[test]
fn policies_are_decided_as_the_specification_says() {
    let mut random = StdRng::seed_from_u64(0x0086);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..POLICIES {
        let asked = generate_policy::asked(&mut random);
        let document = generate_policy::policy(&mut random, &asked);
        let text = document.to_string();
        let parsed =
            Policy::parse(&text).unwrap_or_else(|fault| panic!("{number}: {fault}: {text}"));
        for round in 0..REQUESTS {
            let asked = match round {
                0 => asked.clone(),
                _ => generate_policy::changed(&mut random, &asked),
            };
            let decision = parsed.evaluate(&request(&asked));
            let (word, by) = policy::decide(&document, &asked);
            let expected = match (word, by) {
                ("deny", Some(by)) => Decision::Denied { by },
                ("allow", Some(by)) => Decision::Allowed { by },
                _ => Decision::NotAllowed,
            };
            assert_eq!(decision, expected, "{number}.{round}: {text}\n{asked:?}");
            *counts.entry(word).or_default() += 1;
        }
    }
    println!("{} pairs: {counts:?}", POLICIES * REQUESTS);
    for (word, count) in counts {
        assert!(
            count > POLICIES * REQUESTS / 20,
            "only {count} times {word}: the cases say little"
        );
    }
}

#[test]
fn filters_match_as_the_specification_says() {
    let mut random = StdRng::seed_from_u64(0x0085);
    let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for number in 0..POLICIES {
        let is_body = number % 2 == 1;
        let scope = if is_body { FilterScope::MessageBody } else { FilterScope::MessageAttributes };
        let sent = generate_filter::sent(&mut random, is_body);
        let document = generate_filter::policy(&mut random, &sent, is_body);
        let text = document.to_string();
        let parsed = match FilterPolicy::parse(&text, scope) {
            Ok(parsed) => parsed,
            // Chance may make too much of it, and nothing else wrong.
            Err(fault) => {
                let reason = fault.to_string();
                let is_much = reason.contains("5 keys") || reason.contains("too complex");
                assert!(is_much, "{number}: {reason}: {text}");
                *counts.entry((is_body, "refused")).or_default() += 1;
                continue;
            }
        };
        for round in 0..REQUESTS {
            let sent = match round {
                0 => sent.clone(),
                _ => generate_filter::changed(&mut random, &sent, is_body),
            };
            let list = sent.attributes.iter().map(|(name, data_type, value)| Attribute {
                name,
                data_type,
                value,
            });
            let is_wanted = parsed.matches(&Message::new(list, &sent.body));
            let expected = filter::matches(&document, &sent, is_body);
            assert_eq!(is_wanted, expected, "{number}.{round}: {text}\n{sent:?}");
            let word = if expected { "wanted" } else { "unwanted" };
            *counts.entry((is_body, word)).or_default() += 1;
        }
    }
    println!("{} pairs at most: {counts:?}", POLICIES * REQUESTS);
    for (kind, count) in counts {
        let least = if kind.1 == "refused" { 0 } else { POLICIES * REQUESTS / 20 };
        assert!(count > least, "only {count} times {kind:?}: the cases say little");
    }
}

#[test]
fn the_moment_of_the_cases_is_what_it_says() {
    let moment: DateTime<Utc> = generate_policy::NOW.parse().unwrap();
    assert_eq!(moment.timestamp().to_string(), generate_policy::NOW_EPOCH);
}
