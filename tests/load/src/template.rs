//! ghz's call templates, as far as our files use them: `{{.RequestNumber}}`, `{{.UUID}}`,
//! `{{randomString 8}}` and their like within the JSON of a request.

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A text with places to fill in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    RequestNumber,
    WorkerId,
    TimestampUnix,
    TimestampUnixMilli,
    TimestampUnixNano,
    Uuid,
    RandomString(usize),
    RandomInt(i64, i64),
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// Names the action that is not one of those above.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(before.to_owned()));
            let (action, after) = after.split_once("}}").context("data: {{ without }}")?;
            parts.push(Part::parse(action.trim())?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }

    /// Whether it is the same for every request.
    pub fn is_plain(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text for one request.
    pub fn render(&self, request: u64, worker: u32) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::RequestNumber => text.push_str(&request.to_string()),
                Part::WorkerId => text.push_str(&format!("g{worker}c0")),
                Part::TimestampUnix => text.push_str(&now().as_secs().to_string()),
                Part::TimestampUnixMilli => text.push_str(&now().as_millis().to_string()),
                Part::TimestampUnixNano => text.push_str(&now().as_nanos().to_string()),
                Part::Uuid => text.push_str(&uuid::Uuid::new_v4().to_string()),
                Part::RandomString(length) => {
                    Alphanumeric.append_string(&mut rand::rng(), &mut text, *length);
                }
                Part::RandomInt(from, to) => {
                    text.push_str(&rand::rng().random_range(*from..*to).to_string());
                }
            }
        }
        text
    }
}

impl Part {
    fn parse(action: &str) -> Result<Self> {
        let words: Vec<&str> = action.split_whitespace().collect();
        let number = |word: &str| {
            word.parse::<i64>().with_context(|| format!("data: {{{{{action}}}}}: {word}"))
        };
        Ok(match words[..] {
            [".RequestNumber"] => Self::RequestNumber,
            [".WorkerID"] => Self::WorkerId,
            [".TimestampUnix"] => Self::TimestampUnix,
            [".TimestampUnixMilli"] => Self::TimestampUnixMilli,
            [".TimestampUnixNano"] => Self::TimestampUnixNano,
            [".UUID"] | ["newUUID"] => Self::Uuid,
            ["randomString", length] => {
                let length =
                    usize::try_from(number(length)?).ok().filter(|n| (1..=4096).contains(n));
                Self::RandomString(length.context("data: randomString takes 1 to 4096")?)
            }
            ["randomInt", from, to] => {
                let (from, to) = (number(from)?, number(to)?);
                anyhow::ensure!(from < to, "data: randomInt takes a smaller and a larger number");
                Self::RandomInt(from, to)
            }
            _ => bail!("data: {{{{{action}}}}} is not known to this driver"),
        })
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_anew_for_each_request() {
        let template =
            Template::parse("a{{.RequestNumber}} {{ randomString 5 }} {{.UUID}}").unwrap();
        let (one, two) = (template.render(7, 0), template.render(8, 0));
        assert!(one.starts_with("a7 ") && two.starts_with("a8 "), "{one} {two}");
        assert_eq!(one.len(), 3 + 5 + 1 + 36);
        assert_ne!(one[3..], two[3..]);
        assert!(!template.is_plain() && Template::parse("{}").unwrap().is_plain());
    }

    #[test]
    fn an_unknown_action_is_named() {
        let error = Template::parse("{{env \"HOME\"}}").unwrap_err().to_string();
        assert!(error.contains("env"), "{error}");
    }
}
