//! The policy of a topic: who may do what with it (spec 8.6).
//!
//! A policy is parsed once, strictly: what is not understood, or not supported yet, is refused where
//! it is set and never ignored, since a condition that is passed over would open a door. Evaluating
//! is pure, and its answer says which statement decided.

mod evaluate;
mod json;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

pub use evaluate::{Context, Decision, Request, Requester};
pub use parse::PolicyFault;

use crate::arn::TopicArn;
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
    /// `2012-10-17`, which has policy variables. They are not supported yet, and refused.
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
    pub principals: Vec<StatementPrincipal>,
    /// Which actions; patterns with `*` and `?`, compared without regard to case.
    pub actions: Vec<String>,
    /// Which topics; patterns with `*` and `?`.
    pub resources: Vec<String>,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
}

/// What a matching statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Allows, unless another statement denies.
    Allow,
    /// Denies, whatever others allow.
    Deny,
}

/// Whom a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementPrincipal {
    /// Everyone, services too, or an account, user or role.
    Aws(PrincipalPattern),
    /// A service, such as `vpce.amazonaws.com`.
    Service(String),
}

/// One key of a condition block: it holds when any of the values matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How values are compared.
    pub operator: Operator,
    /// What is compared.
    pub key: ConditionKey,
    /// With what.
    pub values: Vec<String>,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Exactly, case and all.
    StringEquals,
    /// With `*` and `?`.
    StringLike,
    /// The six parts of an ARN one by one, with `*` and `?`; the same as [`Operator::ArnLike`].
    ArnEquals,
    /// The six parts of an ARN one by one, with `*` and `?`.
    ArnLike,
}

impl Operator {
    const ALL: [Self; 4] = [Self::StringEquals, Self::StringLike, Self::ArnEquals, Self::ArnLike];

    /// The operator as documents spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StringEquals => "StringEquals",
            Self::StringLike => "StringLike",
            Self::ArnEquals => "ArnEquals",
            Self::ArnLike => "ArnLike",
        }
    }
}

/// What a condition looks at. Documents may spell keys in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKey {
    /// The ARN of the resource on whose behalf a service acts.
    SourceArn,
    /// The account that owns that resource.
    SourceAccount,
    /// The same in old documents; never present here, since no service of Postern sets it (spec 8.6).
    SourceOwner,
}

impl ConditionKey {
    const ALL: [Self; 3] = [Self::SourceArn, Self::SourceAccount, Self::SourceOwner];

    /// The key as documentation spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceArn => "aws:SourceArn",
            Self::SourceAccount => "aws:SourceAccount",
            Self::SourceOwner => "aws:SourceOwner",
        }
    }
}

impl Policy {
    /// Parses a document strictly.
    ///
    /// # Errors
    /// Says where in the document the first fault is, and what it is.
    pub fn parse(document: &str) -> Result<Self, PolicyFault> {
        parse::policy(document)
    }

    /// Refuses a policy that speaks of other topics than `topic`: such a statement would silently
    /// never apply.
    ///
    /// # Errors
    /// Names the first resource that is not this topic.
    pub fn check_topic(&self, topic: &TopicArn) -> Result<(), PolicyFault> {
        let arn = topic.to_string();
        for (number, statement) in self.statements.iter().enumerate() {
            for resource in &statement.resources {
                if !pattern::matches(resource, &arn) {
                    return Err(PolicyFault::of_path(
                        format!("Statement[{number}].Resource"),
                        format!("{resource:?} is not this topic, {arn}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Decides on a request: a matching Deny wins, else a matching Allow, else it is not allowed.
    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        evaluate::policy(self, request)
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

/// A statement that lets the events of `source_arn`, which `source_account` owns, into `topic`: what
/// a denied caller is advised to add.
pub fn suggested_statement(topic: &TopicArn, source_arn: &str, source_account: &str) -> String {
    format!(
        "{{\"Effect\":\"Allow\",\"Principal\":{{\"Service\":\"{ENDPOINT_EVENTS}\"}},\
         \"Action\":\"SNS:Publish\",\"Resource\":\"{topic}\",\
         \"Condition\":{{\"ArnLike\":{{\"aws:SourceArn\":\"{source_arn}\"}},\
         \"StringEquals\":{{\"aws:SourceAccount\":\"{source_account}\"}}}}}}"
    )
}
