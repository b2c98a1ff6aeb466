//! Filter policies of subscriptions: which messages a subscriber wants (spec 8.5).
//!
//! A policy names keys, each with values; all keys must match, and of a key any value is enough. It
//! is parsed once, strictly, and held against many messages; a [`Message`] is read once for many
//! policies.
//!
//! What the specification leaves open is decided here:
//!
//! - `$or` is a list of two or more objects, of which one must match, beside the other keys of the
//!   object that it stands in. Its combinations are the sum of its branches'. Keys are counted by
//!   their paths, so one that two branches name is one key.
//! - In a body, a list matches when one element does, and a list of objects when one object matches
//!   the whole nested policy.
//! - `exists` is about values: a key that holds an object or an empty list has none.
//! - A key without a value matches `{"exists": false}` and nothing else; `anything-but` wants a value.
//! - A body that is no JSON object has no keys. An attribute that is not what its type says, or is
//!   Binary, is not there.

mod matching;
mod message;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

pub use message::{Attribute, Message};
pub use parse::FilterFault;

use crate::decimal::Decimal;

/// The longest filter policy, in bytes (our choice).
pub const MAX_BYTES: usize = 64 * 1024;
/// The most keys of a policy (spec 8.5).
pub const MAX_KEYS: usize = 5;
/// The most combinations: the product of the keys' counts of values, each times its depth (spec 8.5).
pub const MAX_COMBINATIONS: u64 = 150;

/// What a filter policy looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FilterScope {
    /// The message's attributes.
    #[default]
    MessageAttributes,
    /// The message itself, which is JSON.
    MessageBody,
}

impl FilterScope {
    /// The scope as requests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MessageAttributes => "MessageAttributes",
            Self::MessageBody => "MessageBody",
        }
    }
}

impl fmt::Display for FilterScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "FilterPolicyScope: Invalid value [{0}]. Please use either MessageBody or MessageAttributes"
)]
pub struct UnknownScope(String);

impl FromStr for FilterScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        [Self::MessageAttributes, Self::MessageBody]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope(crate::json::shown(text)))
    }
}

/// A parsed filter policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterPolicy {
    scope: FilterScope,
    root: Object,
}

/// The keys of an object, and its `$or`. All must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Object {
    keys: Vec<(String, Rule)>,
    either: Vec<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// Any of these.
    Values(Vec<Matcher>),
    /// The object under the key matches.
    Nested(Object),
}

/// One value of a key, or one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    Exact(Literal),
    Prefix(String),
    Suffix(String),
    EqualsIgnoreCase(String),
    Numeric(Range),
    Exists(bool),
    Cidr(IpNet),
    AnythingBut(Vec<Literal>),
    AnythingButPrefix(String),
    AnythingButSuffix(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
}

/// Numbers between two bounds, each of them there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    lower: Option<Bound>,
    upper: Option<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    at: Decimal,
    included: bool,
}

impl FilterPolicy {
    /// Parses a document strictly.
    ///
    /// # Errors
    /// Says where in the document the first fault is, and what it is, after `FilterPolicy: `.
    pub fn parse(document: &str, scope: FilterScope) -> Result<Self, FilterFault> {
        parse::policy(document, scope)
    }

    /// What the policy looks at.
    pub fn scope(&self) -> FilterScope {
        self.scope
    }

    /// Whether the subscriber wants this message.
    pub fn matches(&self, message: &Message<'_>) -> bool {
        matching::policy(self, message)
    }
}
