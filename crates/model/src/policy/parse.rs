//! Reading a document: everything that it says is understood, or it is refused.

use std::collections::HashSet;
use std::fmt;

use super::json::{self, Key, Node, Value};
use super::{
    ACTIONS, Condition, ConditionKey, Effect, MAX_BYTES, MAX_PRINCIPALS, MAX_STATEMENTS, Operator,
    Policy, Statement, StatementPrincipal, Version, pattern,
};
use crate::principal::PrincipalPattern;

/// What is wrong with a policy document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// Which element: `Statement[0].Condition.StringEquals`; empty for the document as a whole.
    pub path: String,
    /// Line and column, both from 1, where that is known.
    pub position: Option<(usize, usize)>,
    /// What is wrong there.
    pub reason: String,
}

impl PolicyFault {
    /// A fault in an element of a document that was read before.
    pub(super) fn of_path(path: String, reason: String) -> Self {
        Self { path, position: None, reason }
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}", self.path)?;
        }
        if let Some((line, column)) = self.position {
            let open = if self.path.is_empty() { "" } else { " (" };
            let close = if self.path.is_empty() { "" } else { ")" };
            write!(f, "{open}line {line}, column {column}{close}")?;
        }
        if !self.path.is_empty() || self.position.is_some() {
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for PolicyFault {}

pub(super) fn policy(document: &str) -> Result<Policy, PolicyFault> {
    let whole = |reason: String| PolicyFault { path: String::new(), position: None, reason };
    if document.len() > MAX_BYTES {
        return Err(whole(format!(
            "a policy has at most {MAX_BYTES} bytes, and this one {}",
            document.len()
        )));
    }
    let reader = Reader { document };
    if let Some(at) = document.find(|character: char| !character.is_ascii()) {
        return Err(reader.fault(at, "", "a policy is written in ASCII"));
    }
    let root = json::read(document).map_err(|fault| reader.fault(fault.at, "", fault.reason))?;
    reader.policy(&root)
}

/// Elements of the language that are understood and not supported yet.
const LATER: [&str; 3] = ["NotPrincipal", "NotAction", "NotResource"];

struct Reader<'a> {
    document: &'a str,
}

