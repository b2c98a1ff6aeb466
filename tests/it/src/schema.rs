//! As much of JSON Schema as the schemas of events use. What a schema says that is not understood here
//! fails, and so does a property that it doesn't list: what is published must be documented.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// What of a value is not as the schema says, with the places; empty when all is.
///
/// # Panics
/// When the schema has a keyword that is not understood.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check("$", schema.as_object().expect("a schema"), value, &mut faults);
    faults
}

fn check(place: &str, schema: &Map<String, Value>, value: &Value, faults: &mut Vec<String>) {
    let mut wrong = |what: String| faults.push(format!("{place} {what}: {value}"));
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "properties" | "items" => {}
            "const" if wanted != value => wrong(format!("is not {wanted}")),
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                wrong(format!("is none of {wanted}"));
            }
            "type" => {
                let kinds = match wanted {
                    Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
                    kind => vec![kind.as_str().unwrap()],
                };
                if !kinds.iter().any(|kind| is(kind, value)) {
                    wrong(format!("is no {kinds:?}"));
                }
            }
            "pattern" => {
                let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    wrong(format!("does not match {wanted}"));
                }
            }
            "minimum" => {
                if value.as_i64().is_some_and(|number| number < wanted.as_i64().unwrap()) {
                    wrong(format!("is less than {wanted}"));
                }
            }
            "format" if wanted == "date-time" => {
                if value
                    .as_str()
                    .is_none_or(|text| chrono::DateTime::parse_from_rfc3339(text).is_err())
                {
                    wrong("is no time".to_owned());
                }
            }
            "required" => {
                for name in wanted.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        wrong(format!("lacks {name}"));
                    }
                }
            }
            "const" | "enum" => {}
            other => panic!("{place}: the keyword {other} is not understood"),
        }
    }
    if let (Some(properties), Value::Object(fields)) = (schema.get("properties"), value) {
        for (name, field) in fields {
            match properties.get(name).and_then(Value::as_object) {
                Some(schema) => check(&format!("{place}.{name}"), schema, field, faults),
                None => faults.push(format!("{place}.{name} is not documented")),
            }
        }
    }
    if let (Some(Value::Object(schema)), Value::Array(items)) = (schema.get("items"), value) {
        for (number, item) in items.iter().enumerate() {
            check(&format!("{place}[{number}]"), schema, item, faults);
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not understood"),
    }
}
