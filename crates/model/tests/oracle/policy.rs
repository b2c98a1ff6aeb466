//! Spec 8.6 in its own words, over JSON.

use std::net::IpAddr;

use serde_json::Value;

#[derive(Clone, Debug)]
pub(crate) enum Who {
    Service(String),
    Federated(String),
    Account { account: String, arn: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) who: Who,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) context: Vec<(String, Vec<String>)>,
}

impl Asked {
    fn values(&self, key: &str) -> Vec<&str> {
        let wanted = key.to_lowercase();
        let of_key = self.context.iter().filter(|(held, _)| held.to_lowercase() == wanted);
        of_key.flat_map(|(_, values)| values).map(String::as_str).collect()
    }
}

/// "Any matching Deny wins; else any matching Allow; else deny."
pub(crate) fn decide(document: &Value, asked: &Asked) -> (&'static str, Option<usize>) {
    let has_variables = document["Version"] == "2012-10-17";
    let statements = list(&document["Statement"]);
    for (effect, word) in [("Deny", "deny"), ("Allow", "allow")] {
        for (number, statement) in statements.iter().enumerate() {
            if statement["Effect"] == effect && applies(statement, asked, has_variables) {
                return (word, Some(number));
            }
        }
    }
    ("none", None)
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        one => vec![one],
    }
}

fn texts(value: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    list(value).into_iter().map(text).collect()
}

fn applies(statement: &Value, asked: &Asked, has_variables: bool) -> bool {
    let who = match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(listed), _) => is_listed(listed, &asked.who),
        (_, Some(listed)) => !is_exempt(listed, &asked.who),
        _ => unreachable!("the generator gives each statement one of the two"),
    };
    let action =
        |pattern: &String| like(&literal(&pattern.to_lowercase()), &asked.action.to_lowercase());
    let what = match (statement.get("Action"), statement.get("NotAction")) {
        (Some(listed), _) => texts(listed).iter().any(action),
        (_, Some(listed)) => !texts(listed).iter().any(action),
        _ => unreachable!("the generator gives each statement one of the two"),
    };
    let resource = |pattern: &String| match filled(pattern, asked, has_variables) {
        Some(pattern) => like(&pattern, &asked.resource),
        None => false,
    };
    let which = match (statement.get("Resource"), statement.get("NotResource")) {
        (Some(listed), _) => texts(listed).iter().any(resource),
        (_, Some(listed)) => !texts(listed).iter().any(resource),
        _ => unreachable!("the generator gives each statement one of the two"),
    };
    // "All operator blocks AND all keys AND."
    let mut conditions = true;
    if let Some(Value::Object(blocks)) = statement.get("Condition") {
        for (operator, block) in blocks {
            for (key, values) in block.as_object().unwrap() {
                conditions &= holds(operator, key, &texts(values), asked, has_variables);
            }
        }
    }
    who && what && which && conditions
}

fn entries(listed: &Value) -> Vec<(String, String)> {
    match listed {
        Value::Object(map) => map
            .iter()
            .flat_map(|(kind, values)| {
                texts(values).into_iter().map(|value| (kind.clone(), value)).collect::<Vec<_>>()
            })
            .collect(),
        _ => vec![("AWS".to_owned(), "*".to_owned())],
    }
}

fn is_listed(listed: &Value, who: &Who) -> bool {
    entries(listed).iter().any(|(kind, value)| is_one(kind, value, who))
}

/// "Account number equals root ARN"; `*` is everyone.
fn is_one(kind: &str, value: &str, who: &Who) -> bool {
    match (kind, who) {
        ("AWS", _) if value == "*" => true,
        ("AWS", Who::Account { account, arn }) => {
            value == account || value == format!("arn:aws:iam::{account}:root") || value == arn
        }
        ("Service", Who::Service(service)) => value == service,
        ("Federated", Who::Federated(provider)) => value == provider,
        _ => false,
    }
}

