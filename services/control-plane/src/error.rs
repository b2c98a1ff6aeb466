//! What can come of a request besides its answer.

use postern_model::{Code, InvalidField, Refusal};
use postern_runtime::tls::TlsError;

/// A request that is not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for what can't be, or not now.
    #[error("{}", .0)]
    Refused(Refusal),
    /// A part that is needed is away; the same request may succeed later.
    #[error("{part} is unavailable")]
    Unavailable {
        /// Which part, in words for the caller.
        part: &'static str,
        /// What happened. For the log; a caller never sees it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A fault of our own. The source is for the log; a caller never sees it.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a use case returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal that no single field is to blame for.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }

    /// A refusal for what one field says.
    pub fn of_field(code: Code, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused(Refusal::of_field(code, field, reason))
    }

    /// A fault of our own, described: a row that can't be, say.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into().into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<InvalidField> for Error {
    fn from(field: InvalidField) -> Self {
        Self::Refused(field.into())
    }
}

impl From<TlsError> for Error {
    fn from(error: TlsError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<sqlx::Error> for Error {
    /// The database away, or busy beyond its means, is no fault of the request's. Constraints that a
    /// request can violate are told apart before this, with [`violated`].
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // Classes 08 (connection), 53 (out of resources), 57 (shutdown), and transactions that
            // were in each other's way and may simply be sent again.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))
            }),
            _ => false,
        };
        if away {
            Self::Unavailable { part: "the database", source: error.into() }
        } else {
            Self::Internal(error.into())
        }
    }
}

/// The name of the constraint that a statement violated, if that is what went wrong.
pub fn violated(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(error) => error.constraint(),
        _ => None,
    }
}
