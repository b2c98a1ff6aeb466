//! Reading columns: texts become ids and states once, where the row comes in.

use std::fmt::Display;
use std::str::FromStr;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

/// A text column as what it stands for.
///
/// # Errors
///
/// The column is not there, or holds what only another program could have written.
pub fn parsed<T>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let text: &str = row.try_get(column)?;
    parse(column, text)
}

/// As [`parsed`], of a column that may be NULL.
///
/// # Errors
///
/// As [`parsed`].
pub fn parsed_or_none<T>(row: &PgRow, column: &str) -> sqlx::Result<Option<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| parse(column, text)).transpose()
}

/// As [`parsed`], of a column that is an array.
///
/// # Errors
///
/// As [`parsed`].
pub fn parsed_all<T>(row: &PgRow, column: &str) -> sqlx::Result<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let texts: Vec<String> = row.try_get(column)?;
    texts.iter().map(|text| parse(column, text)).collect()
}

/// As [`parsed_all`], of an array that is NULL where it would be empty, as an aggregate's is.
///
/// # Errors
///
/// As [`parsed`].
pub fn parsed_each<T>(row: &PgRow, column: &str) -> sqlx::Result<Vec<T>>
where
    T: FromStr,
    T::Err: Display,
{
    let texts: Option<Vec<String>> = row.try_get(column)?;
    texts.unwrap_or_default().iter().map(|text| parse(column, text)).collect()
}

/// Ids and the like as Postgres takes them.
pub fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn parse<T>(column: &str, text: &str) -> sqlx::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: error.to_string().into(),
    })
}
