//! Spec 8.5 in its own words, over JSON.

use std::net::IpAddr;

use serde_json::{Map, Value};

#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Name, type, value.
    pub(crate) attributes: Vec<(String, String, String)>,
    pub(crate) body: String,
}

pub(crate) fn matches(policy: &Value, sent: &Sent, is_body: bool) -> bool {
    let message = if is_body { body(sent) } else { attributes(sent) };
    object(policy, &message)
}

fn body(sent: &Sent) -> Value {
    match serde_json::from_str(&sent.body) {
        Ok(Value::Object(body)) => Value::Object(body),
        _ => Value::Object(Map::new()),
    }
}

/// "String, String.Array, Number; Binary ignored."
fn attributes(sent: &Sent) -> Value {
    let mut map = Map::new();
    for (name, data_type, value) in &sent.attributes {
        let read = match data_type.as_str() {
            "String" => Some(Value::String(value.clone())),
            "Number" => value.parse::<f64>().ok().map(Value::from),
            "String.Array" => serde_json::from_str(value).ok().filter(Value::is_array),
            _ => None,
        };
        if let Some(read) = read {
            map.insert(name.clone(), read);
        }
    }
    Value::Object(map)
}

/// "Keys ANDed, values of a key ORed."
fn object(policy: &Value, message: &Value) -> bool {
    policy.as_object().unwrap().iter().all(|(key, rule)| {
        if key == "$or" {
            return rule.as_array().unwrap().iter().any(|branch| object(branch, message));
        }
        let held = message.get(key);
        match rule {
            Value::Array(wanted) => {
                let mut values = Vec::new();
                scalars(held, &mut values);
                match values.is_empty() {
                    true => wanted.iter().any(|one| one["exists"] == false),
                    // "Array attributes match when any element matches."
                    false => values.iter().any(|held| wanted.iter().any(|one| fits(one, held))),
                }
            }
            nested => match held {
                Some(Value::Array(list)) if list.iter().any(Value::is_object) => {
                    list.iter().filter(|one| one.is_object()).any(|one| object(nested, one))
                }
                Some(held @ Value::Object(_)) => object(nested, held),
                _ => object(nested, &Value::Object(Map::new())),
            },
        }
    })
}

fn scalars<'v>(held: Option<&'v Value>, found: &mut Vec<&'v Value>) {
    match held {
        None | Some(Value::Object(_)) => {}
        Some(Value::Array(list)) => list.iter().for_each(|one| scalars(Some(one), found)),
        Some(scalar) => found.push(scalar),
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn fits(wanted: &Value, held: &Value) -> bool {
    let Value::Object(operator) = wanted else { return same(wanted, held) };
    let (name, value) = operator.iter().next().unwrap();
    let affix = |name: &str, affix: &Value| {
        let (Some(held), Some(affix)) = (held.as_str(), affix.as_str()) else { return false };
        if name == "prefix" { held.starts_with(affix) } else { held.ends_with(affix) }
    };
    match name.as_str() {
        "prefix" | "suffix" => affix(name, value),
        "equals-ignore-case" => held
            .as_str()
            .is_some_and(|held| held.to_lowercase() == value.as_str().unwrap().to_lowercase()),
        "exists" => value == true,
        "anything-but" => match value {
            Value::Array(list) => !list.iter().any(|one| same(one, held)),
            Value::Object(inner) => {
                let (name, value) = inner.iter().next().unwrap();
                !affix(name, value)
            }
            one => !same(one, held),
        },
        "numeric" => {
            let Some(held) = held.as_f64() else { return false };
            value.as_array().unwrap().chunks(2).all(|pair| {
                let number = pair[1].as_f64().unwrap();
                match pair[0].as_str().unwrap() {
                    "=" => held == number,
                    "<" => held < number,
                    "<=" => held <= number,
                    ">" => held > number,
                    ">=" => held >= number,
                    other => unreachable!("{other}"),
                }
            })
        }
        "cidr" => held.as_str().is_some_and(|held| is_in(value.as_str().unwrap(), held)),
        other => unreachable!("{other}"),
    }
}

/// IPv4 alone, which is what the cases have.
fn is_in(network: &str, address: &str) -> bool {
    let Ok(IpAddr::V4(address)) = address.parse::<IpAddr>() else { return false };
    let (base, length) = network.split_once('/').unwrap();
    let Ok(IpAddr::V4(base)) = base.parse::<IpAddr>() else {
        unreachable!("the generator gives IPv4 prefixes alone")
    };
    let shift = 32 - length.parse::<u32>().unwrap();
    u64::from(u32::from(address)) >> shift == u64::from(u32::from(base)) >> shift
}
