//! Deciding on a request. Pure: the same policy and request have the same answer.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::operator::Kind;
use super::template::{Case, Template};
use super::{
    Comparison, Condition, ConditionValue, Context, Effect, Element, Match, Policy, Quantifier,
    Statement, StatementPrincipal, parse,
};
use crate::account::AccountId;
use crate::decimal::Decimal;
use crate::principal::PrincipalPattern;

/// Who wants to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester<'a> {
    /// A service, such as `vpce.amazonaws.com`.
    Service(&'a str),
    /// A principal of an account.
    Account {
        /// The account.
        account: AccountId,
        /// The principal's ARN.
        principal: &'a str,
    },
    /// Somebody whom this identity provider vouches for.
    Federated(&'a str),
}

/// Something that somebody wants to do with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who.
    pub requester: Requester<'a>,
    /// What: `SNS:Publish`.
    pub action: &'a str,
    /// With which topic: its ARN.
    pub resource: &'a str,
    /// What conditions look at.
    pub context: Context<'a>,
}

/// What a policy says to a request. Statements are named by their place in the document, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This statement allows it, and none denies it.
    Allowed {
        /// The statement.
        by: usize,
    },
    /// This statement denies it.
    Denied {
        /// The statement.
        by: usize,
    },
    /// No statement is about it.
    NotAllowed,
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

pub(super) fn policy(policy: &Policy, request: &Request<'_>) -> Decision {
    decide(policy, |statement| mismatch(statement, request).is_none())
}

/// The one place where an explicit Deny wins.
pub(super) fn decide(policy: &Policy, mut applies: impl FnMut(&Statement) -> bool) -> Decision {
    let mut first = |effect| {
        policy
            .statements
            .iter()
            .position(|statement| statement.effect == effect && applies(statement))
    };
    if let Some(by) = first(Effect::Deny) {
        return Decision::Denied { by };
    }
    first(Effect::Allow).map_or(Decision::NotAllowed, |by| Decision::Allowed { by })
}

/// The first element of a statement that keeps it from applying; `None` when it applies.
pub(super) fn mismatch(statement: &Statement, request: &Request<'_>) -> Option<Element> {
    let context = &request.context;
    if !means_principal(&statement.principals, request.requester) {
        return Some(Element::Principal);
    }
    if !statement.actions.means(|one| one.matches(request.action, context, Case::Ignored)) {
        return Some(Element::Action);
    }
    if !statement.resources.means(|one| one.matches(request.resource, context, Case::Matters)) {
        return Some(Element::Resource);
    }
    statement
        .conditions
        .iter()
        .position(|condition| !holds(condition, context))
        .map(Element::Condition)
}

fn means_principal(principals: &Match<StatementPrincipal>, requester: Requester<'_>) -> bool {
    let is_listed = |principal: &StatementPrincipal| is_listed(principal, requester);
    match (principals, requester) {
        (Match::Not(listed), Requester::Account { account, principal })
            if principal != account.root_arn() && names_some_of(listed, account) =>
        {
            // The account is listed because it must be; the ones beside it are those who are meant.
            !listed.iter().any(|one| is_individual(one, account) && is_listed(one))
        }
        _ => principals.means(is_listed),
    }
}

fn names_some_of(listed: &[StatementPrincipal], account: AccountId) -> bool {
    listed.iter().any(|principal| is_individual(principal, account))
}

fn is_individual(principal: &StatementPrincipal, of: AccountId) -> bool {
    matches!(
        principal,
        StatementPrincipal::Aws(
            PrincipalPattern::User(account, _) | PrincipalPattern::Role(account, _)
        ) if *account == of
    )
}

fn is_listed(principal: &StatementPrincipal, requester: Requester<'_>) -> bool {
    match (principal, requester) {
        // `*` and `{"AWS": "*"}` are the same in a resource's policy, and mean services too.
        (StatementPrincipal::Aws(PrincipalPattern::All), _) => true,
        (StatementPrincipal::Aws(pattern), Requester::Account { account, principal }) => {
            pattern.covers(account, principal)
        }
        (StatementPrincipal::Service(listed), Requester::Service(service)) => listed == service,
        (StatementPrincipal::Federated(listed), Requester::Federated(provider)) => {
            listed == provider
        }
        (StatementPrincipal::Aws(_), Requester::Service(_) | Requester::Federated(_))
        | (StatementPrincipal::Service(_), Requester::Account { .. } | Requester::Federated(_))
        | (StatementPrincipal::Federated(_), Requester::Account { .. } | Requester::Service(_)) => {
            false
        }
    }
}

