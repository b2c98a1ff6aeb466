//! Reading a filter policy: everything that it says is understood, or it is refused. Where a fault is
//! one of AWS's, the words are AWS's.

use std::collections::HashSet;
use std::fmt;

use ipnet::IpNet;

use super::{
    Bound, FilterPolicy, FilterScope, Literal, MAX_BYTES, MAX_COMBINATIONS, MAX_KEYS, Matcher,
    Object, Range, Rule,
};
use crate::decimal::Decimal;
use crate::json::{self, Key, Node, Value, join, shown};

/// Numbers are within plus or minus this (spec 8.5).
const MAX_NUMBER: u32 = 1_000_000_000;
/// And have at most this many digits after the point (spec 8.5).
const MAX_PLACES: u32 = 5;

/// What is wrong with a filter policy, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterFault {
    /// Which element: `store[0].prefix`; empty for the document as a whole.
    pub path: String,
    /// Line and column, both from 1, where that is known.
    pub position: Option<(usize, usize)>,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for FilterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterPolicy: {}", self.reason)?;
        let Some((line, column)) = self.position else { return Ok(()) };
        f.write_str(" (")?;
        if !self.path.is_empty() {
            write!(f, "{}, ", self.path)?;
        }
        write!(f, "line {line}, column {column})")
    }
}

impl std::error::Error for FilterFault {}

pub(super) fn policy(document: &str, scope: FilterScope) -> Result<FilterPolicy, FilterFault> {
    let whole = |reason: String| FilterFault { path: String::new(), position: None, reason };
    if document.len() > MAX_BYTES {
        return Err(whole(format!(
            "a filter policy has at most {MAX_BYTES} bytes, and this one {}",
            document.len()
        )));
    }
    let mut reader = Reader { document, scope, keys: HashSet::new() };
    let root = json::read(document).map_err(|fault| reader.fault(fault.at, "", fault.reason))?;
    let (object, combinations) = reader.object(&root, "", &mut Vec::new())?;
    if reader.keys.len() > MAX_KEYS {
        return Err(whole(format!("Filter policy can not have more than {MAX_KEYS} keys")));
    }
    if combinations > MAX_COMBINATIONS {
        return Err(whole(format!(
            "Filter policy is too complex: {combinations} combinations of values, of at most \
             {MAX_COMBINATIONS}"
        )));
    }
    Ok(FilterPolicy { scope, root: object })
}

struct Reader<'a> {
    document: &'a str,
    scope: FilterScope,
    /// The paths of all keys that have values.
    keys: HashSet<Vec<String>>,
}

