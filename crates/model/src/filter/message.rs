//! A message, read once for all the filters that it is held against.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::Literal;
use crate::decimal::Decimal;

/// An attribute as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is called.
    pub name: &'a str,
    /// `String`, `String.Array`, `Number` or `Binary`; what stands after the dot in `String.label` or
    /// `Number.label` is the publisher's business.
    pub data_type: &'a str,
    /// The value as text.
    pub value: &'a str,
}

/// A message that filters are held against.
#[derive(Debug)]
pub struct Message<'a> {
    attributes: Vec<(&'a str, Held<'a>)>,
    text: &'a str,
    /// Read when the first policy asks: most look at attributes alone.
    body: OnceLock<Option<Map<String, Value>>>,
}

/// What an attribute holds.
#[derive(Debug)]
pub(super) enum Held<'a> {
    One(Scalar<'a>),
    Many(Vec<Value>),
}

/// A value that matchers are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(&'a str),
}

impl<'a> Message<'a> {
    /// Reads the attributes; the body is read when a policy asks for it.
    pub fn new(attributes: impl IntoIterator<Item = Attribute<'a>>, body: &'a str) -> Self {
        let attributes = attributes
            .into_iter()
            .filter_map(|attribute| held(&attribute).map(|held| (attribute.name, held)))
            .collect();
        Self { attributes, text: body, body: OnceLock::new() }
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Held<'a>> {
        self.attributes.iter().find(|(held, _)| *held == name).map(|(_, held)| held)
    }

    /// The body, if it is a JSON object.
    pub(super) fn body(&self) -> Option<&Map<String, Value>> {
        self.body.get_or_init(|| serde_json::from_str(self.text).ok()).as_ref()
    }
}

fn held<'a>(attribute: &Attribute<'a>) -> Option<Held<'a>> {
    if attribute.data_type == "String.Array" {
        return serde_json::from_str(attribute.value).ok().map(Held::Many);
    }
    let (base, _) = attribute.data_type.split_once('.').unwrap_or((attribute.data_type, ""));
    match base {
        "String" => Some(Held::One(Scalar::Text(attribute.value))),
        "Number" => Decimal::parse(attribute.value).map(|one| Held::One(Scalar::Number(one))),
        _ => None,
    }
}

impl<'a> Scalar<'a> {
    /// A value of JSON; `None` for lists and objects.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Null),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Some(Self::Number(number.into())),
                None => Decimal::parse(&number.to_string()).map(Self::Number),
            },
            Value::String(text) => Some(Self::Text(text)),
            Value::Array(_) | Value::Object(_) => None,
        }
    }

    pub(super) fn is(self, literal: &Literal) -> bool {
        match (self, literal) {
            (Self::Null, Literal::Null) => true,
            (Self::Bool(value), Literal::Bool(wanted)) => value == *wanted,
            (Self::Number(value), Literal::Number(wanted)) => value == *wanted,
            (Self::Text(value), Literal::Text(wanted)) => value == wanted,
            _ => false,
        }
    }
}
