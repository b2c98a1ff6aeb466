//! Deciding on a request. Pure: the same policy and request have the same answer.

use super::{
    Condition, ConditionKey, Effect, Operator, Policy, Statement, StatementPrincipal, pattern,
};
use crate::account::AccountId;
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
}

/// What conditions look at. A key that is absent lets no condition on it hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    /// `aws:SourceArn`.
    pub source_arn: Option<&'a str>,
    /// `aws:SourceAccount`.
    pub source_account: Option<&'a str>,
    /// `aws:SourceOwner`.
    pub source_owner: Option<&'a str>,
}

impl Context<'_> {
    fn get(&self, key: ConditionKey) -> Option<&str> {
        match key {
            ConditionKey::SourceArn => self.source_arn,
            ConditionKey::SourceAccount => self.source_account,
            ConditionKey::SourceOwner => self.source_owner,
        }
    }
}

/// Something that somebody wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    let first = |effect| {
        policy
            .statements
            .iter()
            .position(|statement| statement.effect == effect && applies(statement, request))
    };
    if let Some(by) = first(Effect::Deny) {
        return Decision::Denied { by };
    }
    first(Effect::Allow).map_or(Decision::NotAllowed, |by| Decision::Allowed { by })
}

fn applies(statement: &Statement, request: &Request<'_>) -> bool {
    statement.principals.iter().any(|principal| is_meant(principal, request.requester))
        && statement.actions.iter().any(|action| pattern::matches_any_case(action, request.action))
        && statement.resources.iter().any(|pattern| pattern::matches(pattern, request.resource))
        && statement.conditions.iter().all(|condition| holds(condition, &request.context))
}

fn is_meant(principal: &StatementPrincipal, requester: Requester<'_>) -> bool {
    match (principal, requester) {
        // `*` and `{"AWS": "*"}` are the same in a resource's policy, and mean services too.
        (StatementPrincipal::Aws(PrincipalPattern::All), _) => true,
        (StatementPrincipal::Aws(pattern), Requester::Account { account, principal }) => {
            pattern.covers(account, principal)
        }
        (StatementPrincipal::Service(allowed), Requester::Service(service)) => allowed == service,
        (StatementPrincipal::Aws(_), Requester::Service(_))
        | (StatementPrincipal::Service(_), Requester::Account { .. }) => false,
    }
}

fn holds(condition: &Condition, context: &Context<'_>) -> bool {
    let Some(present) = context.get(condition.key) else { return false };
    condition.values.iter().any(|value| match condition.operator {
        Operator::StringEquals => value == present,
        Operator::StringLike => pattern::matches(value, present),
        Operator::ArnEquals | Operator::ArnLike => pattern::matches_arn(value, present),
    })
}
