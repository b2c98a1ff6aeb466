//! Reading a document: everything that it says is understood, or it is refused.

mod values;

use std::collections::HashSet;
use std::fmt;

use super::template::Case;
use super::{
    ACTIONS, Condition, ConditionKey, Context, Effect, MAX_BYTES, MAX_PRINCIPALS, MAX_STATEMENTS,
    Match, Operator, Policy, Statement, StatementPrincipal, Template, Version,
};
use crate::arn::TopicArn;
use crate::json::{self, Key, Node, Value, join, shown};
use crate::principal::PrincipalPattern;

pub(super) use values::date;

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
    /// A fault of the document as a whole.
    pub(super) fn whole(reason: String) -> Self {
        Self { path: String::new(), position: None, reason }
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

pub(super) fn policy(document: &str, topic: Option<&TopicArn>) -> Result<Policy, PolicyFault> {
    if document.len() > MAX_BYTES {
        return Err(PolicyFault::whole(format!(
            "a policy has at most {MAX_BYTES} bytes, and this one {}",
            document.len()
        )));
    }
    let mut reader =
        Reader { document, topic: topic.map(ToString::to_string), version: Version::V2008 };
    if let Some(at) = document.find(|character: char| !character.is_ascii()) {
        return Err(reader.fault(at, "", "a policy is written in ASCII"));
    }
    let root = json::read(document).map_err(|fault| reader.fault(fault.at, "", fault.reason))?;
    reader.policy(&root)
}

struct Reader<'a> {
    document: &'a str,
    /// The only resource that statements may name.
    topic: Option<String>,
    version: Version,
}

