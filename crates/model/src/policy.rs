//! The policy of a topic: who may do what with it (spec 8.6).
//!
//! A policy is parsed once, strictly: what is not understood is refused where it is set and never
//! ignored, since a condition that is passed over would open a door. Evaluating is pure, and its
//! answer says which statement decided; [`Policy::explain`] says of every statement why it did not.
//!
//! What the specification leaves open is decided here, on the safe side:
//!
//! - A comparison without `ForAnyValue:` or `ForAllValues:` on a key that has several values holds
//!   when one value matches, and a negated one when none does.
//! - A value of the request that is none for the operator (an address that is no address) matches
//!   nothing, so negated comparisons hold.
//! - A variable without a value equals nothing.
//! - In `NotPrincipal` an account stands for all its principals, unless some of its users or roles
//!   are listed too: then for these alone.

mod evaluate;
mod explain;
mod key;
mod operator;
mod parse;
mod permission;
mod render;
mod template;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

pub use evaluate::{Decision, Request, Requester};
pub use explain::{Element, Explanation, Mismatch, Trace};
pub use key::{ConditionKey, Context, UnknownKey};
pub use operator::{Comparison, Operator, Quantifier, UnknownOperator};
pub use parse::PolicyFault;
pub use permission::{PermissionFault, add_permission, remove_permission};
pub use template::Template;

use crate::arn::TopicArn;
use crate::decimal::Decimal;
use crate::principal::PrincipalPattern;

/// The longest policy document, in bytes (spec 8.6).
pub const MAX_BYTES: usize = 30 * 1024;
/// The most statements of a policy (spec 8.6).
pub const MAX_STATEMENTS: usize = 100;
/// The most principals of a statement (spec 8.6).
pub const MAX_PRINCIPALS: usize = 200;

/// The service principal that publishes endpoint events (spec 7).
pub const ENDPOINT_EVENTS: &str = "vpce.amazonaws.com";

/// What may be done with a topic: the actions that a policy can name.
pub const ACTIONS: [&str; 9] = [
    "SNS:AddPermission",
    "SNS:DeleteTopic",
    "SNS:GetTopicAttributes",
    "SNS:ListSubscriptionsByTopic",
    "SNS:Publish",
    "SNS:Receive",
    "SNS:RemovePermission",
    "SNS:SetTopicAttributes",
    "SNS:Subscribe",
];

/// Which edition of the policy language a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `2008-10-17`, also when nothing is said.
    V2008,
    /// `2012-10-17`, which has policy variables.
    V2012,
}

/// A parsed policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The language's edition.
    pub version: Version,
    /// The document's `Id`.
    pub id: Option<String>,
    /// The statements, in the document's order, which decides nothing.
    pub statements: Vec<Statement>,
}

/// One statement: whom it allows or denies what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its `Sid`, unique in the document.
    pub sid: Option<String>,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// Whom it is about.
    pub principals: Match<StatementPrincipal>,
    /// Which actions; `*` and `?` are wildcards, and case is ignored.
    pub actions: Match<Template>,
    /// Which topics; `*` and `?` are wildcards.
    pub resources: Match<Template>,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
}

/// An element of a statement that comes in two forms, such as `Action` and `NotAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match<T> {
    /// Any of these.
    Any(Vec<T>),
    /// Everything but these.
    Not(Vec<T>),
}

impl<T> Match<T> {
    /// What is listed, in either form.
    pub fn listed(&self) -> &[T] {
        match self {
            Self::Any(listed) | Self::Not(listed) => listed,
        }
    }

    /// Whether something is meant, which `is_listed` says of one that is listed.
    fn means(&self, is_listed: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any(listed) => listed.iter().any(is_listed),
            Self::Not(listed) => !listed.iter().any(is_listed),
        }
    }
}

/// What a matching statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows, unless another statement denies.
    Allow,
    /// Denies, whatever others allow.
    Deny,
}

impl Effect {
    /// The effect as documents spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        }
    }
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementPrincipal {
    /// Everyone, services too, or an account, user or role.
    Aws(PrincipalPattern),
    /// A service, such as `vpce.amazonaws.com`.
    Service(String),
    /// Whoever an identity provider vouches for.
    Federated(String),
}

/// One key of a condition block: it holds when any of the values matches, or, with a negated
/// comparison, when none does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How values are compared.
    pub operator: Operator,
    /// What is compared.
    pub key: ConditionKey,
    /// With what, each of the kind that the operator compares.
    pub values: Vec<ConditionValue>,
}

