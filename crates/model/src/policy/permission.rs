//! AddPermission and RemovePermission (spec 8.2): changes to a document that keep the rest of it.

use serde_json::{Map, Value};

use super::{
    ACTIONS, Effect, Match, Policy, PolicyFault, Statement, StatementPrincipal, Template, Version,
    render,
};
use crate::account::AccountId;
use crate::arn::TopicArn;
use crate::principal::PrincipalPattern;

/// The longest label, in characters (our choice; as SQS has it).
const MAX_LABEL: usize = 80;

/// Why a permission is not added or removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermissionFault {
    /// The text is no label.
    #[error("Label: expected 1 to {MAX_LABEL} letters, digits, hyphens and underscores")]
    Label,
    /// Nobody is named.
    #[error("AWSAccountId: at least one account is needed")]
    NoAccount,
    /// Nothing is named.
    #[error("ActionName: at least one action is needed")]
    NoAction,
    /// A topic has no such action.
    #[error("ActionName: Policy statement action out of service scope: {0:?}")]
    UnknownAction(String),
    /// A statement has this label.
    #[error("Label: Statement already exists: {0}")]
    Exists(String),
    /// No statement has this label.
    #[error("Label: no statement has the Sid {0}")]
    NoSuchLabel(String),
    /// The document cannot be read, or would break a limit.
    #[error("Policy: {0}")]
    Policy(#[from] PolicyFault),
}

/// The document with a statement more: `label` lets `accounts` do `actions` (names such as `Publish`)
/// with `topic`.
///
/// # Errors
/// When an argument is bad, the label is taken, or the document would break a limit.
pub fn add_permission(
    document: &str,
    topic: &TopicArn,
    label: &str,
    accounts: &[AccountId],
    actions: &[&str],
) -> Result<String, PermissionFault> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if label.is_empty() || label.len() > MAX_LABEL || !label.bytes().all(named) {
        return Err(PermissionFault::Label);
    }
    if accounts.is_empty() {
        return Err(PermissionFault::NoAccount);
    }
    if actions.is_empty() {
        return Err(PermissionFault::NoAction);
    }
    let mut listed: Vec<Template> = Vec::with_capacity(actions.len());
    for action in actions {
        let known = ACTIONS.into_iter().find(|known| {
            known.strip_prefix("SNS:").is_some_and(|name| name.eq_ignore_ascii_case(action))
        });
        let known = known
            .and_then(|known| Template::parse(known, Version::V2008).ok())
            .ok_or_else(|| PermissionFault::UnknownAction(crate::json::shown(action)))?;
        if !listed.contains(&known) {
            listed.push(known);
        }
    }
    if find(document, label)?.is_some() {
        return Err(PermissionFault::Exists(label.to_owned()));
    }
    let mut principals: Vec<StatementPrincipal> = Vec::with_capacity(accounts.len());
    for account in accounts {
        let principal = StatementPrincipal::Aws(PrincipalPattern::Account(*account));
        if !principals.contains(&principal) {
            principals.push(principal);
        }
    }
    let statement = Statement {
        sid: Some(label.to_owned()),
        effect: Effect::Allow,
        principals: Match::Any(principals),
        actions: Match::Any(listed),
        resources: Match::Any(super::this_topic(topic)),
        conditions: Vec::new(),
    };
    change(document, |statements| statements.push(render::statement(&statement)))
}

/// The document without the statement `label`.
///
/// # Errors
/// When no statement has the label (spec 8.2: our choice), or the document cannot be read.
pub fn remove_permission(document: &str, label: &str) -> Result<String, PermissionFault> {
    let number = find(document, label)?
        .ok_or_else(|| PermissionFault::NoSuchLabel(crate::json::shown(label)))?;
    change(document, |statements| {
        statements.remove(number);
    })
}

fn find(document: &str, label: &str) -> Result<Option<usize>, PermissionFault> {
    let policy = Policy::parse(document)?;
    Ok(policy.statements.iter().position(|one| one.sid.as_deref() == Some(label)))
}

/// Edits the statements of a document that parses. Works on the JSON, so that whatever it does not
/// touch stays as it was written, in the order in which it was written.
fn change(document: &str, edit: impl FnOnce(&mut Vec<Value>)) -> Result<String, PermissionFault> {
    let mut root: Map<String, Value> = serde_json::from_str(document)
        .map_err(|error| PolicyFault::whole(format!("the document cannot be read: {error}")))?;
    let statements = root.entry("Statement").or_insert_with(|| Value::Array(Vec::new()));
    if statements.is_object() {
        *statements = Value::Array(vec![statements.take()]);
    }
    if let Value::Array(statements) = statements {
        edit(statements);
    }
    let changed = Value::Object(root).to_string();
    Policy::parse(&changed)?;
    Ok(changed)
}