impl Reader<'_> {
    fn fault(&self, at: usize, path: &str, reason: impl Into<String>) -> PolicyFault {
        PolicyFault {
            path: path.to_owned(),
            position: Some(json::position(self.document, at)),
            reason: reason.into(),
        }
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
        let Value::Text(text) = &node.value else {
            return Err(self.expected(node, path, "a string"));
        };
        // An escape is ASCII, and what it stands for may not be.
        if !text.is_ascii() {
            return Err(self.fault(node.at, path, "a policy is written in ASCII"));
        }
        Ok(text)
    }

    /// A value, or the one or more of a list, each with its path.
    fn several<'n>(
        &self,
        node: &'n Node,
        path: &str,
    ) -> Result<Vec<(&'n Node, String)>, PolicyFault> {
        match &node.value {
            Value::List(nodes) if nodes.is_empty() => {
                Err(self.fault(node.at, path, "the list is empty"))
            }
            Value::List(nodes) => Ok(nodes
                .iter()
                .enumerate()
                .map(|(number, node)| (node, format!("{path}[{number}]")))
                .collect()),
            _ => Ok(vec![(node, path.to_owned())]),
        }
    }

    /// A string, or a list of one or more strings, each with its path.
    fn texts<'n>(
        &self,
        node: &'n Node,
        path: &str,
    ) -> Result<Vec<(&'n Node, String, &'n str)>, PolicyFault> {
        if !matches!(node.value, Value::Text(_) | Value::List(_)) {
            return Err(self.expected(node, path, "a string or a list of strings"));
        }
        let several = self.several(node, path)?.into_iter();
        several.map(|(node, path)| self.text(node, &path).map(|text| (node, path, text))).collect()
    }

    fn unknown(&self, key: &Key, path: &str) -> PolicyFault {
        self.fault(key.at, path, "the policy language has no such element")
    }

    fn policy(&mut self, root: &Node) -> Result<Policy, PolicyFault> {
        let (mut id, mut statements) = (None, None);
        for (key, node) in self.map(root, "")? {
            match key.text.as_str() {
                "Version" => self.version = self.version(node)?,
                "Id" => id = Some(self.text(node, "Id")?.to_owned()),
                "Statement" => statements = Some(node),
                _ => return Err(self.unknown(key, &shown(&key.text))),
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
            let statement = self.statement(node, &path)?;
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
        Ok(Policy { version: self.version, id, statements })
    }

    fn version(&self, node: &Node) -> Result<Version, PolicyFault> {
        match self.text(node, "Version")? {
            "2008-10-17" => Ok(Version::V2008),
            "2012-10-17" => Ok(Version::V2012),
            other => Err(self.fault(
                node.at,
                "Version",
                format!("{:?} is neither 2008-10-17 nor 2012-10-17", shown(other)),
            )),
        }
    }

    fn statement(&self, node: &Node, path: &str) -> Result<Statement, PolicyFault> {
        let (mut sid, mut effect, mut conditions) = (None, None, Vec::new());
        let mut principals = Either::new("Principal");
        let mut actions = Either::new("Action");
        let mut resources = Either::new("Resource");
        for (key, value) in self.map(node, path)? {
            let path = join(path, &key.text);
            match key.text.as_str() {
                "Sid" => sid = Some(self.text(value, &path)?.to_owned()),
                "Effect" => effect = Some(self.effect(value, &path)?),
                "Principal" => {
                    principals.set(self, key, &path, Match::Any(self.principals(value, &path)?))?;
                }
                "NotPrincipal" => {
                    let listed = self.principals(value, &path)?;
                    self.check_exempt(value, &path, &listed)?;
                    principals.set(self, key, &path, Match::Not(listed))?;
                }
                "Action" => {
                    actions.set(self, key, &path, Match::Any(self.actions(value, &path)?))?;
                }
                "NotAction" => {
                    actions.set(self, key, &path, Match::Not(self.actions(value, &path)?))?;
                }
                "Resource" => {
                    resources.set(self, key, &path, Match::Any(self.resources(value, &path)?))?;
                }
                "NotResource" => {
                    resources.set(self, key, &path, Match::Not(self.resources(value, &path)?))?;
                }
                "Condition" => conditions = self.conditions(value, &path)?,
                _ => return Err(self.unknown(key, &path)),
            }
        }
        let effect =
            effect.ok_or_else(|| self.fault(node.at, path, "the statement has no Effect"))?;
        let principals = principals.take(self, node, path)?;
        if effect == Effect::Allow && matches!(principals, Match::Not(_)) {
            return Err(self.fault(
                node.at,
                &join(path, "NotPrincipal"),
                "NotPrincipal stands with Deny alone: with Allow it would let everyone else in",
            ));
        }
        Ok(Statement {
            sid,
            effect,
            principals,
            actions: actions.take(self, node, path)?,
            resources: resources.take(self, node, path)?,
            conditions,
        })
    }

    /// Refuses exemptions that would not exempt: a user whose account is denied is denied (spec 8.6).
    fn check_exempt(
        &self,
        node: &Node,
        path: &str,
        listed: &[StatementPrincipal],
    ) -> Result<(), PolicyFault> {
        for principal in listed {
            match principal {
                StatementPrincipal::Aws(PrincipalPattern::All) => {
                    return Err(self.fault(node.at, path, "NotPrincipal \"*\" would deny nobody"));
                }
                StatementPrincipal::Aws(
                    PrincipalPattern::User(account, _) | PrincipalPattern::Role(account, _),
                ) => {
                    let whole = StatementPrincipal::Aws(PrincipalPattern::Account(*account));
                    if !listed.contains(&whole) {
                        return Err(self.fault(
                            node.at,
                            path,
                            format!(
                                "NotPrincipal lists a user or role of account {account} and not \
                                 {}, so it would be denied with its account",
                                account.root_arn()
                            ),
                        ));
                    }
                }
                StatementPrincipal::Aws(PrincipalPattern::Account(_))
                | StatementPrincipal::Service(_)
                | StatementPrincipal::Federated(_) => {}
            }
        }
        Ok(())
    }

    fn effect(&self, node: &Node, path: &str) -> Result<Effect, PolicyFault> {
        match self.text(node, path)? {
            "Allow" => Ok(Effect::Allow),
            "Deny" => Ok(Effect::Deny),
            other => Err(self.fault(
                node.at,
                path,
                format!("{:?} is neither Allow nor Deny", shown(other)),
            )),
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
                                    "{:?} is no service principal such as vpce.amazonaws.com",
                                    shown(text)
                                ),
                            ));
                        }
                        principals.push(StatementPrincipal::Service(text.to_owned()));
                    }
                }
                "Federated" => {
                    for (node, path, text) in self.texts(value, &path)? {
                        if !is_provider(text) {
                            return Err(self.fault(
                                node.at,
                                &path,
                                format!(
                                    "{:?} is no identity provider: expected its host name or \
                                     arn:aws:iam::<account>:saml-provider/<name> or \
                                     :oidc-provider/<name>",
                                    shown(text)
                                ),
                            ));
                        }
                        principals.push(StatementPrincipal::Federated(text.to_owned()));
                    }
                }
                _ => return Err(self.unknown(key, &path)),
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
        // In the order in which they are rendered; it decides nothing.
        principals.sort_by_key(|principal| match principal {
            StatementPrincipal::Aws(_) => 0,
            StatementPrincipal::Service(_) => 1,
            StatementPrincipal::Federated(_) => 2,
        });
        Ok(principals)
    }

    fn actions(&self, node: &Node, path: &str) -> Result<Vec<Template>, PolicyFault> {
        let mut actions = Vec::new();
        for (node, path, text) in self.texts(node, path)? {
            // Variables have no meaning here, so `$` is an ordinary sign, which no action has.
            let action = Template::parse(text, Version::V2008)
                .map_err(|reason| self.fault(node.at, &path, reason))?;
            let is_one = |known| action.matches(known, &Context::default(), Case::Ignored);
            if !ACTIONS.into_iter().any(is_one) {
                return Err(self.fault(
                    node.at,
                    &path,
                    format!(
                        "{:?} is no action of a topic; these are {}",
                        shown(text),
                        ACTIONS.join(", ")
                    ),
                ));
            }
            actions.push(action);
        }
        Ok(actions)
    }

    fn resources(&self, node: &Node, path: &str) -> Result<Vec<Template>, PolicyFault> {
        let mut resources = Vec::new();
        for (node, path, text) in self.texts(node, path)? {
            if text.is_empty() {
                return Err(self.fault(node.at, &path, "the resource is empty"));
            }
            if let Some(topic) = &self.topic
                && topic != text
            {
                let reason = format!("{:?} is not this topic, {topic}", shown(text));
                return Err(self.fault(node.at, &path, reason));
            }
            resources.push(self.template(node, &path, text)?);
        }
        if self.topic.is_some() && resources.len() > 1 {
            return Err(self.fault(node.at, path, "the topic is listed more than once"));
        }
        Ok(resources)
    }

    fn template(&self, node: &Node, path: &str, text: &str) -> Result<Template, PolicyFault> {
        Template::parse(text, self.version).map_err(|reason| self.fault(node.at, path, reason))
    }

    fn conditions(&self, node: &Node, path: &str) -> Result<Vec<Condition>, PolicyFault> {
        let mut conditions = Vec::new();
        for (name, block) in self.map(node, path)? {
            let path = join(path, &name.text);
            let operator: Operator = name
                .text
                .parse()
                .map_err(|error| self.fault(name.at, &path, format!("{error}")))?;
            let mut keys: HashSet<ConditionKey> = HashSet::new();
            for (key, value) in self.map(block, &path)? {
                let path = join(&path, &key.text);
                let known: ConditionKey = key
                    .text
                    .parse()
                    .map_err(|error| self.fault(key.at, &path, format!("{error}")))?;
                if !keys.insert(known) {
                    let reason = format!("the key {known} comes twice");
                    return Err(self.fault(key.at, &path, reason));
                }
                let values = self
                    .several(value, &path)?
                    .into_iter()
                    .map(|(node, path)| self.value(node, &path, operator))
                    .collect::<Result<_, _>>()?;
                conditions.push(Condition { operator, key: known, values });
            }
            if keys.is_empty() {
                return Err(self.fault(block.at, &path, "the block has no keys"));
            }
        }
        Ok(conditions)
    }
}