/// Whether a condition holds, a missing key included (spec 8.6).
fn holds(condition: &Condition, context: &Context<'_>) -> bool {
    let operator = condition.operator;
    let mut present = context.values(condition.key).peekable();
    let is_missing = present.peek().is_none();
    if operator.comparison == Comparison::Null {
        return condition.values.contains(&ConditionValue::Bool(is_missing));
    }
    let negated = operator.comparison.is_negated();
    if is_missing {
        return operator.if_exists
            || match operator.quantifier {
                Some(Quantifier::ForAnyValue) => false,
                Some(Quantifier::ForAllValues) => true,
                None => negated,
            };
    }
    let mut holds_for = |present: &str| is_like_one(condition, present, context) != negated;
    match operator.quantifier {
        Some(Quantifier::ForAnyValue) => present.any(&mut holds_for),
        Some(Quantifier::ForAllValues) => present.all(&mut holds_for),
        None if negated => present.all(&mut holds_for),
        None => present.any(&mut holds_for),
    }
}

/// What the request says, read as the operator compares it.
enum Present<'a> {
    Text(&'a str),
    Number(Decimal),
    Date(DateTime<Utc>),
    Bool(bool),
    Binary(&'a [u8]),
    Address(IpAddr),
}

impl<'a> Present<'a> {
    fn read(kind: Kind, text: &'a str) -> Option<Self> {
        match kind {
            Kind::Text | Kind::Arn => Some(Self::Text(text)),
            Kind::Number => Decimal::parse(text).map(Self::Number),
            Kind::Date => parse::date(text).map(Self::Date),
            Kind::Bool => text.parse().ok().map(Self::Bool),
            Kind::Binary => Some(Self::Binary(text.as_bytes())),
            // An IPv4 client of an IPv6 socket is an IPv4 client.
            Kind::Network => {
                text.parse::<IpAddr>().ok().map(|address| Self::Address(address.to_canonical()))
            }
        }
    }
}

/// Whether what the request says is like one of the values, as the comparison's positive form says.
fn is_like_one(condition: &Condition, present: &str, context: &Context<'_>) -> bool {
    let comparison = condition.operator.comparison;
    let Some(present) = Present::read(comparison.kind(), present) else { return false };
    condition.values.iter().any(|value| match (value, &present) {
        (ConditionValue::Text(value), Present::Text(present)) => {
            is_like_text(comparison, value, present, context)
        }
        (ConditionValue::Number(value), Present::Number(present)) => {
            is_in_order(comparison, present, value)
        }
        (ConditionValue::Date(value), Present::Date(present)) => {
            is_in_order(comparison, present, value)
        }
        (ConditionValue::Bool(value), Present::Bool(present)) => value == present,
        (ConditionValue::Binary(value), Present::Binary(present)) => value == present,
        (ConditionValue::Network(value), Present::Address(present)) => value.contains(present),
        // The parser makes values of the comparison's kind alone.
        _ => false,
    })
}

fn is_like_text(
    comparison: Comparison,
    value: &Template,
    present: &str,
    context: &Context<'_>,
) -> bool {
    match comparison {
        Comparison::StringEqualsIgnoreCase | Comparison::StringNotEqualsIgnoreCase => {
            value.equals(present, context, Case::Ignored)
        }
        Comparison::StringLike | Comparison::StringNotLike => {
            value.matches(present, context, Case::Matters)
        }
        _ if comparison.kind() == Kind::Arn => value.matches_arn(present, context),
        _ => value.equals(present, context, Case::Matters),
    }
}

fn is_in_order<T: Ord>(comparison: Comparison, present: &T, value: &T) -> bool {
    use Comparison as C;
    match comparison {
        C::NumericLessThan | C::DateLessThan => present < value,
        C::NumericLessThanEquals | C::DateLessThanEquals => present <= value,
        C::NumericGreaterThan | C::DateGreaterThan => present > value,
        C::NumericGreaterThanEquals | C::DateGreaterThanEquals => present >= value,
        _ => present == value,
    }
}
