//! Values of conditions: each is read as its operator compares it, or refused, since a value that
//! cannot be read would never match and nobody would know.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use ipnet::IpNet;

use super::super::operator::Kind;
use super::{Operator, PolicyFault, Reader};
use crate::decimal::Decimal;
use crate::json::{Node, Value, shown};
use crate::policy::ConditionValue;

impl Reader<'_> {
    pub(super) fn value(
        &self,
        node: &Node,
        path: &str,
        operator: Operator,
    ) -> Result<ConditionValue, PolicyFault> {
        let kind = operator.comparison.kind();
        // Numbers and booleans of JSON stand for their texts where such are compared.
        let text = match (&node.value, kind) {
            (Value::Number(number), Kind::Number | Kind::Date) => number.as_str(),
            (Value::Bool(true), Kind::Bool) => "true",
            (Value::Bool(false), Kind::Bool) => "false",
            _ => self.text(node, path)?,
        };
        let wrong = |what: &str| {
            let reason = format!("{operator} compares {what}, and {:?} is none", shown(text));
            self.fault(node.at, path, reason)
        };
        match kind {
            Kind::Text => Ok(ConditionValue::Text(self.template(node, path, text)?)),
            Kind::Arn => {
                let template = self.template(node, path, text)?;
                if !template.is_arn() {
                    return Err(wrong("ARNs, which have six parts"));
                }
                Ok(ConditionValue::Text(template))
            }
            Kind::Number => Decimal::parse(text)
                .filter(|number| number.is_exact())
                .map(ConditionValue::Number)
                .ok_or_else(|| wrong("numbers of at most 20 digits before and 9 after the point")),
            Kind::Date => date(text).map(ConditionValue::Date).ok_or_else(|| {
                wrong("dates such as 2026-11-24, 2026-11-24T10:00:00Z or 1795514400")
            }),
            Kind::Bool => text
                .parse()
                .map(ConditionValue::Bool)
                .map_err(|_| wrong("true or false, in lower case")),
            Kind::Binary => STANDARD
                .decode(text)
                .map(ConditionValue::Binary)
                .map_err(|_| wrong("bytes as base64 with padding")),
            Kind::Network => network(text)
                .map(ConditionValue::Network)
                .ok_or_else(|| wrong("addresses or CIDR blocks")),
        }
    }
}

/// A CIDR block, or an address, which is a block of one. Bits after the prefix are dropped.
fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// A moment: seconds since 1970, or ISO 8601 as a date (its first moment in UTC) or a date and a time
/// to the minute or finer, with `Z` or an offset. The years are 1 to 9999.
pub(in crate::policy) fn date(text: &str) -> Option<DateTime<Utc>> {
    let moment = if text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
    {
        DateTime::from_timestamp(text.parse().ok()?, 0)?
    } else if text.len() == 10 {
        NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc()
    } else {
        // RFC 3339 wants seconds, which ISO 8601 does not.
        let to_the_minute = text.get(..16).zip(text.get(16..)).filter(|(_, zone)| {
            zone.starts_with(['Z', '+', '-']) && text.as_bytes().get(10) == Some(&b'T')
        });
        let whole = to_the_minute.map(|(minute, zone)| format!("{minute}:00{zone}"));
        let text = whole.as_deref().unwrap_or(text);
        if text.as_bytes().get(10) != Some(&b'T') {
            return None;
        }
        DateTime::parse_from_rfc3339(text).ok()?.to_utc()
    };
    let year = moment.format("%Y").to_string().parse::<i32>().ok()?;
    (1..=9999).contains(&year).then_some(moment)
}