/// One of two elements that exclude each other, such as `Action` and `NotAction`.
struct Either<T> {
    word: &'static str,
    found: Option<Match<T>>,
}

impl<T> Either<T> {
    fn new(word: &'static str) -> Self {
        Self { word, found: None }
    }

    fn set(
        &mut self,
        reader: &Reader<'_>,
        key: &Key,
        path: &str,
        found: Match<T>,
    ) -> Result<(), PolicyFault> {
        if self.found.replace(found).is_some() {
            let reason = format!("a statement has either {0} or Not{0}", self.word);
            return Err(reader.fault(key.at, path, reason));
        }
        Ok(())
    }

    fn take(self, reader: &Reader<'_>, node: &Node, path: &str) -> Result<Match<T>, PolicyFault> {
        self.found.ok_or_else(|| {
            reader.fault(node.at, path, format!("the statement has no {}", self.word))
        })
    }
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

/// A provider's host name, or the ARN under which an account knows it.
fn is_provider(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("arn:aws:iam::") else { return is_service(text) };
    let named = |name: &str| {
        !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
    };
    rest.split_once(':').is_some_and(|(account, resource)| {
        account.parse::<crate::AccountId>().is_ok()
            && ["saml-provider/", "oidc-provider/"]
                .iter()
                .any(|kind| resource.strip_prefix(kind).is_some_and(named))
    })
}
