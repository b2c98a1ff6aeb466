//! Logs, traces and metrics of a process, and trace context that crosses process boundaries.
//!
//! Logs go to standard error, so that standard output stays a program's answer. Traces always exist:
//! without an exporter, ids are still made, logged and passed on in `traceparent` headers (W3C Trace
//! Context), and an exporter only decides whether anybody keeps them. Metrics live in the Prometheus
//! registry ([`crate::admin`]), and over OTLP go the same figures under the same names: the
//! OpenTelemetry SDK has no way to export another registry's points, so this does it itself.
//!
//! | variable | meaning |
//! |---|---|
//! | `POSTERN_LOG` | what is logged: an env-filter, by default `info` |
//! | `POSTERN_LOG_FORMAT` | `pretty` (default) or `json` |
//! | `NO_COLOR` | no colours in pretty logs |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` | OTLP over gRPC goes there; without any, nowhere |
//! | `OTEL_METRIC_EXPORT_INTERVAL` | how often metrics are sent, in milliseconds: 60000 |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT` (and their `_TRACES_` and `_METRICS_` forms) | what goes with each export, and for how long it is waited for, in milliseconds |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, ... | as OpenTelemetry defines them |
//! | `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none` | no export |

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, global};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Faults, Vars, flag, maybe, optional};

mod export;
mod openmetrics;
mod process;

use export::Exporter;
pub use export::MetricsExport;
pub(crate) use export::include;
pub(crate) use process::{ProcessCollector, started};

const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line, with the fields of the open spans.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err("expected `pretty` or `json`"),
        }
    }
}

/// What [`init`] reads from the environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The env-filter for logs.
    pub log: String,
    /// How logs look.
    pub format: LogFormat,
    /// Whether pretty logs are coloured.
    pub color: bool,
    /// The service's name in traces, if it is not the process's own.
    pub service_name: Option<String>,
    /// Where traces are exported to over OTLP, if anywhere.
    pub traces_endpoint: Option<String>,
    /// Where metrics are exported to over OTLP, if anywhere.
    pub metrics: Option<MetricsExport>,
}

impl Settings {
    /// Reads the settings; see the table above. `color` also needs a terminal.
    pub fn load(vars: &Vars<'_>, faults: &mut Faults) -> Self {
        let log = optional(vars, "POSTERN_LOG", "info".to_owned(), faults);
        if let Err(error) = EnvFilter::try_new(&log) {
            faults.push("POSTERN_LOG", format!("is `{log}`, which is no env-filter: {error}"));
        }
        let format = optional(vars, "POSTERN_LOG_FORMAT", LogFormat::Pretty, faults);
        let color = vars.direct("NO_COLOR").is_none() && std::io::stderr().is_terminal();
        let off = flag(vars, "OTEL_SDK_DISABLED", false, faults);
        let endpoint = |own: &str, exporter: &str, faults: &mut Faults| {
            let endpoint = maybe::<String>(vars, own, faults)
                .or_else(|| maybe(vars, "OTEL_EXPORTER_OTLP_ENDPOINT", faults));
            endpoint.filter(|_| !off && vars.direct(exporter).as_deref() != Some("none"))
        };
        let traces_endpoint =
            endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", faults);
        let metrics =
            endpoint("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER", faults)
                .map(|endpoint| MetricsExport::load(endpoint, vars, faults));
        let protocol = vars.direct("OTEL_EXPORTER_OTLP_PROTOCOL");
        if let Some(protocol) = protocol.filter(|protocol| protocol != "grpc")
            && (traces_endpoint.is_some() || metrics.is_some())
        {
            let reason = format!("is `{protocol}`, but only `grpc` is supported");
            faults.push("OTEL_EXPORTER_OTLP_PROTOCOL", reason);
        }
        let service_name = maybe(vars, "OTEL_SERVICE_NAME", faults);
        Self { log, format, color, service_name, traces_endpoint, metrics }
    }
}

/// Keeps the exporters; [`Telemetry::shutdown`] sends what they still hold.
#[derive(Debug, Default)]
#[must_use = "spans of the last seconds are lost unless this is shut down"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<export::Running>,
}

