//! Lists in requests: bounded, and each item read with its place in the list.

use std::fmt::Display;
use std::str::FromStr;

use postern_model::{Code, field};
use postern_proto::v1;

use crate::app::items::Unsuccessful;
use crate::error::{Error, Result};

/// How many resources a bulk request names at most.
pub const BULK_MAX: usize = 100;

/// Reads a list of at most `max` items.
///
/// # Errors
///
/// `InvalidParameterValue` when it is longer, or an item is malformed.
pub fn list<T>(field: &str, texts: &[String], max: usize) -> Result<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    bounded(field, texts.len(), max)?;
    let item = |(index, text): (usize, &String)| field::parse(&format!("{field}[{index}]"), text);
    Ok(texts.iter().enumerate().map(item).collect::<Result<_, _>>()?)
}

/// As [`list`], each item once, in the order in which they came first.
///
/// # Errors
///
/// As [`list`].
pub fn set<T>(field: &str, texts: &[String], max: usize) -> Result<Vec<T>>
where
    T: FromStr + PartialEq,
    T::Err: Display,
{
    let mut once: Vec<T> = Vec::with_capacity(texts.len().min(max));
    for item in list(field, texts, max)? {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    Ok(once)
}

/// As [`set`], of what a bulk request names: at least one, at most [`BULK_MAX`].
///
/// # Errors
///
/// As [`list`]; `MissingParameter` when it is empty.
pub fn bulk<T>(field: &str, texts: &[String]) -> Result<Vec<T>>
where
    T: FromStr + PartialEq,
    T::Err: Display,
{
    if texts.is_empty() {
        return Err(super::fields::missing(field));
    }
    set(field, texts, BULK_MAX)
}

/// Checks that a list has at most `max` items.
///
/// # Errors
///
/// `InvalidParameterValue`.
pub fn bounded(field: &str, length: usize, max: usize) -> Result<()> {
    if length <= max {
        return Ok(());
    }
    let reason = format!("must have at most {max} items");
    Err(Error::of_field(Code::InvalidParameterValue, field, reason))
}

impl From<Unsuccessful> for v1::UnsuccessfulItem {
    fn from(item: Unsuccessful) -> Self {
        let Unsuccessful { resource, refusal } = item;
        Self {
            resource_id: resource,
            code: refusal.code.as_str().to_owned(),
            message: refusal.message,
        }
    }
}

/// Items that are not done, as they are answered.
pub fn unsuccessful(items: Vec<Unsuccessful>) -> Vec<v1::UnsuccessfulItem> {
    items.into_iter().map(Into::into).collect()
}
