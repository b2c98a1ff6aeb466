//! How a use case ends badly.

use postern_model::{InvalidField, Refusal};

/// A cause from beneath, for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why something was not done. Everything that a caller can cause is a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller is told why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A part is away: the same may succeed later.
    #[error("the {part} is not available")]
    Unavailable {
        /// Which part.
        part: &'static str,
        /// Why, for the log.
        #[source]
        source: Cause,
    },
    /// A fault of our own.
    #[error("internal error")]
    Internal(#[source] Cause),
}

impl From<InvalidField> for Error {
    fn from(field: InvalidField) -> Self {
        Self::Refused(field.into())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) {
            Self::Unavailable { part: "database", source: error.into() }
        } else {
            Self::Internal(error.into())
        }
    }
}

/// Whether the database is away, rather than unhappy with what it was told.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        // 08: connection exceptions; 53: no resources; 57: operator intervention (shutdown, start);
        // 40: the transaction was rolled back to let another through.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57", "40"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}
