//! What is counted of every call.

use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::Method;

/// Seconds: from a lookup in memory to the unary timeout, and streams beyond.
const BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    method: String,
    code: &'static str,
}

/// The calls of a server by method and code. The labels are closed: methods come from the server's
/// descriptors, codes from gRPC.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    handled: Family<OutcomeLabels, Counter>,
    seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    in_flight: Family<MethodLabel, Gauge>,
}

impl RpcMetrics {
    /// Registers `grpc_server_handled_total`, `grpc_server_handling_seconds` and
    /// `grpc_server_in_flight`: once a process.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self {
            handled: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Family::default(),
        };
        registry.register(
            "grpc_server_handled",
            "Calls that ended, by method and code",
            this.handled.clone(),
        );
        registry.register(
            "grpc_server_handling_seconds",
            "Duration of a call, to the end of its answer",
            this.seconds.clone(),
        );
        registry.register("grpc_server_in_flight", "Calls under way", this.in_flight.clone());
        this
    }

    pub(super) fn begin(&self, method: &Method) -> Meter {
        let label = MethodLabel { method: method.label.clone() };
        self.in_flight.get_or_create(&label).inc();
        Meter { of: self.clone(), label, began: Instant::now() }
    }
}

/// One call that is being counted.
#[derive(Debug)]
pub(super) struct Meter {
    of: RpcMetrics,
    label: MethodLabel,
    began: Instant,
}

impl Meter {
    /// Counts the end of the call, once.
    pub(super) fn end(self, code: Code) -> Duration {
        let lasted = self.began.elapsed();
        let code = name(code);
        let labels = OutcomeLabels { method: self.label.method.clone(), code };
        self.of.handled.get_or_create(&labels).inc();
        self.of.seconds.get_or_create(&self.label).observe(lasted.as_secs_f64());
        self.of.in_flight.get_or_create(&self.label).dec();
        lasted
    }
}

/// gRPC's own names of the codes.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
