//! Reading the fields of requests: what is missing, what is too long, what is malformed, each with the
//! field's name.

use std::fmt::Display;
use std::str::FromStr;

use postern_model::{Code, field};
use postern_proto::page::Page;

use crate::error::{Error, Result};

/// Reads a field that must be there.
///
/// # Errors
///
/// `MissingParameter` when it is empty, `InvalidParameterValue` when it is malformed.
pub fn required<T>(field: &str, text: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() {
        return Err(missing(field));
    }
    Ok(field::parse(field, text)?)
}

/// Reads a field that may be empty.
///
/// # Errors
///
/// `InvalidParameterValue` when it is malformed.
pub fn optional<T>(field: &str, text: &str) -> Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    if text.is_empty() { Ok(None) } else { Ok(Some(field::parse(field, text)?)) }
}

/// Words for people: at most `max` characters, none of them a control character.
///
/// # Errors
///
/// `InvalidParameterValue`.
pub fn words(field: &str, text: String, max: usize) -> Result<String> {
    if text.chars().count() > max {
        let reason = format!("must have at most {max} characters");
        return Err(Error::of_field(Code::InvalidParameterValue, field, reason));
    }
    // Terminals act on control characters, and Postgres takes no NUL.
    if text.chars().any(char::is_control) {
        let reason = "must not have control characters";
        return Err(Error::of_field(Code::InvalidParameterValue, field, reason));
    }
    Ok(text)
}

/// As [`words`], and not empty.
///
/// # Errors
///
/// `MissingParameter` when it is empty, otherwise as [`words`].
pub fn required_words(field: &str, text: String, max: usize) -> Result<String> {
    if text.is_empty() { Err(missing(field)) } else { words(field, text, max) }
}

/// Which page is asked for, by `page_size` and `page_token`.
///
/// # Errors
///
/// As [`Page::parse`].
pub fn page(size: i32, token: &str) -> Result<Page> {
    Ok(Page::parse(size, token)?)
}

/// The refusal for a required field that is not there.
pub fn missing(field: &str) -> Error {
    Error::of_field(Code::MissingParameter, field, "is required")
}
