//! Messages, and filters that nearly fit them.

use rand::seq::IndexedRandom;
use rand::{Rng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::filter::Sent;

const KEYS: [&str; 4] = ["event", "owner", "size", "zone"];
const TEXTS: [&str; 9] =
    ["Accept", "accept", "Reject", "vpce-1", "vpce-12", "10.1.2.3", "", "caf\u{e9}", "7"];
const NUMBERS: [&str; 8] = ["0", "7", "7.5", "-3", "100", "1e2", "0.00001", "99.99999"];

fn scalar(random: &mut StdRng) -> Value {
    match random.random_range(0..10) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2..5 => serde_json::from_str(NUMBERS.choose(random).unwrap()).unwrap(),
        _ => json!(TEXTS.choose(random).unwrap()),
    }
}

fn list(random: &mut StdRng, depth: u32, has_objects: bool) -> Value {
    let count = random.random_range(0..4);
    (0..count)
        .map(|_| match random.random_range(0..8) {
            0 if depth > 0 && has_objects => list(random, depth - 1, has_objects),
            1 | 2 if depth > 0 && has_objects => object(random, depth - 1),
            _ => scalar(random),
        })
        .collect()
}

fn object(random: &mut StdRng, depth: u32) -> Value {
    let mut map = Map::new();
    for key in KEYS {
        let value = match random.random_range(0..10) {
            0 | 1 => continue,
            2 | 3 if depth > 0 => object(random, depth - 1),
            4 | 5 => list(random, depth, true),
            _ => scalar(random),
        };
        map.insert(key.to_owned(), value);
    }
    Value::Object(map)
}

pub(crate) fn sent(random: &mut StdRng, is_body: bool) -> Sent {
    if is_body {
        let body = match random.random_range(0..20) {
            0 => "no json".to_owned(),
            1 => "[1]".to_owned(),
            _ => object(random, 2).to_string(),
        };
        return Sent { attributes: Vec::new(), body };
    }
    let mut attributes = Vec::new();
    for key in KEYS {
        let (data_type, value) = match random.random_range(0..10) {
            0 | 1 => continue,
            2 => ("Binary", "YQ==".to_owned()),
            3 => ("Number", "seven".to_owned()),
            4 | 5 => ("Number", (*NUMBERS.choose(random).unwrap()).to_owned()),
            6 | 7 => ("String.Array", list(random, 1, false).to_string()),
            _ => ("String", (*TEXTS.choose(random).unwrap()).to_owned()),
        };
        attributes.push((key.to_owned(), data_type.to_owned(), value));
    }
    Sent { attributes, body: String::new() }
}

/// The same message but for a thing or two.
pub(crate) fn changed(random: &mut StdRng, sent: &Sent, is_body: bool) -> Sent {
    let other = self::sent(random, is_body);
    if !is_body {
        let mut changed = sent.clone();
        for attribute in other.attributes {
            if random.random_bool(0.3) {
                changed.attributes.retain(|(name, ..)| *name != attribute.0);
                changed.attributes.push(attribute);
            }
        }
        return changed;
    }
    let read = |sent: &Sent| serde_json::from_str::<Map<String, Value>>(&sent.body).ok();
    let (Some(mut body), Some(other)) = (read(sent), read(&other)) else { return other };
    for (key, value) in other {
        if random.random_bool(0.3) {
            body.insert(key, value);
        }
    }
    Sent { attributes: Vec::new(), body: Value::Object(body).to_string() }
}

/// What a message has, as an object, for the policy to be near to.
fn held(sent: &Sent, is_body: bool) -> Map<String, Value> {
    if is_body {
        return serde_json::from_str(&sent.body).unwrap_or_default();
    }
    let read = |data_type: &str, value: &str| match data_type {
        "String" => json!(value),
        _ => serde_json::from_str(value).unwrap_or(Value::Null),
    };
    let attributes = sent.attributes.iter();
    attributes.map(|(name, data_type, value)| (name.clone(), read(data_type, value))).collect()
}

pub(crate) fn policy(random: &mut StdRng, sent: &Sent, is_body: bool) -> Value {
    let held = Value::Object(held(sent, is_body));
    let count = random_count(random);
    rules(random, Some(&held), is_body, 2, count)
}

