//! A fault in one field of a request.

/// Says which field of a request is wrong, and why, in words for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidField {
    /// The field's path in the request, in protobuf form: `subnet_ids[1]`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidField {
    /// A fault in `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Parses the text of `field`, naming the field when it is not well formed.
pub fn parse<T>(field: &str, text: &str) -> Result<T, InvalidField>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| InvalidField::new(field, error.to_string()))
}