/// "Denies all but the listed, list must contain the account too": where users of the account are
/// listed beside it, they alone (and the root, which is the account) are exempt.
fn is_exempt(listed: &Value, who: &Who) -> bool {
    let Who::Account { account, arn } = who else { return is_listed(listed, who) };
    let root = format!("arn:aws:iam::{account}:root");
    let own = format!("arn:aws:iam::{account}:");
    let principals = entries(listed).into_iter().filter(|(kind, _)| kind == "AWS");
    let values: Vec<String> = principals.map(|(_, value)| value).collect();
    let has_users = values.iter().any(|value| value.starts_with(&own) && *value != root);
    if has_users && *arn != root { values.contains(arn) } else { is_listed(listed, who) }
}

fn holds(operator: &str, key: &str, values: &[String], asked: &Asked, has_variables: bool) -> bool {
    let present = asked.values(key);
    if operator == "Null" {
        return values.contains(&present.is_empty().to_string());
    }
    let (base, if_exists) = match operator.strip_suffix("IfExists") {
        Some(base) => (base, true),
        None => (operator, false),
    };
    let (set, base) = match base.split_once(':') {
        Some((set, base)) => (set, base),
        None => ("", base),
    };
    // `NotIpAddress` is `IpAddress`, not; `StringNotLike` is `StringLike`, not.
    let (positive, negated) = match base.split_once("Not") {
        Some((before, after)) => (format!("{before}{after}"), true),
        None => (base.to_owned(), false),
    };
    if present.is_empty() {
        return if_exists || set == "ForAllValues" || (set.is_empty() && negated);
    }
    // "Several values of a key OR (negated operators: none may match)."
    let one = |present: &&str| {
        let matches =
            values.iter().any(|value| compares(&positive, value, present, asked, has_variables));
        matches != negated
    };
    match set {
        "ForAnyValue" => present.iter().any(one),
        "ForAllValues" => present.iter().all(one),
        // No quantifier and several values: a positive one wants one of them, a negated one none.
        _ if negated => present.iter().all(one),
        _ => present.iter().any(one),
    }
}

fn compares(
    operator: &str,
    value: &str,
    present: &str,
    asked: &Asked,
    has_variables: bool,
) -> bool {
    let order = |wanted: &str, ordering: Option<std::cmp::Ordering>| {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match wanted {
            "Equals" => ordering == Some(Equal),
            "LessThan" => ordering == Some(Less),
            "LessThanEquals" => matches!(ordering, Some(Less | Equal)),
            "GreaterThan" => ordering == Some(Greater),
            "GreaterThanEquals" => matches!(ordering, Some(Greater | Equal)),
            other => unreachable!("{other}"),
        }
    };
    if let Some(wanted) = operator.strip_prefix("Numeric") {
        let (present, value) = (present.parse::<f64>().ok(), value.parse::<f64>().ok());
        return order(wanted, present.zip(value).and_then(|(one, other)| one.partial_cmp(&other)));
    }
    if let Some(wanted) = operator.strip_prefix("Date") {
        let (present, value) = (seconds(present), seconds(value));
        return order(wanted, present.zip(value).and_then(|(one, other)| one.partial_cmp(&other)));
    }
    let filled = filled(value, asked, has_variables);
    match operator {
        "StringEquals" => filled.is_some_and(|value| plain(&value) == present),
        "StringEqualsIgnoreCase" => {
            filled.is_some_and(|value| plain(&value).eq_ignore_ascii_case(present))
        }
        "StringLike" => filled.is_some_and(|value| like(&value, present)),
        "ArnEquals" | "ArnLike" => {
            // What a variable stands for has no colons that count.
            let parts: Vec<&str> = present.splitn(6, ':').collect();
            let patterns = filled.map(|pattern| split(&pattern)).unwrap_or_default();
            parts.len() == 6
                && patterns.len() == 6
                && parts.iter().zip(&patterns).all(|(part, pattern)| like(pattern, part))
        }
        "Bool" => value == present,
        "BinaryEquals" => decode(value) == present.as_bytes(),
        "IpAddress" => is_in(value, present),
        other => unreachable!("{other}"),
    }
}

