//! A span and a count for every call, and the time limit of unary ones.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, info_span};

use super::body::{Limited, Watched};
use super::metrics::{Meter, name};
use super::{MAX_MESSAGE_BYTES, Method, Methods, RpcMetrics};
use crate::telemetry;
use crate::tls::PeerInfo;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts every call in a span that joins the caller's trace, counts it, and holds it to the limits on
/// messages and on the time of unary calls. [`super::serve`] applies it.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    metrics: RpcMetrics,
    methods: Methods,
    unary_timeout: Duration,
}

impl TraceLayer {
    /// A layer for a server that has these methods.
    pub fn new(metrics: RpcMetrics, methods: Methods, unary_timeout: Duration) -> Self {
        Self { metrics, methods, unary_timeout }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner, layer: self.clone() }
    }
}

/// The service that [`TraceLayer`] makes.
#[derive(Clone, Debug)]
pub struct TraceService<S> {
    inner: S,
    layer: TraceLayer,
}

impl<S, B, R> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = Arc::clone(self.layer.methods.of_path(request.uri().path()));
        let span = span(&method, &request);
        let limit = (!method.streaming).then_some(self.layer.unary_timeout);
        let meter = self.layer.metrics.begin(&method);
        let call = Call { meter: Some(meter), span: span.clone() };
        // The clone may not be ready: the one that was polled is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let request = request.map(|body| Body::new(Limited::new(body, MAX_MESSAGE_BYTES)));
        Box::pin(
            async move {
                let answer = inner.call(request);
                let answer = match limit {
                    None => answer.await,
                    Some(limit) => match timeout(limit, answer).await {
                        Ok(answer) => answer,
                        Err(_) => {
                            call.end(Code::DeadlineExceeded);
                            let text = format!("not answered within {} s", limit.as_secs_f32());
                            return Ok(Status::deadline_exceeded(text).into_http());
                        }
                    },
                };
                Ok(watch(answer?, call))
            }
            .instrument(span),
        )
    }
}

/// A call that fails at once has its status in the headers, any other in the trailers.
fn watch<R>(response: Response<R>, call: Call) -> Response<Body>
where
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let call = match Status::from_header_map(response.headers()) {
        Some(status) => {
            call.end(status.code());
            None
        }
        None => Some(call),
    };
    response.map(|body| Body::new(Watched::new(body, call)))
}

fn span<B>(method: &Method, request: &Request<B>) -> Span {
    let span = info_span!(
        target: "postern_runtime::grpc",
        "rpc",
        otel.name = method.label,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = method.service,
        rpc.method = method.name,
        rpc.response.status_code = Empty,
        client.address = Empty,
        peer = Empty,
        trace_id = Empty,
    );
    if let Some(peer) = request.extensions().get::<PeerInfo>() {
        span.record("client.address", tracing::field::display(peer.remote));
        if let Some(spiffe) = &peer.spiffe {
            span.record("peer", tracing::field::display(spiffe));
        }
    }
    let headers = Headers(request.headers());
    let nothing = opentelemetry::Context::new();
    telemetry::adopt(&span, TraceContextPropagator::new().extract_with_context(&nothing, &headers));
    span
}

/// A call under way. Dropped before it ended, it was cancelled: by the client, or with the server.
pub(super) struct Call {
    meter: Option<Meter>,
    span: Span,
}

impl Call {
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn end(mut self, code: Code) {
        self.finish(code);
    }

    fn finish(&mut self, code: Code) {
        let Some(meter) = self.meter.take() else { return };
        let lasted = meter.end(code);
        self.span.record("rpc.response.status_code", name(code));
        // OpenTelemetry's rule for servers: only these codes are the server's own errors.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            self.span.record("otel.status_code", "ERROR");
        }
        let _in_span = self.span.enter();
        debug!(code = name(code), millis = lasted.as_millis(), "the call ended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
