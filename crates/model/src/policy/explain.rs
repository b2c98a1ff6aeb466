//! Why a request is allowed or not: the walk that `postern topic explain` shows.

use std::fmt;

use super::evaluate::{decide, mismatch};
use super::{
    Condition, Decision, Effect, Match, Policy, Request, Requester, Statement, name, render,
};

/// A decision and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The decision; the same that [`Policy::evaluate`] gives.
    pub decision: Decision,
    /// All statements, in the document's order.
    pub statements: Vec<Trace>,
}

/// What one statement says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its place in the document, from 0.
    pub number: usize,
    /// Its `Sid`.
    pub sid: Option<String>,
    /// Whether it would allow or deny.
    pub effect: Effect,
    /// Why it does not apply; `None` when it does.
    pub mismatch: Option<Mismatch>,
}

/// The first element of a statement that does not match a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub element: Element,
    /// Its path in the statement: `Condition.StringEquals.aws:SourceAccount`.
    pub path: String,
    /// What it asks for, in the document's words.
    pub expected: String,
    /// What the request has there; `None` for a key that is missing.
    pub actual: Option<String>,
}

/// A part of a statement that a request is held against, in the order in which that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// `Principal` or `NotPrincipal`.
    Principal,
    /// `Action` or `NotAction`.
    Action,
    /// `Resource` or `NotResource`.
    Resource,
    /// The condition key of this number, from 0, over all operators of the statement.
    Condition(usize),
}

pub(super) fn policy(policy: &Policy, request: &Request<'_>) -> Explanation {
    let statements = policy
        .statements
        .iter()
        .enumerate()
        .map(|(number, statement)| Trace {
            number,
            sid: statement.sid.clone(),
            effect: statement.effect,
            mismatch: mismatch(statement, request)
                .map(|element| describe(statement, element, request)),
        })
        .collect();
    let decision = decide(policy, |statement| mismatch(statement, request).is_none());
    Explanation { decision, statements }
}

fn describe(statement: &Statement, element: Element, request: &Request<'_>) -> Mismatch {
    let of = |word: &str, is_not: bool| {
        if is_not { format!("Not{word}") } else { word.to_owned() }
    };
    let (path, expected, actual) = match element {
        Element::Principal => (
            of("Principal", matches!(statement.principals, Match::Not(_))),
            render::principals(statement.principals.listed()).to_string(),
            Some(requester(request.requester)),
        ),
        Element::Action => (
            of("Action", matches!(statement.actions, Match::Not(_))),
            render::texts(statement.actions.listed()).to_string(),
            Some(request.action.to_owned()),
        ),
        Element::Resource => (
            of("Resource", matches!(statement.resources, Match::Not(_))),
            render::texts(statement.resources.listed()).to_string(),
            Some(request.resource.to_owned()),
        ),
        Element::Condition(number) => match statement.conditions.get(number) {
            Some(condition) => (
                format!("Condition.{}.{}", condition.operator, condition.key),
                render::values(&condition.values).to_string(),
                present(condition, request),
            ),
            None => (String::new(), String::new(), None),
        },
    };
    Mismatch { element, path, expected, actual }
}

fn requester(requester: Requester<'_>) -> String {
    match requester {
        Requester::Service(service) => format!("the service {service}"),
        Requester::Account { account, principal } => format!("{principal} of account {account}"),
        Requester::Federated(provider) => format!("someone of {provider}"),
    }
}

fn present(condition: &Condition, request: &Request<'_>) -> Option<String> {
    let values: Vec<&str> = request.context.values(condition.key).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, expected, actual, .. } = self;
        write!(f, "{path} is {expected}, and ")?;
        match actual {
            Some(actual) => write!(f, "the request has {actual}"),
            None => f.write_str("the key is missing"),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name(self.number, self.sid.as_deref());
        let effect = self.effect.as_str();
        match &self.mismatch {
            Some(mismatch) => write!(f, "{name}, {effect}: does not apply: {mismatch}"),
            None => write!(f, "{name}, {effect}: applies"),
        }
    }
}
