//! Texts of a policy that may hold wildcards and variables: `*` is any text, `?` any one character,
//! and in documents of 2012-10-17 `${aws:PrincipalAccount}` is what the request says,
//! `${aws:PrincipalAccount, 'none'}` has a default, and `${*}`, `${?}`, `${$}` are the signs themselves.
//!
//! What a variable stands for is never read as a pattern: a caller cannot smuggle a star in.

use std::borrow::Cow;
use std::fmt;

use super::{ConditionKey, Context, Version};

/// A text with wildcards and variables, taken apart once.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    units: Vec<Unit>,
    variables: Vec<Variable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Literal(char),
    Any,
    One,
    /// An index into the variables.
    Variable(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    key: ConditionKey,
    default: Option<String>,
}

/// Whether upper and lower case letters (of ASCII) are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Ignored,
}

impl Case {
    fn same(self, one: char, other: char) -> bool {
        match self {
            Self::Matters => one == other,
            Self::Ignored => one.eq_ignore_ascii_case(&other),
        }
    }
}

impl Template {
    /// Takes a text apart as the language's edition says; a reason if a variable is none.
    pub(super) fn parse(text: &str, version: Version) -> Result<Self, String> {
        let mut template = Self { text: text.to_owned(), units: Vec::new(), variables: Vec::new() };
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            if version == Version::V2012
                && let Some(after) = rest.strip_prefix("${")
            {
                rest = template.variable(after)?;
                continue;
            }
            template.units.push(match character {
                '*' => Unit::Any,
                '?' => Unit::One,
                other => Unit::Literal(other),
            });
            rest = &rest[character.len_utf8()..];
        }
        Ok(template)
    }

    /// Reads a variable of which `${` is gone, and returns what follows it.
    fn variable<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        for sign in ['*', '?', '$'] {
            if let Some(after) = text.strip_prefix(sign).and_then(|rest| rest.strip_prefix('}')) {
                self.units.push(Unit::Literal(sign));
                return Ok(after);
            }
        }
        let endless = || format!("the variable \"${{{}\" does not end", crate::json::shown(text));
        let end = text.find([',', '}']).ok_or_else(endless)?;
        let (name, mut rest) = text.split_at(end);
        let key: ConditionKey = name
            .trim()
            .parse()
            .map_err(|error| format!("the variable {:?}: {error}", crate::json::shown(name)))?;
        let mut default = None;
        if let Some(after) = rest.strip_prefix(',') {
            let quoted = after.trim_start_matches(' ').strip_prefix('\'').ok_or_else(|| {
                format!("the default of the variable {key} stands in single quotes")
            })?;
            let (value, after) = quoted.split_once('\'').ok_or_else(endless)?;
            default = Some(value.to_owned());
            rest = after.trim_start_matches(' ');
        }
        let index = u16::try_from(self.variables.len())
            .map_err(|_| "there are too many variables".to_owned())?;
        self.units.push(Unit::Variable(index));
        self.variables.push(Variable { key, default });
        rest.strip_prefix('}').ok_or_else(endless)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has the six parts of an ARN; variables hold no separators.
    pub(super) fn is_arn(&self) -> bool {
        self.units.iter().filter(|unit| **unit == Unit::Literal(':')).count() >= 5
    }

    /// Whether `text` is this one, wildcards being ordinary signs. A variable without a value is
    /// like no text.
    pub(super) fn equals(&self, text: &str, context: &Context<'_>, case: Case) -> bool {
        let mut rest = text.chars();
        let mut next_is = |character| rest.next().is_some_and(|found| case.same(found, character));
        for unit in &self.units {
            let same = match *unit {
                Unit::Literal(character) => next_is(character),
                Unit::Any => next_is('*'),
                Unit::One => next_is('?'),
                Unit::Variable(index) => {
                    self.value(index, context).is_some_and(|value| value.chars().all(&mut next_is))
                }
            };
            if !same {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str, context: &Context<'_>, case: Case) -> bool {
        self.expand(&self.units, context).is_some_and(|units| wildcard(&units, text, case))
    }

    /// Whether the six parts of an ARN match one by one: a star does not reach over a colon, except
    /// in the resource.
    pub(super) fn matches_arn(&self, text: &str, context: &Context<'_>) -> bool {
        if !self.is_arn() || text.bytes().filter(|byte| *byte == b':').count() < 5 {
            return false;
        }
        let patterns = self.units.splitn(6, |unit| *unit == Unit::Literal(':'));
        patterns.zip(text.splitn(6, ':')).all(|(pattern, part)| {
            self.expand(pattern, context).is_some_and(|units| wildcard(&units, part, Case::Matters))
        })
    }

    /// What a variable stands for. One with several values stands for none of them.
    fn value<'v>(&'v self, index: u16, context: &'v Context<'_>) -> Option<&'v str> {
        let variable = self.variables.get(usize::from(index))?;
        let mut values = context.values(variable.key);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            (Some(_), Some(_)) => None,
            (None, _) => variable.default.as_deref(),
        }
    }

    /// Puts literals in place of variables; `None` when one has no value.
    fn expand<'u>(&self, units: &'u [Unit], context: &Context<'_>) -> Option<Cow<'u, [Unit]>> {
        if self.variables.is_empty() {
            return Some(Cow::Borrowed(units));
        }
        let mut expanded = Vec::with_capacity(units.len());
        for unit in units {
            match *unit {
                Unit::Variable(index) => {
                    expanded.extend(self.value(index, context)?.chars().map(Unit::Literal));
                }
                other => expanded.push(other),
            }
        }
        Some(Cow::Owned(expanded))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

fn wildcard(units: &[Unit], text: &str, case: Case) -> bool {
    let (mut place, mut rest) = (0, text);
    // Where to go on when a comparison fails: after the last star, one character further on. Going
    // back to the last star alone is enough, so the time is bounded by the product of the lengths.
    let mut back: Option<(usize, &str)> = None;
    loop {
        let mut characters = rest.chars();
        let Some(character) = characters.next() else {
            return units[place..].iter().all(|unit| *unit == Unit::Any);
        };
        match units.get(place) {
            Some(Unit::Any) => {
                place += 1;
                back = Some((place, rest));
                continue;
            }
            Some(Unit::One) => {}
            Some(Unit::Literal(literal)) if case.same(*literal, character) => {}
            _ => {
                let Some((after, from)) = back else { return false };
                let mut skipped = from.chars();
                skipped.next();
                place = after;
                rest = skipped.as_str();
                back = Some((after, rest));
                continue;
            }
        }
        place += 1;
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, Version::V2012).unwrap()
    }

    fn matches(pattern: &str, text: &str) -> bool {
        template(pattern).matches(text, &Context::default(), Case::Matters)
    }

    #[test]
    fn wildcards_match_as_written() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything:at/all", true),
            ("?", "", false),
            ("?", "a", true),
            ("?", "\u{e9}", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a*b*c", "a-b-b-c", true),
            ("*a", "aaaab", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "ABC", false),
            ("${*}", "*", true),
            ("${*}", "a", false),
            ("a${?}", "a?", true),
            ("a${?}", "ab", false),
            ("${$}{x}", "${x}", true),
            ("$*", "$5", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        let action = template("sns:pub*");
        assert!(action.matches("SNS:Publish", &Context::default(), Case::Ignored));
    }

    #[test]
    fn a_star_in_an_arn_stays_in_its_part() {
        let arn = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-1";
        let matches = |pattern| template(pattern).matches_arn(arn, &Context::default());
        assert!(matches("arn:aws:ec2:*:111122223333:vpc-endpoint/*"));
        assert!(!matches("arn:aws:*:vpc-endpoint/*"));
        assert!(!matches("*"));
    }

    #[test]
    fn variables_stand_for_what_the_request_says_and_never_for_a_pattern() {
        let one = Context::default().with(ConditionKey::PrincipalAccount, "1*");
        let two = one.clone().with(ConditionKey::PrincipalAccount, "2");
        let none = Context::default();
        for (pattern, context, text, expected) in [
            ("a-${aws:PrincipalAccount}-?", &one, "a-1*-x", true),
            ("a-${AWS:principalaccount}-?", &one, "a-123-x", false),
            ("${aws:PrincipalAccount}", &none, "", false),
            ("${aws:PrincipalAccount, 'all'}", &none, "all", true),
            ("${aws:PrincipalAccount, 'a*}'}", &none, "a*}", true),
            ("${aws:PrincipalAccount, 'a*'}", &none, "abc", false),
            ("${aws:PrincipalAccount, 'all'}", &one, "1*", true),
            ("${aws:PrincipalAccount, 'all'}", &two, "all", false),
            ("${aws:PrincipalAccount}", &two, "1*", false),
        ] {
            let template = template(pattern);
            assert_eq!(template.matches(text, context, Case::Matters), expected, "{pattern}");
            if !pattern.ends_with('?') {
                assert_eq!(template.equals(text, context, Case::Matters), expected, "{pattern}");
            }
        }
        let old = Template::parse("${aws:PrincipalAccount}", Version::V2008).unwrap();
        assert!(old.matches("${aws:PrincipalAccount}", &one, Case::Matters));
    }

    #[test]
    fn a_variable_in_an_arn_stays_in_its_part() {
        let pattern = template("arn:aws:ec2:*:${aws:PrincipalAccount}:x");
        let matches = |account: &str, text| {
            pattern.matches_arn(
                text,
                &Context::default().with(ConditionKey::PrincipalAccount, account.to_owned()),
            )
        };
        assert!(matches("1", "arn:aws:ec2:r:1:x"));
        assert!(!matches("1:x", "arn:aws:ec2:r:1:x:x"));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in [
            "${",
            "${}",
            "${aws:PrincipalArn",
            "${aws:username}",
            "${aws:PrincipalArn,none}",
            "${aws:PrincipalArn, 'none}",
            "${aws:PrincipalArn, 'none'",
            "${aws:PrincipalArn, 'none'x}",
        ] {
            assert!(Template::parse(text, Version::V2012).is_err(), "{text}");
            assert!(Template::parse(text, Version::V2008).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_itself_alone(a in "[a-z:]{0,8}", b in "[a-z:]{0,8}") {
            prop_assert!(matches(&a, &a));
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn a_star_stands_for_any_middle(a in "[a-z]{0,4}", middle in "[a-z*?]{0,6}", b in "[a-z]{0,4}") {
            let (pattern, text) = (format!("{a}*{b}"), format!("{a}{middle}{b}"));
            prop_assert!(matches(&pattern, &text));
        }
    }
}
