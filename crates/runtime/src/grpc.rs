//! Serving gRPC with limits, a span and metrics per call; and passing the trace on in calls.
//!
//! [`serve`] is the one way a process serves gRPC. What it holds for every method of every service:
//!
//! - a message is at most [`MAX_MESSAGE_BYTES`], whatever the service's own codec would take;
//! - a unary call is answered within [`Limits::unary_timeout`], or with `DEADLINE_EXCEEDED`; calls with
//!   a stream may last, and a client's own `grpc-timeout` counts as well;
//! - connections, calls per connection and handshakes under way are bounded, and a peer that is gone
//!   is noticed by HTTP/2 pings;
//! - a call's span joins the caller's trace, and its outcome is counted by method and code.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{Interceptor, Routes};
use tonic::transport::Server;
use tonic::{Request, Status};
use tracing::{Span, info};

use crate::shutdown::Stop;
use crate::telemetry;
use crate::tls::ServerTls;

mod accept;
mod body;
mod methods;
mod metrics;
mod trace;

pub use methods::{Method, Methods};
pub use metrics::RpcMetrics;
pub use trace::{TraceLayer, TraceService};

/// The most bytes that one message of a request may have, compressed if it is.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Pings on an idle connection, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// All metadata of a request together.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
/// Accepted connections that wait to be served.
const BACKLOG: usize = 16;
/// For connections to end after they were cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// What outsiders may take of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time; more wait in the listener's queue. 4096 by default.
    pub connections: usize,
    /// Streams (calls, finished or not) open at a time on one connection. 256 by default.
    pub streams: u32,
    /// Calls of one connection that are being handled at a time; more wait. 128 by default.
    pub calls: usize,
    /// TLS handshakes under way at a time; more wait. 64 by default.
    pub handshakes: usize,
    /// For a TLS handshake with its wait, and again for the client's first bytes. 10 s by default.
    pub handshake_timeout: Duration,
    /// For a unary call to be answered. 30 s by default.
    pub unary_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 256,
            calls: 128,
            handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
            unary_timeout: Duration::from_secs(30),
        }
    }
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    metrics: RpcMetrics,
    methods: Methods,
    tls: Option<ServerTls>,
    limits: Limits,
}

impl ServeOptions {
    /// Plain HTTP/2 with the default limits.
    pub fn new(metrics: RpcMetrics, methods: Methods) -> Self {
        Self { metrics, methods, tls: None, limits: Limits::default() }
    }

    /// Serves over TLS only.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// The server ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves until `stop` is asked for and the calls under way have ended, or until they are cut. An open
/// stream counts as a call under way: its handler watches the same `stop`. Layers of a service's own
/// go around its routes: `Routes::from(routes.into_axum_router().layer(..))`.
///
/// # Errors
/// When the server fails by itself.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    options: ServeOptions,
    stop: Stop,
) -> Result<(), ServeError> {
    let ServeOptions { metrics, methods, tls, limits } = options;
    if let Ok(address) = listener.local_addr() {
        info!(%address, tls = tls.is_some(), "serving gRPC");
    }
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let accepting = accept::run(listener, tls, limits, stop.clone(), accepted);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(limits.streams)
        .concurrency_limit_per_connection(limits.calls)
        .layer(TraceLayer::new(metrics, methods, limits.unary_timeout))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.stopped());
    let cut = async {
        stop.killed().await;
        // The connections fail by themselves now, which ends the server too.
        sleep(CUT_GRACE).await;
    };
    let both = async { tokio::join!(server, accepting).0 };
    tokio::select! {
        served = both => Ok(served?),
        () = cut => Ok(()),
    }
}

/// Adds the trace context of the current span to a request's metadata.
pub fn inject_request<T>(request: &mut Request<T>) {
    for (name, value) in telemetry::inject(&Span::current()) {
        let name = tonic::metadata::AsciiMetadataKey::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value.parse()) {
            request.metadata_mut().insert(name, value);
        }
    }
}

/// An interceptor for clients that passes the trace on: `Client::with_interceptor(channel, InjectTrace)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct InjectTrace;

impl Interceptor for InjectTrace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        inject_request(&mut request);
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
