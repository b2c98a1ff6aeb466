//! Settings from the environment, read whole before the process fails on any of them.
//!
//! Each setting `NAME` may be given as `NAME_FILE` instead: the path of a file whose trimmed content
//! is the value, which is how container secrets arrive. A setting that is present but empty counts as
//! not given, as compose files pass unset variables on that way. Durations carry their unit in the
//! name (`_SECONDS`, `_MILLIS`).
//!
//! ```
//! use postern_runtime::config::{Faults, Seconds, Vars, optional, required};
//!
//! let vars = Vars::from_pairs([("POSTERN_LISTEN", "127.0.0.1:50051")]);
//! let mut faults = Faults::new();
//! let listen = required::<std::net::SocketAddr>(&vars, "POSTERN_LISTEN", &mut faults);
//! let drain = optional(&vars, "POSTERN_DRAIN_SECONDS", Seconds(20), &mut faults);
//! faults.check()?;
//! # assert_eq!((listen.map(|at| at.port()), drain), (Some(50051), Seconds(20)));
//! # Ok::<(), Faults>(())
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::fs;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

/// A setting's file is a secret or a short text: more than this is the wrong file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where settings come from: the process's environment, or whatever a test gives.
pub struct Vars<'a>(Box<Lookup<'a>>);

type Lookup<'a> = dyn Fn(&str) -> Option<String> + Send + Sync + 'a;

impl<'a> Vars<'a> {
    /// The environment of this process. A value that is not Unicode counts as not given.
    pub fn env() -> Self {
        Self::from_fn(|name| std::env::var(name).ok())
    }

    /// Settings by a function from the name to the value.
    pub fn from_fn(get: impl Fn(&str) -> Option<String> + Send + Sync + 'a) -> Self {
        Self(Box::new(get))
    }

    /// Settings from a list of names and values: the last of a name counts.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let pairs: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::from_fn(move |name| pairs.get(name).cloned())
    }

    /// The value of `name` as given, without looking at `NAME_FILE`; empty counts as not given.
    pub fn direct(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The value of `name`, from the variable or from the file that `NAME_FILE` points to.
    fn value(&self, name: &str, faults: &mut Faults) -> Option<String> {
        let file_name = format!("{name}_FILE");
        match (self.direct(name), self.direct(&file_name)) {
            (Some(_), Some(_)) => {
                faults.push(name, format!("is given twice, also as {file_name}: give one of them"));
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match read(&path) {
                Ok(value) => Some(value),
                Err(reason) => {
                    faults.push(&file_name, format!("`{path}` {reason}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// Whether `name` or `NAME_FILE` is given at all, well or not.
    fn given(&self, name: &str) -> bool {
        self.direct(name).is_some() || self.direct(&format!("{name}_FILE")).is_some()
    }
}

impl Debug for Vars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vars")
    }
}

fn read(path: &str) -> Result<String, String> {
    let mut content = String::new();
    let file = fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut content)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is longer than {MAX_FILE_BYTES} bytes"));
    }
    match content.trim() {
        "" => Err("is empty".to_owned()),
        content => Ok(content.to_owned()),
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting's name.
    pub name: String,
    /// What is wrong with it, as the end of a sentence that begins with the name.
    pub reason: String,
}

/// Every mistake found in the configuration, so that one start reports them all.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// No mistakes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a mistake; `reason` ends a sentence that begins with the name.
    pub fn push(&mut self, name: &str, reason: impl Into<String>) {
        self.0.push(Fault { name: name.to_owned(), reason: reason.into() });
    }

    /// Whether nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mistakes, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// Fails if there is any mistake.
    ///
    /// # Errors
    /// All the mistakes, as one error.
    pub fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has mistakes:")?;
        for Fault { name, reason } in &self.0 {
            write!(f, "\n  {name} {reason}")?;
        }
        Ok(())
    }
}

/// Reads a setting that must be given.
pub fn required<T>(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    if !vars.given(name) {
        faults.push(name, "is not given and has no default");
    }
    maybe(vars, name, faults)
}

/// Reads a setting with a default. A faulty value is noted and the default returned: the caller
/// learns of it from [`Faults::check`].
pub fn optional<T>(vars: &Vars<'_>, name: &str, default: T, faults: &mut Faults) -> T
where
    T: FromStr<Err: Display>,
{
    maybe(vars, name, faults).unwrap_or(default)
}

/// Reads a setting that may be left out.
pub fn maybe<T>(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    let value = vars.value(name, faults)?;
    parse(name, &value, faults)
}

/// Reads a comma-separated list; not given means empty, and empty members are skipped.
pub fn list<T>(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Vec<T>
where
    T: FromStr<Err: Display>,
{
    let value = vars.value(name, faults).unwrap_or_default();
    let members = value.split(',').map(str::trim).filter(|member| !member.is_empty());
    members.filter_map(|member| parse(name, member, faults)).collect()
}

/// Reads a switch: `true`, `yes`, `on`, `1` or `false`, `no`, `off`, `0`, in any case.
pub fn flag(vars: &Vars<'_>, name: &str, default: bool, faults: &mut Faults) -> bool {
    let Some(value) = vars.value(name, faults) else { return default };
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => true,
        "false" | "no" | "off" | "0" => false,
        _ => {
            faults
                .push(name, format!("is `{}`, which is neither `true` nor `false`", shown(&value)));
            default
        }
    }
}

/// Reads a secret that may be left out. Its value appears in no message.
pub fn secret(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Option<Secret> {
    vars.value(name, faults).map(Secret::new)
}

/// Reads a secret that must be given. Its value appears in no message.
pub fn required_secret(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Option<Secret> {
    if !vars.given(name) {
        faults.push(name, format!("is not given and has no default (or give {name}_FILE)"));
    }
    secret(vars, name, faults)
}

fn parse<T>(name: &str, value: &str, faults: &mut Faults) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    match value.parse() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            faults.push(name, format!("is `{}`, which is not valid: {error}", shown(value)));
            None
        }
    }
}

/// What a message shows of a value: a pasted file must not flood the log.
fn shown(value: &str) -> String {
    const MOST: usize = 120;
    if value.chars().count() <= MOST {
        return value.to_owned();
    }
    value.chars().take(MOST).chain("…".chars()).collect()
}

/// A value that must not be printed. `Debug` and `Display` show `[secret]`.
#[derive(Clone, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that must use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    /// Takes the same time wherever two values of one length differ.
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.bytes().zip(other.0.bytes());
        self.0.len() == other.0.len() && pairs.fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A whole number of seconds, for settings whose name ends in `_SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

/// A whole number of milliseconds, for settings whose name ends in `_MILLIS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// Ten years: longer is a slip, and keeps every sum with a point in time representable.
const LONGEST_SECONDS: u64 = 10 * 366 * 24 * 3600;

fn whole(text: &str, most: u64, unit: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(number) if number <= most => Ok(number),
        Ok(_) => Err(format!("more than {most} {unit}")),
        Err(_) => Err(format!("not a whole number of {unit}")),
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        whole(text, LONGEST_SECONDS, "seconds").map(Self)
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        whole(text, LONGEST_SECONDS * 1000, "milliseconds").map(Self)
    }
}

impl From<Seconds> for Duration {
    fn from(Seconds(seconds): Seconds) -> Self {
        Self::from_secs(seconds)
    }
}

impl From<Millis> for Duration {
    fn from(Millis(millis): Millis) -> Self {
        Self::from_millis(millis)
    }
}

#[cfg(test)]
mod tests;