impl Telemetry {
    /// Sends what is not sent yet, for at most 5 s each for traces and metrics. The last thing in `main`.
    pub async fn shutdown(self) {
        let Self { traces, metrics } = self;
        let metrics = async { metrics?.shutdown().await.err() };
        let traces = async {
            // The exporter blocks, and needs the runtime to go on meanwhile.
            let end = move || traces.map(|traces| traces.shutdown_with_timeout(FLUSH_TIMEOUT));
            match tokio::task::spawn_blocking(end).await {
                Ok(ended) => ended.and_then(Result::err).map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            }
        };
        let (metrics, traces) =
            tokio::join!(timeout(FLUSH_TIMEOUT, metrics), timeout(FLUSH_TIMEOUT * 2, traces));
        for (ended, what) in [(metrics, "metrics"), (traces, "traces")] {
            match ended {
                Ok(None) => {}
                Ok(Some(error)) => warn!(error, "the last {what} could not be sent"),
                Err(_) => warn!("the last {what} were not sent in time"),
            }
        }
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts telemetry by the environment's settings. `service` names the process in traces unless
/// `OTEL_SERVICE_NAME` does. Called inside a tokio runtime; a second call in one process does nothing.
///
/// # Errors
/// Every mistake in the settings; logging is then not started.
pub fn init(service: &'static str) -> Result<Telemetry, Faults> {
    let mut faults = Faults::new();
    let settings = Settings::load(&Vars::env(), &mut faults);
    faults.check()?;
    init_with(service, &settings)
}

/// As [`init`], with settings that were read already.
///
/// # Errors
/// When the log filter is malformed or an exporter cannot be built.
pub fn init_with(service: &'static str, settings: &Settings) -> Result<Telemetry, Faults> {
    if STARTED.swap(true, Ordering::SeqCst) {
        return Ok(Telemetry::default());
    }
    let built = build(service, settings);
    if built.is_err() {
        STARTED.store(false, Ordering::SeqCst);
    }
    let (exporter, traces, filter) = built?;

    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(traces.clone());
    let subscriber = subscriber(settings, &traces, filter, std::io::stderr);
    if subscriber.try_init().is_err() {
        // Somebody, such as a test harness, has its own subscriber: it stays.
        return Ok(Telemetry::default());
    }
    Ok(Telemetry { traces: Some(traces), metrics: exporter.map(Exporter::start) })
}

fn subscriber<W>(
    settings: &Settings,
    traces: &SdkTracerProvider,
    filter: EnvFilter,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    let log: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        LogFormat::Pretty => log.with_ansi(settings.color).with_filter(filter).boxed(),
        LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // Traces do not follow POSTERN_LOG: a quiet process must still pass its callers' context on. Only
    // our spans count; those of the transport beneath the exporter would trace themselves.
    let spans = Targets::new().with_target("postern", LevelFilter::INFO);
    let otel =
        tracing_opentelemetry::layer().with_tracer(traces.tracer("postern")).with_filter(spans);
    tracing_subscriber::registry().with(log).with(otel)
}

type Built = (Option<Exporter>, SdkTracerProvider, EnvFilter);

fn build(service: &'static str, settings: &Settings) -> Result<Built, Faults> {
    let mut faults = Faults::new();
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| faults.push("POSTERN_LOG", format!("is no env-filter: {error}")))
        .unwrap_or_default();
    let name = settings.service_name.clone().unwrap_or_else(|| service.to_owned());
    // The builder reads OTEL_RESOURCE_ATTRIBUTES.
    let resource = Resource::builder().with_service_name(name).build();

    let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
    if let Some(endpoint) = &settings.traces_endpoint {
        match SpanExporter::builder().with_tonic().with_endpoint(endpoint).build() {
            Ok(exporter) => traces = traces.with_batch_exporter(exporter),
            Err(error) => faults.push(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("is `{endpoint}`, where traces cannot be sent: {error}"),
            ),
        }
    }
    let mut metrics = None;
    if let Some(export) = &settings.metrics {
        match Exporter::new(export.clone(), resource) {
            Ok(exporter) => metrics = Some(exporter),
            Err(error) => faults.push(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("is `{}`, where metrics cannot be sent: {error}", export.endpoint),
            ),
        }
    }
    faults.check()?;
    Ok((metrics, traces.build(), filter))
}

/// The trace context of `span` as headers (`traceparent`, `tracestate`), to go with a message. Empty
/// when telemetry was not started.
pub fn inject(span: &Span) -> BTreeMap<String, String> {
    let mut headers = Headers(BTreeMap::new());
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    headers.0.retain(|_, value| !value.is_empty());
    headers.0
}

/// The trace context in headers; an empty context when there is none or it is malformed.
pub fn extract(headers: &BTreeMap<String, String>) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Borrowed(headers))
}

/// Makes `span` a child of the context in `headers`, before it is first entered, and records its trace
/// id for the logs. Headers without a context leave the span's parent as it is.
pub fn set_parent(span: &Span, headers: &BTreeMap<String, String>) {
    adopt(span, extract(headers));
}

/// Fills the field `trace_id` of a span that declares it (`trace_id = tracing::field::Empty`), so that
/// log lines inside can be found by the trace and the trace by them.
pub fn record_trace_id(span: &Span) {
    if span.is_disabled() {
        return;
    }
    let context = span.context();
    let id = context.span().span_context().trace_id();
    if id != opentelemetry::TraceId::INVALID {
        span.record("trace_id", tracing::field::display(id));
    }
}

pub(crate) fn adopt(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid() && !span.is_disabled() {
        // It fails where telemetry was not started or the span has begun: there is no trace to join.
        let _ = span.set_parent(parent);
    }
    record_trace_id(span);
}

struct Headers(BTreeMap<String, String>);

impl opentelemetry::propagation::Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

struct Borrowed<'a>(&'a BTreeMap<String, String>);

impl opentelemetry::propagation::Extractor for Borrowed<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests;
