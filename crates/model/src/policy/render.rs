//! Policies as documents: one canonical form, in the order in which AWS writes elements.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::SecondsFormat;
use serde_json::{Map, Value};

use super::{
    Condition, ConditionValue, Match, Policy, Statement, StatementPrincipal, Template, Version,
};

pub(super) fn policy(policy: &Policy) -> Value {
    let mut document = Map::new();
    let version = match policy.version {
        Version::V2008 => "2008-10-17",
        Version::V2012 => "2012-10-17",
    };
    document.insert("Version".to_owned(), version.into());
    if let Some(id) = &policy.id {
        document.insert("Id".to_owned(), id.as_str().into());
    }
    let statements = policy.statements.iter().map(statement).collect();
    document.insert("Statement".to_owned(), Value::Array(statements));
    Value::Object(document)
}

pub(super) fn statement(statement: &Statement) -> Value {
    let mut document = Map::new();
    if let Some(sid) = &statement.sid {
        document.insert("Sid".to_owned(), sid.as_str().into());
    }
    document.insert("Effect".to_owned(), statement.effect.as_str().into());
    let mut insert = |word: &str, is_not: bool, value| {
        document.insert(if is_not { format!("Not{word}") } else { word.to_owned() }, value);
    };
    let Statement { principals: who, actions, resources, .. } = statement;
    insert("Principal", matches!(who, Match::Not(_)), principals(who.listed()));
    insert("Action", matches!(actions, Match::Not(_)), texts(actions.listed()));
    insert("Resource", matches!(resources, Match::Not(_)), texts(resources.listed()));
    if !statement.conditions.is_empty() {
        insert("Condition", false, conditions(&statement.conditions));
    }
    Value::Object(document)
}

/// One value stands alone, several are a list.
fn one_or_list(mut values: Vec<Value>) -> Value {
    if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
}

pub(super) fn principals(principals: &[StatementPrincipal]) -> Value {
    let mut kinds: Map<String, Value> = Map::new();
    let mut all_of = |kind: &str, select: &dyn Fn(&StatementPrincipal) -> Option<String>| {
        let values: Vec<Value> = principals.iter().filter_map(select).map(Value::String).collect();
        if !values.is_empty() {
            kinds.insert(kind.to_owned(), one_or_list(values));
        }
    };
    all_of("AWS", &|principal| match principal {
        StatementPrincipal::Aws(pattern) => Some(pattern.to_string()),
        _ => None,
    });
    all_of("Service", &|principal| match principal {
        StatementPrincipal::Service(service) => Some(service.clone()),
        _ => None,
    });
    all_of("Federated", &|principal| match principal {
        StatementPrincipal::Federated(provider) => Some(provider.clone()),
        _ => None,
    });
    Value::Object(kinds)
}

pub(super) fn texts(texts: &[Template]) -> Value {
    one_or_list(texts.iter().map(|text| text.as_str().into()).collect())
}

fn conditions(conditions: &[Condition]) -> Value {
    let mut blocks: Map<String, Value> = Map::new();
    for condition in conditions {
        let block = blocks
            .entry(condition.operator.to_string())
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(block) = block {
            block.insert(condition.key.as_str().to_owned(), values(&condition.values));
        }
    }
    Value::Object(blocks)
}

pub(super) fn values(values: &[ConditionValue]) -> Value {
    one_or_list(
        values
            .iter()
            .map(|value| match value {
                ConditionValue::Text(text) => text.as_str().into(),
                ConditionValue::Number(number) => number.to_string().into(),
                ConditionValue::Date(date) => {
                    date.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
                }
                ConditionValue::Bool(value) => value.to_string().into(),
                ConditionValue::Binary(bytes) => STANDARD.encode(bytes).into(),
                ConditionValue::Network(network) => network.to_string().into(),
            })
            .collect(),
    )
}