/// A value of a condition, read as its operator compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionValue {
    /// Of String and Arn comparisons.
    Text(Template),
    /// Of Numeric comparisons.
    Number(Decimal),
    /// Of Date comparisons.
    Date(DateTime<Utc>),
    /// Of Bool and Null.
    Bool(bool),
    /// Of BinaryEquals.
    Binary(Vec<u8>),
    /// Of IpAddress and NotIpAddress; a plain address is a network of one.
    Network(IpNet),
}

impl Policy {
    /// Parses a document that was set before. Its resources may be patterns.
    ///
    /// # Errors
    /// Says where in the document the first fault is, and what it is.
    pub fn parse(document: &str) -> Result<Self, PolicyFault> {
        parse::policy(document, None)
    }

    /// Parses a document that is to be set on `topic`: each statement must name this topic as its
    /// only resource, since one about another would silently never apply (spec 8.6).
    ///
    /// # Errors
    /// Says where in the document the first fault is, and what it is.
    pub fn parse_for(document: &str, topic: &TopicArn) -> Result<Self, PolicyFault> {
        parse::policy(document, Some(topic))
    }

    /// Decides on a request: a matching Deny wins, else a matching Allow, else it is not allowed.
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        evaluate::policy(self, request)
    }

    /// The decision, and for every statement whether it applies and, if not, which element is the
    /// first that does not match.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        explain::policy(self, request)
    }

    /// The policy as a document, in one canonical form; it parses to the same policy.
    pub fn render(&self) -> String {
        render::policy(self).to_string()
    }

    /// What people call a statement: `Statement[2] (Publishers)`.
    pub fn statement_name(&self, number: usize) -> String {
        let sid = self.statements.get(number).and_then(|statement| statement.sid.as_deref());
        name(number, sid)
    }
}

fn name(number: usize, sid: Option<&str>) -> String {
    match sid {
        Some(sid) => format!("Statement[{number}] ({sid})"),
        None => format!("Statement[{number}]"),
    }
}

/// The document that a new topic has (spec 8.6): everything for its owner. It does not let
/// `vpce.amazonaws.com` publish.
pub fn default_document(topic: &TopicArn) -> String {
    let actions: Vec<String> = [
        "GetTopicAttributes",
        "SetTopicAttributes",
        "AddPermission",
        "RemovePermission",
        "DeleteTopic",
        "Subscribe",
        "ListSubscriptionsByTopic",
        "Publish",
    ]
    .iter()
    .map(|name| format!("\"SNS:{name}\""))
    .collect();
    format!(
        "{{\"Version\":\"2008-10-17\",\"Id\":\"__default_policy_ID\",\"Statement\":[{{\
         \"Sid\":\"__default_statement_ID\",\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"*\"}},\
         \"Action\":[{}],\"Resource\":\"{topic}\",\
         \"Condition\":{{\"StringEquals\":{{\"AWS:SourceOwner\":\"{}\"}}}}}}]}}",
        actions.join(","),
        topic.account(),
    )
}

/// A topic as the resource of a statement.
fn this_topic(topic: &TopicArn) -> Vec<Template> {
    // Names of topics hold no wildcards, and in the old edition nothing is a variable.
    Template::parse(&topic.to_string(), Version::V2008).into_iter().collect()
}

/// A statement that lets the events of `source_arn`, which `source_account` owns, into `topic`: what
/// a denied caller is advised to add.
pub fn suggested_statement(topic: &TopicArn, source_arn: &str, source_account: &str) -> String {
    let text = |text: &str| Template::parse(text, Version::V2008).into_iter();
    let condition = |comparison, key, value: &str| Condition {
        operator: Operator { quantifier: None, comparison, if_exists: false },
        key,
        values: text(value).map(ConditionValue::Text).collect(),
    };
    let statement = Statement {
        sid: None,
        effect: Effect::Allow,
        principals: Match::Any(vec![StatementPrincipal::Service(ENDPOINT_EVENTS.to_owned())]),
        actions: Match::Any(text("SNS:Publish").collect()),
        resources: Match::Any(this_topic(topic)),
        conditions: vec![
            condition(Comparison::ArnLike, ConditionKey::SourceArn, source_arn),
            condition(Comparison::StringEquals, ConditionKey::SourceAccount, source_account),
        ],
    };
    render::statement(&statement).to_string()
}
