//! An OpenTelemetry collector that keeps what it is sent.
//!
//! It is the far side of the processes' export: OTLP over gRPC, traces and metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use opentelemetry_proto::tonic::collector::metrics::v1 as collect_metrics;
use opentelemetry_proto::tonic::collector::trace::v1 as collect_traces;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, NumberDataPoint};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Longer than any batch: spans come by the hundred.
const LARGEST_MESSAGE: usize = 64 << 20;

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    /// The span's name.
    pub name: String,
    /// The trace's id, in hexadecimal digits, as in a `traceparent`.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The id of the span that it is a child of; empty for the first of a trace.
    pub parent: String,
    /// Attributes that are text or numbers, as text.
    pub attributes: BTreeMap<String, String>,
}

/// One figure as it was last sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// `service.name` of the process.
    pub service: String,
    /// The metric's name.
    pub name: String,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// The number; of a histogram, how often something was observed.
    pub value: f64,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    /// Figures are cumulative: the last of a series is all that there is to know.
    figures: BTreeMap<String, Figure>,
}

/// The collector. It ends when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    kept: watch::Sender<Kept>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let kept = watch::Sender::new(Kept::default());
        let sink = Sink(kept.clone());
        let traces = collect_traces::trace_service_server::TraceServiceServer::new(sink.clone())
            .max_decoding_message_size(LARGEST_MESSAGE);
        let metrics = collect_metrics::metrics_service_server::MetricsServiceServer::new(sink)
            .max_decoding_message_size(LARGEST_MESSAGE);
        let serving = tonic::transport::Server::builder()
            .add_service(traces)
            .add_service(metrics)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { drop(serving.await) });
        Ok(Self { address, kept, task })
    }

    /// Where it listens: `http://` and this is an `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The spans of a trace that have come so far.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let kept = self.kept.borrow();
        kept.spans.iter().filter(|span| span.trace == trace).cloned().collect()
    }

    /// Waits for a span that `wanted` likes, and returns the first.
    ///
    /// # Errors
    /// When none has come after `patience`; the error lists the spans of `trace`.
    pub async fn span(
        &self,
        patience: Duration,
        trace: &str,
        wanted: impl Fn(&Span) -> bool,
    ) -> Result<Span> {
        let mut kept = self.kept.subscribe();
        let found = |kept: &Kept| {
            kept.spans.iter().find(|span| span.trace == trace && wanted(span)).cloned()
        };
        let waited = tokio::time::timeout(patience, kept.wait_for(|kept| found(kept).is_some()));
        if let Ok(Ok(kept)) = waited.await
            && let Some(span) = found(&kept)
        {
            return Ok(span);
        }
        anyhow::bail!("no such span in {patience:?}; the trace has {:#?}", self.trace(trace))
    }

    /// Waits for a figure that `wanted` likes, and returns it.
    ///
    /// # Errors
    /// When none has come after `patience`; the error lists the names that came.
    pub async fn figure(
        &self,
        patience: Duration,
        wanted: impl Fn(&Figure) -> bool,
    ) -> Result<Figure> {
        let mut kept = self.kept.subscribe();
        let found = |kept: &Kept| kept.figures.values().find(|one| wanted(one)).cloned();
        let waited = tokio::time::timeout(patience, kept.wait_for(|kept| found(kept).is_some()));
        if let Ok(Ok(kept)) = waited.await
            && let Some(figure) = found(&kept)
        {
            return Ok(figure);
        }
        anyhow::bail!("no such figure in {patience:?}; these came: {:#?}", self.names())
    }

    /// The names of the metrics that have come, each after its process's.
    pub fn names(&self) -> Vec<String> {
        let kept = self.kept.borrow();
        let mut names: Vec<_> =
            kept.figures.values().map(|one| format!("{} {}", one.service, one.name)).collect();
        names.dedup();
        names
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Sink(watch::Sender<Kept>);

#[tonic::async_trait]
impl collect_traces::trace_service_server::TraceService for Sink {
    async fn export(
        &self,
        request: Request<collect_traces::ExportTraceServiceRequest>,
    ) -> Result<Response<collect_traces::ExportTraceServiceResponse>, Status> {
        let mut spans = Vec::new();
        for of_resource in request.into_inner().resource_spans {
            let service = service(of_resource.resource.as_ref());
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    service: service.clone(),
                    name: span.name,
                    trace: digits(&span.trace_id),
                    id: digits(&span.span_id),
                    parent: digits(&span.parent_span_id),
                    attributes: texts(&span.attributes),
                });
            }
        }
        self.0.send_modify(|kept| kept.spans.extend(spans));
        Ok(Response::new(collect_traces::ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl collect_metrics::metrics_service_server::MetricsService for Sink {
    async fn export(
        &self,
        request: Request<collect_metrics::ExportMetricsServiceRequest>,
    ) -> Result<Response<collect_metrics::ExportMetricsServiceResponse>, Status> {
        let mut figures = Vec::new();
        for of_resource in request.into_inner().resource_metrics {
            let service = service(of_resource.resource.as_ref());
            for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let points: Vec<_> = match metric.data {
                    Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
                    Some(Data::Sum(sum)) => sum.data_points.iter().map(number).collect(),
                    Some(Data::Histogram(all)) => all.data_points.iter().map(count).collect(),
                    _ => Vec::new(),
                };
                figures.extend(points.into_iter().map(|(attributes, value)| Figure {
                    service: service.clone(),
                    name: metric.name.clone(),
                    attributes,
                    value,
                }));
            }
        }
        self.0.send_modify(|kept| {
            for figure in figures {
                let series = format!("{} {} {:?}", figure.service, figure.name, figure.attributes);
                kept.figures.insert(series, figure);
            }
        });
        Ok(Response::new(collect_metrics::ExportMetricsServiceResponse::default()))
    }
}

fn number(point: &NumberDataPoint) -> (BTreeMap<String, String>, f64) {
    let value = match point.value {
        Some(Value::AsDouble(value)) => value,
        Some(Value::AsInt(value)) => value as f64,
        None => f64::NAN,
    };
    (texts(&point.attributes), value)
}

fn count(point: &HistogramDataPoint) -> (BTreeMap<String, String>, f64) {
    (texts(&point.attributes), point.count as f64)
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
    attributes.get("service.name").cloned().unwrap_or_default()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match &value.value {
        Some(any_value::Value::StringValue(text)) => Some(text.clone()),
        Some(any_value::Value::IntValue(number)) => Some(number.to_string()),
        Some(any_value::Value::BoolValue(truth)) => Some(truth.to_string()),
        _ => None,
    };
    attributes
        .iter()
        .filter_map(|one| Some((one.key.clone(), text(one.value.as_ref()?)?)))
        .collect()
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