impl Reader<'_> {
    fn fault(&self, at: usize, path: &str, reason: impl Into<String>) -> FilterFault {
        FilterFault {
            path: path.to_owned(),
            position: Some(json::position(self.document, at)),
            reason: reason.into(),
        }
    }

    fn text<'n>(&self, node: &'n Node, path: &str, name: &str) -> Result<&'n str, FilterFault> {
        match &node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.fault(node.at, path, format!("{name} match pattern must be a string"))),
        }
    }

    fn list<'n>(&self, node: &'n Node, path: &str, wrong: &str) -> Result<&'n [Node], FilterFault> {
        match &node.value {
            Value::List(nodes) if nodes.is_empty() => {
                Err(self.fault(node.at, path, "Empty arrays are not allowed"))
            }
            Value::List(nodes) => Ok(nodes),
            _ => Err(self.fault(node.at, path, wrong)),
        }
    }

    /// The object and its combinations. `above` is the way to it, without the `$or`s.
    fn object(
        &mut self,
        node: &Node,
        path: &str,
        above: &mut Vec<String>,
    ) -> Result<(Object, u64), FilterFault> {
        let Value::Map(entries) = &node.value else {
            return Err(self.fault(node.at, path, "Filter policy must be a JSON object"));
        };
        // Only the whole policy may be empty: it wants everything.
        if entries.is_empty() && !path.is_empty() {
            return Err(self.fault(node.at, path, "Empty objects are not allowed"));
        }
        let mut object = Object::default();
        let mut combinations = 1_u64;
        for (key, value) in entries {
            let path = join(path, &key.text);
            let count = if key.text == "$or" {
                let (branches, count) = self.either(value, &path, above)?;
                object.either = branches;
                count
            } else {
                above.push(key.text.clone());
                let (rule, count) = self.rule(key, value, &path, above)?;
                above.pop();
                object.keys.push((key.text.clone(), rule));
                count
            };
            combinations = combinations.saturating_mul(count);
        }
        Ok((object, combinations))
    }

    fn either(
        &mut self,
        node: &Node,
        path: &str,
        above: &mut Vec<String>,
    ) -> Result<(Vec<Object>, u64), FilterFault> {
        const WRONG: &str = "$or must be an array of at least two objects";
        let nodes = self.list(node, path, WRONG)?;
        if nodes.len() < 2 {
            return Err(self.fault(node.at, path, WRONG));
        }
        let mut branches = Vec::with_capacity(nodes.len());
        let mut combinations = 0_u64;
        for (number, node) in nodes.iter().enumerate() {
            let path = format!("{path}[{number}]");
            if !matches!(node.value, Value::Map(_)) {
                return Err(self.fault(node.at, &path, WRONG));
            }
            let (branch, count) = self.object(node, &path, above)?;
            branches.push(branch);
            combinations = combinations.saturating_add(count);
        }
        Ok((branches, combinations))
    }

    fn rule(
        &mut self,
        key: &Key,
        node: &Node,
        path: &str,
        above: &mut Vec<String>,
    ) -> Result<(Rule, u64), FilterFault> {
        if matches!(node.value, Value::Map(_)) {
            if self.scope == FilterScope::MessageAttributes {
                return Err(self.fault(
                    node.at,
                    path,
                    "Filter policy scope MessageAttributes does not support nested filter policy",
                ));
            }
            let (object, combinations) = self.object(node, path, above)?;
            return Ok((Rule::Nested(object), combinations));
        }
        let wrong = format!("{:?} must be an object or an array", shown(&key.text));
        let nodes = self.list(node, path, &wrong)?;
        let mut matchers = Vec::with_capacity(nodes.len());
        for (number, node) in nodes.iter().enumerate() {
            matchers.push(self.matcher(node, &format!("{path}[{number}]"))?);
        }
        self.keys.insert(above.clone());
        let (values, depth) = (matchers.len() as u64, above.len() as u64);
        Ok((Rule::Values(matchers), values.saturating_mul(depth)))
    }

    fn matcher(&self, node: &Node, path: &str) -> Result<Matcher, FilterFault> {
        let Value::Map(entries) = &node.value else {
            return self.literal(node, path).map(Matcher::Exact);
        };
        let [(operator, value)] = entries.as_slice() else {
            return Err(self.fault(node.at, path, "Only one key allowed in match expression"));
        };
        let path = join(path, &operator.text);
        let name = operator.text.as_str();
        match name {
            "prefix" => self.some_text(value, &path, name).map(Matcher::Prefix),
            "suffix" => self.some_text(value, &path, name).map(Matcher::Suffix),
            "equals-ignore-case" => {
                self.text(value, &path, name).map(|text| Matcher::EqualsIgnoreCase(text.to_owned()))
            }
            "numeric" => self.range(value, &path).map(Matcher::Numeric),
            "exists" => match value.value {
                Value::Bool(wanted) => Ok(Matcher::Exists(wanted)),
                _ => Err(self.fault(
                    value.at,
                    &path,
                    "exists match pattern must be either true or false.",
                )),
            },
            "cidr" => {
                let text = self.text(value, &path, name)?;
                text.parse::<IpNet>().map(|network| Matcher::Cidr(network.trunc())).map_err(|_| {
                    let reason = format!("Malformed CIDR, {:?}", shown(text));
                    self.fault(value.at, &path, reason)
                })
            }
            "anything-but" => self.anything_but(value, &path),
            _ => {
                let reason = format!("Unrecognized match type {}", shown(name));
                Err(self.fault(operator.at, &path, reason))
            }
        }
    }

    /// An empty prefix or suffix would match every text, which `exists` says better.
    fn some_text(&self, node: &Node, path: &str, name: &str) -> Result<String, FilterFault> {
        let text = self.text(node, path, name)?;
        if text.is_empty() {
            let reason = format!("{name} match pattern must not be empty");
            return Err(self.fault(node.at, path, reason));
        }
        Ok(text.to_owned())
    }

    fn anything_but(&self, node: &Node, path: &str) -> Result<Matcher, FilterFault> {
        if let Value::Map(entries) = &node.value {
            let [(operator, value)] = entries.as_slice() else {
                return Err(self.fault(node.at, path, "Only one key allowed in match expression"));
            };
            let path = join(path, &operator.text);
            return match operator.text.as_str() {
                "prefix" => self.some_text(value, &path, "prefix").map(Matcher::AnythingButPrefix),
                "suffix" => self.some_text(value, &path, "suffix").map(Matcher::AnythingButSuffix),
                other => {
                    let reason = format!("Unsupported anything-but pattern: {}", shown(other));
                    Err(self.fault(operator.at, &path, reason))
                }
            };
        }
        let nodes = match &node.value {
            Value::List(_) => self.list(node, path, "")?,
            _ => std::slice::from_ref(node),
        };
        let literals = nodes
            .iter()
            .map(|node| match node.value {
                Value::Text(_) | Value::Number(_) => self.literal(node, path),
                _ => Err(self.fault(
                    node.at,
                    path,
                    "Value of anything-but must be strings or numbers, or an object with prefix \
                     or suffix",
                )),
            })
            .collect::<Result<_, _>>()?;
        Ok(Matcher::AnythingBut(literals))
    }

    fn literal(&self, node: &Node, path: &str) -> Result<Literal, FilterFault> {
        match &node.value {
            Value::Null => Ok(Literal::Null),
            Value::Bool(value) => Ok(Literal::Bool(*value)),
            Value::Number(text) => self.number(node.at, path, text).map(Literal::Number),
            Value::Text(text) => Ok(Literal::Text(text.clone())),
            Value::List(_) | Value::Map(_) => Err(self.fault(
                node.at,
                path,
                "Match value must be String, number, true, false, or null",
            )),
        }
    }

    fn number(&self, at: usize, path: &str, text: &str) -> Result<Decimal, FilterFault> {
        Decimal::parse(text).filter(|number| number.fits(MAX_NUMBER, MAX_PLACES)).ok_or_else(|| {
            let reason = format!(
                "Numbers are from -{MAX_NUMBER} to {MAX_NUMBER} with up to {MAX_PLACES} digits \
                 after the point, and {} is none",
                shown(text)
            );
            self.fault(at, path, reason)
        })
    }

    fn range(&self, node: &Node, path: &str) -> Result<Range, FilterFault> {
        let nodes = self.list(node, path, "Value of numeric must be an array.")?;
        let mut range = Range::default();
        let mut parts = nodes.chunks(2);
        let (first, at) = self.comparison(parts.next(), node, path)?;
        match first {
            "=" => {
                let bound = Some(Bound { at, included: true });
                (range.lower, range.upper) = (bound, bound);
            }
            ">" | ">=" => range.lower = Some(Bound { at, included: first == ">=" }),
            _ => range.upper = Some(Bound { at, included: first == "<=" }),
        }
        if nodes.len() > 2 && range.upper.is_none() {
            let (second, at) = self.comparison(parts.next(), node, path)?;
            if !matches!(second, "<" | "<=") {
                let reason = format!("Bad numeric range operator: {second}");
                return Err(self.fault(node.at, path, reason));
            }
            if range.lower.is_some_and(|lower| lower.at >= at) {
                return Err(self.fault(node.at, path, "Bottom must be less than top"));
            }
            range.upper = Some(Bound { at, included: second == "<=" });
        }
        let used =
            if range.upper.is_some() && range.lower.is_some() && first != "=" { 4 } else { 2 };
        if nodes.len() > used {
            return Err(self.fault(node.at, path, "Too many elements in numeric expression"));
        }
        Ok(range)
    }

    /// An operator and its number.
    fn comparison<'n>(
        &self,
        part: Option<&'n [Node]>,
        whole: &Node,
        path: &str,
    ) -> Result<(&'n str, Decimal), FilterFault> {
        let (operator, number) = match part {
            Some([operator]) => (operator, None),
            Some([operator, number, ..]) => (operator, Some(number)),
            Some([]) | None => {
                return Err(self.fault(whole.at, path, "Invalid member in numeric match"));
            }
        };
        let name = match &operator.value {
            Value::Text(name) if ["=", "<", "<=", ">", ">="].contains(&name.as_str()) => name,
            Value::Text(name) => {
                let reason = format!("Unrecognized numeric range operator: {}", shown(name));
                return Err(self.fault(operator.at, path, reason));
            }
            _ => {
                return Err(self.fault(operator.at, path, "Invalid member in numeric match"));
            }
        };
        match number {
            Some(Node { at, value: Value::Number(text) }) => {
                Ok((name, self.number(*at, path, text)?))
            }
            _ => {
                let at = number.unwrap_or(operator).at;
                Err(self.fault(at, path, format!("Value of {name} must be numeric")))
            }
        }
    }
}
