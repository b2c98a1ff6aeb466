//! The gRPC services: who asks, for what, do it, answer. Decisions are the application's.

mod access;
mod auth;
mod convert;
mod deliveries;
mod topics;

pub use access::AccessApi;
pub use auth::{Authenticated, Authenticator};
pub use deliveries::DeliveryApi;
pub use topics::TopicApi;

use postern_proto::status;
use postern_runtime::tls::peer_info;
use tonic::{Request, Status};
use tracing::{error, warn};

use crate::caller::{Caller, Origin};
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

/// The caller that the authenticating layer left on the request, with what is known of the request.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    // Missing only where a service was mounted without the layer: our fault, not theirs.
    let caller: Option<Caller> = request.extensions().get().cloned();
    let caller = caller.ok_or_else(|| Status::internal("unguarded route"))?;
    let peer = peer_info(request);
    // Nobody's name for itself is that long; the rest is cut rather than refused.
    let user_agent = request.metadata().get("user-agent").and_then(|text| text.to_str().ok());
    Ok(caller.from_origin(Origin {
        address: peer.map(|peer| peer.remote.ip()),
        encrypted: peer.is_some_and(|peer| peer.encrypted),
        user_agent: user_agent.map(|text| text.chars().take(256).collect::<String>().into()),
    }))
}
