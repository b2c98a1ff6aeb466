//! What a gRPC client sees of an [`Error`].

use std::error::Error as Source;

use tonic::Status;
use tracing::{error, warn};

use crate::error::Error;

impl From<Error> for Status {
    /// A refusal goes out as it is; of anything else the log gets the cause and the client none.
    fn from(error: Error) -> Self {
        match &error {
            Error::Refused(refusal) => postern_proto::status::status(refusal),
            Error::Unavailable { part, source } => {
                warn!(part, cause = causes(source.as_ref()), "a part is unavailable");
                postern_proto::status::unavailable(part)
            }
            Error::Internal(source) => {
                error!(cause = causes(source.as_ref()), "a request failed by a fault of ours");
                postern_proto::status::internal()
            }
        }
    }
}

/// An error with everything that led to it, on one line.
fn causes(error: &(dyn Source + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