/// A sign of a pattern: a character, or what stands for some.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    Char(char),
    /// A character that a variable put there.
    Put(char),
    Star,
    Mark,
}

fn literal(text: &str) -> Vec<Sign> {
    text.chars()
        .map(|character| match character {
            '*' => Sign::Star,
            '?' => Sign::Mark,
            other => Sign::Char(other),
        })
        .collect()
}

/// The pattern with the request's values in place of variables; nothing when one has none.
fn filled(text: &str, asked: &Asked, has_variables: bool) -> Option<Vec<Sign>> {
    if !has_variables {
        return Some(literal(text));
    }
    let mut signs = Vec::new();
    let mut parts = text.split("${");
    signs.extend(literal(parts.next().unwrap()));
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap();
        if ["*", "?", "$"].contains(&name) {
            signs.push(Sign::Put(name.chars().next().unwrap()));
        } else {
            let (name, default) = match name.split_once(", ") {
                Some((name, default)) => (name, Some(default.trim_matches('\''))),
                None => (name, None),
            };
            let values = asked.values(name);
            let value = match values.as_slice() {
                [] => default?,
                [one] => one,
                _ => return None,
            };
            signs.extend(value.chars().map(Sign::Put));
        }
        signs.extend(literal(rest));
    }
    Some(signs)
}

fn plain(signs: &[Sign]) -> String {
    signs
        .iter()
        .map(|sign| match sign {
            Sign::Char(character) | Sign::Put(character) => *character,
            Sign::Star => '*',
            Sign::Mark => '?',
        })
        .collect()
}

fn split(signs: &[Sign]) -> Vec<Vec<Sign>> {
    signs.splitn(6, |sign| *sign == Sign::Char(':')).map(<[Sign]>::to_vec).collect()
}

/// By table: whether the first so many signs match the first so many characters.
fn like(signs: &[Sign], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for sign in signs {
        let mut next = vec![false; text.len() + 1];
        for place in 0..=text.len() {
            next[place] = match sign {
                Sign::Star => row[place] || (place > 0 && next[place - 1]),
                Sign::Mark => place > 0 && row[place - 1],
                Sign::Char(character) | Sign::Put(character) => {
                    place > 0 && row[place - 1] && text[place - 1] == *character
                }
            };
        }
        row = next;
    }
    row[text.len()]
}

/// "ISO 8601 or epoch", in seconds; the cases have whole seconds and days, and UTC.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(seconds as f64);
    }
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let numbers = |text: &str, sign| {
        text.split(sign).map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()
    };
    let day = numbers(day, '-')?;
    let time = numbers(time.strip_suffix('Z')?, ':')?;
    let (&[year, month, day], &[hour, minute, ..]) = (day.as_slice(), time.as_slice()) else {
        return None;
    };
    // Days since 1970 by the civil calendar, counted from March so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let second = time.get(2).copied().unwrap_or(0);
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) as f64)
}

fn bits(address: IpAddr) -> (u32, u128) {
    match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    }
}

/// "CIDR, plain address = /32."
fn is_in(network: &str, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let (base, length) = network.split_once('/').unwrap_or((network, "128"));
    let (kind, address) = bits(address);
    let (base_kind, base) = bits(base.parse().unwrap());
    let length = length.parse::<u32>().unwrap().min(base_kind);
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
    kind == base_kind && address & mask == base & mask
}

fn decode(base64: &str) -> Vec<u8> {
    const SIGNS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = String::new();
    for character in base64.trim_end_matches('=').chars() {
        bits.push_str(&format!("{:06b}", SIGNS.find(character).unwrap()));
    }
    let whole = bits.len() / 8 * 8;
    let octets = bits.as_bytes()[..whole].chunks(8);
    octets
        .map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap())
        .collect()
}