fn random_count(random: &mut StdRng) -> usize {
    *[0, 1, 1, 2, 2, 3].choose(random).unwrap()
}

fn rules(
    random: &mut StdRng,
    held: Option<&Value>,
    is_body: bool,
    depth: u32,
    count: usize,
) -> Value {
    let mut map = Map::new();
    for _ in 0..count {
        let key = *KEYS.choose(random).unwrap();
        let under = held.and_then(|held| held.get(key));
        let is_nested = is_body
            && depth > 0
            && match under {
                Some(Value::Object(_) | Value::Array(_)) => random.random_bool(0.7),
                _ => random.random_bool(0.1),
            };
        let rule = if is_nested {
            // Of a list, the first object is what the rules are near to.
            let near = match under {
                Some(Value::Array(list)) => list.iter().find(|one| one.is_object()),
                other => other,
            };
            let count = random_count(random).max(1);
            rules(random, near, is_body, depth - 1, count)
        } else {
            let count = *[1, 1, 2, 3].choose(random).unwrap();
            (0..count).map(|_| matcher(random, under)).collect()
        };
        map.insert(key.to_owned(), rule);
    }
    if depth > 0 && random.random_bool(0.2) {
        let branches = (0..random.random_range(2..4))
            .map(|_| {
                let count = random_count(random).max(1);
                rules(random, held, is_body, depth - 1, count)
            })
            .collect();
        map.insert("$or".to_owned(), branches);
    }
    Value::Object(map)
}

/// A value that the message has there, or another.
fn near(random: &mut StdRng, under: Option<&Value>) -> Value {
    match under {
        Some(Value::Array(list)) if !list.is_empty() => {
            let one = list.choose(random);
            near(random, one)
        }
        Some(value) if !value.is_object() && !value.is_array() && random.random_bool(0.75) => {
            value.clone()
        }
        _ => scalar(random),
    }
}

fn affix(random: &mut StdRng, under: Option<&Value>) -> Value {
    let near = near(random, under);
    let text = near.as_str().filter(|text| !text.is_empty()).unwrap_or("vpce-1").to_owned();
    let characters: Vec<char> = text.chars().collect();
    let cut = random.random_range(1..=characters.len());
    match random.random_bool(0.5) {
        true => json!({"prefix": characters[..cut].iter().collect::<String>()}),
        false => json!({"suffix": characters[characters.len() - cut..].iter().collect::<String>()}),
    }
}

fn matcher(random: &mut StdRng, under: Option<&Value>) -> Value {
    let is_good = |value: &Value| value.is_string() || value.is_number();
    match random.random_range(0..11) {
        0 => json!({"exists": random.random_bool(0.5)}),
        1 | 2 => affix(random, under),
        3 => {
            let near = near(random, under);
            json!({"equals-ignore-case": near.as_str().unwrap_or("ACCEPT").to_uppercase()})
        }
        4 => {
            let list: Vec<Value> = (0..3).map(|_| near(random, under)).filter(is_good).collect();
            match list.as_slice() {
                [] => json!({"anything-but": "Accept"}),
                [one] => json!({"anything-but": one}),
                list => json!({"anything-but": list}),
            }
        }
        5 => json!({"anything-but": affix(random, under)}),
        6 | 7 => {
            let number = near(random, under).as_f64().unwrap_or(7.0);
            let step = *[0.0, 0.5, 1.0, 100.0].choose(random).unwrap();
            match random.random_range(0..4) {
                0 => json!({"numeric": ["=", number]}),
                1 => {
                    let operator = ["<", "<=", ">", ">="].choose(random).unwrap();
                    json!({"numeric": [operator, number]})
                }
                _ => {
                    let lower = [">", ">="].choose(random).unwrap();
                    let upper = ["<", "<="].choose(random).unwrap();
                    let (low, high) = ((number - step).round(), (number + step + 1.0).round());
                    json!({"numeric": [lower, low, upper, high]})
                }
            }
        }
        8 => {
            let length = *[0, 8, 16, 24, 31, 32].choose(random).unwrap();
            json!({"cidr": format!("10.1.2.{}/{length}", random.random_range(0..6))})
        }
        _ => near(random, under),
    }
}
