//! The gRPC services: who asks, for what, do it, answer. Decisions are the application's.

mod access;
mod auth;
mod convert;
mod topics;

pub use access::AccessApi;
pub use auth::{Authenticated, Authenticator};
pub use topics::TopicApi;

use postern_proto::status;
use tonic::{Request, Status};
use tracing::{error, warn};

use crate::caller::Caller;
use crate::error::Error;

/// What a client sees of an error. The causes are logged here, once.
pub(crate) fn status_of(error: Error) -> Status {
    match error {
        Error::Refused(refusal) => status::status(&refusal),
        Error::Unavailable { part, source } => {
            let cause = anyhow::Error::from_boxed(source);
            warn!(part, cause = format!("{cause:#}"), "a part is not available");
            status::unavailable(part)
        }
        Error::Internal(source) => {
            let cause = anyhow::Error::from_boxed(source);
            error!(cause = format!("{cause:#}"), "internal error");
            status::internal()
        }
    }
}

/// The caller that the authenticating layer left on the request.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    // Missing only where a service was mounted without the layer: our fault, not theirs.
    request.extensions().get().cloned().ok_or_else(|| Status::internal("unguarded route"))
}
