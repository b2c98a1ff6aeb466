//! A strict JSON reader that remembers where everything stood, for errors that point at it. A key
//! that comes twice is refused: two readers could understand such a document differently.

use std::collections::HashSet;

/// Deeper documents are refused; the policy of a topic needs seven levels.
const MAX_DEPTH: usize = 16;

/// A value and the byte at which it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) at: usize,
    pub(crate) text: String,
}

impl Value {
    /// The word for people.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) reason: String,
}

/// The line and the column of a byte, both from 1; columns count bytes.
pub(crate) fn position(document: &str, at: usize) -> (usize, usize) {
    let before = &document.as_bytes()[..at.min(document.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
    (line, column)
}

/// The path of `key` in the element `parent`.
pub(crate) fn join(parent: &str, key: &str) -> String {
    // Keys are the caller's text: a long one would make the message useless.
    let key = shown(key);
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}

/// The beginning of a text that a caller sent, for messages.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

pub(crate) fn read(document: &str) -> Result<Node, Fault> {
    let mut reader = Reader { bytes: document.as_bytes(), at: 0 };
    reader.space();
    let node = reader.node(0)?;
    reader.space();
    if reader.at < reader.bytes.len() {
        return Err(reader.fault("something follows the end of the document"));
    }
    Ok(node)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { at: self.at, reason: reason.into() }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault(format!("expected {:?}", char::from(byte))))
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.fault("the document is nested too deeply"));
        }
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => return Err(self.fault("expected a value")),
            None => return Err(self.fault("the document ends too early")),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let from = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = String::from_utf8_lossy(&self.bytes[from..self.at]).into_owned();
        if serde_json::from_str::<serde_json::Number>(&text).is_err() {
            return Err(Fault { at: from, reason: "this is no number".to_owned() });
        }
        Ok(Value::Number(text))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        self.expect(b'[')?;
        let mut nodes = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(nodes));
        }
        loop {
            self.space();
            nodes.push(self.node(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(nodes));
                }
                _ => return Err(self.fault("expected ',' or ']'")),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        self.expect(b'{')?;
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(entries));
        }
        loop {
            self.space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.fault("expected a key in double quotes"));
            }
            let text = self.text()?;
            if !seen.insert(text.clone()) {
                return Err(Fault { at, reason: format!("the key {text:?} comes twice") });
            }
            self.space();
            self.expect(b':')?;
            self.space();
            let node = self.node(depth + 1)?;
            entries.push((Key { at, text }, node));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Map(entries));
                }
                _ => return Err(self.fault("expected ',' or '}'")),
            }
        }
    }

    fn text(&mut self) -> Result<String, Fault> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => {
                    return Err(Fault { at: from, reason: "this string does not end".to_owned() });
                }
            }
        }
        self.at += 1;
        // Both ends are quotes, which are ASCII, so this is valid UTF-8; escapes are serde's business.
        let text = self.bytes.get(from..self.at).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| Fault { at: from, reason: "this is no valid string".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_point_at_the_place() {
        for (document, at) in [
            ("", 0),
            ("{", 1),
            ("{\"a\":1,\"a\":2}", 7),
            ("{\"a\":1,}", 7),
            ("[1 2]", 3),
            ("{} {}", 3),
            ("{\"a\":tru}", 5),
            ("\"abc", 0),
            ("[01]", 1),
        ] {
            assert_eq!(read(document).unwrap_err().at, at, "{document}");
        }
        assert!(read(&"[".repeat(1000)).is_err(), "deep nesting is refused, not followed");
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_agrees_with_serde_on_what_is_json(text in "[\\[\\]{}\",:a0\\\\ -]{0,24}") {
            let strict = read(&text).is_ok();
            let lenient = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // Strict is a subset: duplicate keys and depth are refused.
            prop_assert!(!strict || lenient);
        }
    }
}
