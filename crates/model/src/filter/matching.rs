//! Holding a policy against a message. Nothing is allocated for it, except where a body has numbers
//! that are no whole ones.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::message::{Held, Scalar};
use super::{Bound, FilterPolicy, FilterScope, Matcher, Message, Object, Range, Rule};
use crate::decimal::Decimal;

pub(super) fn policy(policy: &FilterPolicy, message: &Message<'_>) -> bool {
    match policy.scope {
        FilterScope::MessageAttributes => attributes(&policy.root, message),
        // An empty policy wants everything, also what is no object.
        FilterScope::MessageBody => match message.body() {
            Some(body) => object(&policy.root, Some(body)),
            None => object(&policy.root, None),
        },
    }
}

fn attributes(object: &Object, message: &Message<'_>) -> bool {
    let wanted = |name: &str, rule: &Rule| match (rule, message.attribute(name)) {
        // The parser makes no nested rules for attributes.
        (Rule::Nested(_), _) => false,
        (Rule::Values(matchers), None) => is_absence_wanted(matchers),
        (Rule::Values(matchers), Some(Held::One(value))) => any(matchers, *value),
        (Rule::Values(matchers), Some(Held::Many(values))) => list(matchers, values),
    };
    object.keys.iter().all(|(name, rule)| wanted(name, rule))
        && (object.either.is_empty()
            || object.either.iter().any(|branch| attributes(branch, message)))
}

fn object(policy: &Object, value: Option<&Map<String, Value>>) -> bool {
    policy.keys.iter().all(|(key, rule)| {
        let value = value.and_then(|map| map.get(key));
        match rule {
            Rule::Values(matchers) => leaf(matchers, value),
            Rule::Nested(nested_policy) => nested(nested_policy, value),
        }
    }) && (policy.either.is_empty() || policy.either.iter().any(|branch| object(branch, value)))
}

fn nested(policy: &Object, value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(map)) => object(policy, Some(map)),
        Some(Value::Array(values)) if values.iter().any(Value::is_object) => {
            values.iter().any(|value| match value {
                Value::Object(map) => object(policy, Some(map)),
                _ => false,
            })
        }
        // There are no keys in it, and their absence may be what is wanted.
        _ => object(policy, None),
    }
}

fn leaf(matchers: &[Matcher], value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Object(_)) => is_absence_wanted(matchers),
        Some(Value::Array(values)) => list(matchers, values),
        Some(value) => Scalar::of(value).is_some_and(|value| any(matchers, value)),
    }
}

/// A list has the values that stand in it, or in lists in it; objects in it are none.
fn list(matchers: &[Matcher], values: &[Value]) -> bool {
    fn has_value(values: &[Value]) -> bool {
        values.iter().any(|value| match value {
            Value::Array(values) => has_value(values),
            value => !value.is_object(),
        })
    }
    fn any_of(matchers: &[Matcher], values: &[Value]) -> bool {
        values.iter().any(|value| match value {
            Value::Array(values) => any_of(matchers, values),
            value => Scalar::of(value).is_some_and(|value| any(matchers, value)),
        })
    }
    if has_value(values) { any_of(matchers, values) } else { is_absence_wanted(matchers) }
}

fn is_absence_wanted(matchers: &[Matcher]) -> bool {
    matchers.contains(&Matcher::Exists(false))
}

fn any(matchers: &[Matcher], value: Scalar<'_>) -> bool {
    matchers.iter().any(|matcher| matches(matcher, value))
}

fn matches(matcher: &Matcher, value: Scalar<'_>) -> bool {
    let text = match value {
        Scalar::Text(text) => Some(text),
        _ => None,
    };
    match matcher {
        Matcher::Exact(literal) => value.is(literal),
        Matcher::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix.as_str())),
        Matcher::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix.as_str())),
        Matcher::EqualsIgnoreCase(wanted) => text.is_some_and(|text| is_same_text(wanted, text)),
        Matcher::Numeric(range) => match value {
            Scalar::Number(number) => range.contains(number),
            _ => false,
        },
        Matcher::Exists(wanted) => *wanted,
        Matcher::Cidr(network) => text
            .and_then(|text| text.parse::<IpAddr>().ok())
            .is_some_and(|address| network.contains(&address)),
        Matcher::AnythingBut(literals) => !literals.iter().any(|literal| value.is(literal)),
        Matcher::AnythingButPrefix(prefix) => {
            !text.is_some_and(|text| text.starts_with(prefix.as_str()))
        }
        Matcher::AnythingButSuffix(suffix) => {
            !text.is_some_and(|text| text.ends_with(suffix.as_str()))
        }
    }
}

fn is_same_text(one: &str, other: &str) -> bool {
    one.chars().flat_map(char::to_lowercase).eq(other.chars().flat_map(char::to_lowercase))
}

impl Range {
    fn contains(self, number: Decimal) -> bool {
        let above = |bound: Bound| number > bound.at || (bound.included && number == bound.at);
        let below = |bound: Bound| number < bound.at || (bound.included && number == bound.at);
        self.lower.is_none_or(above) && self.upper.is_none_or(below)
    }
}