impl Reader<'_> {
    fn fault(&self, at: usize, path: &str, reason: impl Into<String>) -> PolicyFault {
        let before = &self.document.as_bytes()[..at.min(self.document.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        PolicyFault { path: path.to_owned(), position: Some((line, column)), reason: reason.into() }
    }

    fn expected(&self, node: &Node, path: &str, what: &str) -> PolicyFault {
        self.fault(node.at, path, format!("expected {what}, found {}", node.value.noun()))
    }

    fn map<'n>(&self, node: &'n Node, path: &str) -> Result<&'n [(Key, Node)], PolicyFault> {
        match &node.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.expected(node, path, "an object")),
        }
    }

    fn text<'n>(&self, node: &'n Node, path: &str) -> Result<&'n str, PolicyFault> {
        match &node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.expected(node, path, "a string")),
        }
    }

    /// A string, or a list of one or more strings, each with its path.
    fn texts<'n>(
        &self,
        node: &'n Node,
        path: &str,
    ) -> Result<Vec<(&'n Node, String, &'n str)>, PolicyFault> {
        match &node.value {
            Value::Text(text) => Ok(vec![(node, path.to_owned(), text)]),
            Value::List(nodes) if nodes.is_empty() => {
                Err(self.fault(node.at, path, "the list is empty"))
            }
            Value::List(nodes) => nodes
                .iter()
                .enumerate()
                .map(|(number, node)| {
                    let path = format!("{path}[{number}]");
                    self.text(node, &path).map(|text| (node, path.clone(), text))
                })
                .collect(),
            _ => Err(self.expected(node, path, "a string or a list of strings")),
        }
    }

    fn unknown(&self, key: &Key, parent: &str) -> PolicyFault {
        let path = join(parent, &key.text);
        let reason = if LATER.contains(&key.text.as_str()) {
            format!("{} is not supported yet", key.text)
        } else {
            "the policy language has no such element".to_owned()
        };
        self.fault(key.at, &path, reason)
    }

    fn policy(&self, root: &Node) -> Result<Policy, PolicyFault> {
        let (mut version, mut id, mut statements) = (Version::V2008, None, None);
        for (key, node) in self.map(root, "")? {
            match key.text.as_str() {
                "Version" => version = self.version(node)?,
                "Id" => id = Some(self.text(node, "Id")?.to_owned()),
                "Statement" => statements = Some(node),
                _ => return Err(self.unknown(key, "")),
            }
        }
        let node =
            statements.ok_or_else(|| self.fault(root.at, "", "the policy has no Statement"))?;
        let nodes: Vec<(String, &Node)> = match &node.value {
            Value::Map(_) => vec![("Statement".to_owned(), node)],
            Value::List(nodes) => nodes
                .iter()
                .enumerate()
                .map(|(number, node)| (format!("Statement[{number}]"), node))
                .collect(),
            _ => return Err(self.expected(node, "Statement", "a list of statements")),
        };
        if nodes.is_empty() {
            return Err(self.fault(node.at, "Statement", "the list is empty"));
        }
        if nodes.len() > MAX_STATEMENTS {
            return Err(self.fault(
                node.at,
                "Statement",
                format!(
                    "a policy has at most {MAX_STATEMENTS} statements, and this one {}",
                    nodes.len()
                ),
            ));
        }
        let mut sids = HashSet::new();
        let mut statements = Vec::with_capacity(nodes.len());
        for (path, node) in nodes {
            let statement = self.statement(node, &path, version)?;
            if let Some(sid) = &statement.sid
                && !sids.insert(sid.clone())
            {
                return Err(self.fault(
                    node.at,
                    &path,
                    format!("another statement has the Sid {sid:?}"),
                ));
            }
            statements.push(statement);
        }
        Ok(Policy { version, id, statements })
    }

    fn version(&self, node: &Node) -> Result<Version, PolicyFault> {
        match self.text(node, "Version")? {
            "2008-10-17" => Ok(Version::V2008),
            "2012-10-17" => Ok(Version::V2012),
            other => Err(self.fault(
                node.at,
                "Version",
                format!("{other:?} is neither 2008-10-17 nor 2012-10-17"),
            )),
        }
    }

    fn statement(
        &self,
        node: &Node,
        path: &str,
        version: Version,
    ) -> Result<Statement, PolicyFault> {
        let (mut sid, mut effect, mut principals) = (None, None, None);
        let (mut actions, mut resources, mut conditions) = (None, None, Vec::new());
        for (key, value) in self.map(node, path)? {
            let path = join(path, &key.text);
            match key.text.as_str() {
                "Sid" => sid = Some(self.text(value, &path)?.to_owned()),
                "Effect" => effect = Some(self.effect(value, &path)?),
                "Principal" => principals = Some(self.principals(value, &path)?),
                "Action" => actions = Some(self.actions(value, &path)?),
                "Resource" => resources = Some(self.resources(value, &path, version)?),
                "Condition" => conditions = self.conditions(value, &path, version)?,
                _ => {
                    return Err(
                        self.unknown(key, path.rsplit_once('.').map_or("", |(parent, _)| parent))
                    );
                }
            }
        }
        let missing =
            |name: &str| self.fault(node.at, path, format!("the statement has no {name}"));
        Ok(Statement {
            sid,
            effect: effect.ok_or_else(|| missing("Effect"))?,
            principals: principals.ok_or_else(|| missing("Principal"))?,
            actions: actions.ok_or_else(|| missing("Action"))?,
            resources: resources.ok_or_else(|| missing("Resource"))?,
            conditions,
        })
    }

    fn effect(&self, node: &Node, path: &str) -> Result<Effect, PolicyFault> {
        match self.text(node, path)? {
            "Allow" => Ok(Effect::Allow),
            "Deny" => Ok(Effect::Deny),
            other => Err(self.fault(node.at, path, format!("{other:?} is neither Allow nor Deny"))),
        }
    }

    fn principals(&self, node: &Node, path: &str) -> Result<Vec<StatementPrincipal>, PolicyFault> {
        if let Value::Text(text) = &node.value {
            return if text == "*" {
                Ok(vec![StatementPrincipal::Aws(PrincipalPattern::All)])
            } else {
                Err(self.fault(
                    node.at,
                    path,
                    "expected \"*\", or an object such as {\"AWS\": ...} or {\"Service\": ...}",
                ))
            };
        }
        let mut principals = Vec::new();
        for (key, value) in self.map(node, path)? {
            let path = join(path, &key.text);
            match key.text.as_str() {
                "AWS" => {
                    for (node, path, text) in self.texts(value, &path)? {
                        let pattern = text
                            .parse()
                            .map_err(|error| self.fault(node.at, &path, format!("{error}")))?;
                        principals.push(StatementPrincipal::Aws(pattern));
                    }
                }
                "Service" => {
                    for (node, path, text) in self.texts(value, &path)? {
                        if !is_service(text) {
                            return Err(self.fault(
                                node.at,
                                &path,
                                format!(
                                    "{text:?} is no service principal such as vpce.amazonaws.com"
                                ),
                            ));
                        }
                        principals.push(StatementPrincipal::Service(text.to_owned()));
                    }
                }
                "Federated" | "CanonicalUser" => {
                    return Err(self.fault(
                        key.at,
                        &path,
                        format!("{} principals are not supported yet", key.text),
                    ));
                }
                _ => {
                    return Err(
                        self.unknown(key, path.rsplit_once('.').map_or("", |(parent, _)| parent))
                    );
                }
            }
        }
        if principals.is_empty() || principals.len() > MAX_PRINCIPALS {
            return Err(self.fault(
                node.at,
                path,
                format!(
                    "a statement has 1 to {MAX_PRINCIPALS} principals, and this one {}",
                    principals.len()
                ),
            ));
        }
        Ok(principals)
    }

    fn actions(&self, node: &Node, path: &str) -> Result<Vec<String>, PolicyFault> {
        let mut actions = Vec::new();
        for (node, path, text) in self.texts(node, path)? {
            if !ACTIONS.iter().any(|action| pattern::matches_any_case(text, action)) {
                return Err(self.fault(
                    node.at,
                    &path,
                    format!("{text:?} is no action of a topic; these are {}", ACTIONS.join(", ")),
                ));
            }
            actions.push(text.to_owned());
        }
        Ok(actions)
    }

    fn resources(
        &self,
        node: &Node,
        path: &str,
        version: Version,
    ) -> Result<Vec<String>, PolicyFault> {
        let mut resources = Vec::new();
        for (node, path, text) in self.texts(node, path)? {
            if text.is_empty() {
                return Err(self.fault(node.at, &path, "the resource is empty"));
            }
            self.no_variable(node, &path, text, version)?;
            resources.push(text.to_owned());
        }
        Ok(resources)
    }

    fn conditions(
        &self,
        node: &Node,
        path: &str,
        version: Version,
    ) -> Result<Vec<Condition>, PolicyFault> {
        let mut conditions = Vec::new();
        for (name, block) in self.map(node, path)? {
            let path = join(path, &name.text);
            let operator = Operator::ALL
                .into_iter()
                .find(|operator| operator.as_str() == name.text)
                .ok_or_else(|| self.fault(name.at, &path, no_operator(&name.text)))?;
            let mut keys: Vec<ConditionKey> = Vec::new();
            for (key, value) in self.map(block, &path)? {
                let path = join(&path, &key.text);
                let known = ConditionKey::ALL
                    .into_iter()
                    .find(|known| known.as_str().eq_ignore_ascii_case(&key.text))
                    .ok_or_else(|| {
                        self.fault(
                            key.at,
                            &path,
                            "only conditions on aws:SourceArn, aws:SourceAccount and \
                             aws:SourceOwner are supported yet",
                        )
                    })?;
                if keys.contains(&known) {
                    return Err(self.fault(
                        key.at,
                        &path,
                        format!("the key {} comes twice", known.as_str()),
                    ));
                }
                keys.push(known);
                let values = self.values(value, &path, operator, version)?;
                conditions.push(Condition { operator, key: known, values });
            }
            if keys.is_empty() {
                return Err(self.fault(block.at, &path, "the block has no keys"));
            }
        }
        Ok(conditions)
    }

    fn values(
        &self,
        node: &Node,
        path: &str,
        operator: Operator,
        version: Version,
    ) -> Result<Vec<String>, PolicyFault> {
        let mut values = Vec::new();
        for (node, path, text) in self.texts(node, path)? {
            self.no_variable(node, &path, text, version)?;
            let arn = matches!(operator, Operator::ArnEquals | Operator::ArnLike);
            if arn && text.splitn(6, ':').count() != 6 {
                return Err(self.fault(
                    node.at,
                    &path,
                    format!("{text:?} has not the six parts of an ARN, so it could never match"),
                ));
            }
            values.push(text.to_owned());
        }
        Ok(values)
    }

    fn no_variable(
        &self,
        node: &Node,
        path: &str,
        text: &str,
        version: Version,
    ) -> Result<(), PolicyFault> {
        if version == Version::V2012 && text.contains("${") {
            return Err(self.fault(node.at, path, "policy variables are not supported yet"));
        }
        Ok(())
    }
}

fn join(parent: &str, key: &str) -> String {
    // Keys are the caller's text: a long one would make the message useless.
    let key: String = key.chars().take(64).collect();
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

/// A host name such as `vpce.amazonaws.com`; wildcards have no meaning for services.
fn is_service(text: &str) -> bool {
    text.len() <= 128
        && text.contains('.')
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

fn no_operator(name: &str) -> String {
    const SUPPORTED: &str = "StringEquals, StringLike, ArnEquals and ArnLike are";
    let shown: String = name.chars().take(64).collect();
    let base = name
        .trim_start_matches("ForAnyValue:")
        .trim_start_matches("ForAllValues:")
        .trim_end_matches("IfExists");
    let of_the_language = base.starts_with("String")
        || base.starts_with("Numeric")
        || base.starts_with("Date")
        || base.starts_with("Arn")
        || matches!(base, "Bool" | "BinaryEquals" | "IpAddress" | "NotIpAddress" | "Null");
    if of_the_language {
        format!("the operator {shown:?} is not supported yet; {SUPPORTED}")
    } else {
        format!("there is no operator {shown:?}; {SUPPORTED} supported")
    }
}
