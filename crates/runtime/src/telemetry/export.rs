//! Metrics over OTLP: what the process's Prometheus registries hold, sent at intervals.
//!
//! Every figure that the admin port shows goes out, and nothing else: a metric is defined once, where
//! it is registered.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tracing::{debug, warn};

use super::openmetrics::{self, Span};
use super::process::started;
use crate::config::{Faults, Millis, Vars, maybe, optional};

/// OpenTelemetry's own defaults.
const INTERVAL: Millis = Millis(60_000);
const TIMEOUT: Millis = Millis(10_000);

/// Where metrics go over OTLP.
#[derive(Clone, Debug)]
pub struct MetricsExport {
    /// The collector: `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    /// How often: `OTEL_METRIC_EXPORT_INTERVAL`, milliseconds, 60000.
    pub interval: Duration,
    /// For one export: `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT` or `OTEL_EXPORTER_OTLP_TIMEOUT`,
    /// milliseconds, 10000.
    pub timeout: Duration,
    /// What goes with each call, such as a token: `OTEL_EXPORTER_OTLP_METRICS_HEADERS` or
    /// `OTEL_EXPORTER_OTLP_HEADERS`, `name=value` comma separated. Values may be secrets.
    headers: MetadataMap,
}

impl MetricsExport {
    pub(super) fn load(endpoint: String, vars: &Vars<'_>, faults: &mut Faults) -> Self {
        let interval = optional(vars, "OTEL_METRIC_EXPORT_INTERVAL", INTERVAL, faults);
        if interval < Millis(100) {
            faults.push("OTEL_METRIC_EXPORT_INTERVAL", "must be 100 or more");
        }
        let timeout = maybe(vars, "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", faults)
            .unwrap_or_else(|| optional(vars, "OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT, faults));
        let mut headers = MetadataMap::new();
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"] {
            let given = maybe::<String>(vars, name, faults).unwrap_or_default();
            for pair in given.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                match header(pair) {
                    Some((key, value)) => drop(headers.insert(key, value)),
                    // Not shown: it may be a secret.
                    None => faults.push(name, "has a part that is not `name=value`"),
                }
            }
        }
        Self { endpoint, interval: interval.into(), timeout: timeout.into(), headers }
    }
}

fn header(pair: &str) -> Option<(MetadataKey<Ascii>, MetadataValue<Ascii>)> {
    let (name, value) = pair.split_once('=')?;
    let key = MetadataKey::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
    let mut value = MetadataValue::try_from(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((key, value))
}

/// The registries of the process, for as long as somebody else holds them.
static REGISTRIES: Mutex<Vec<Weak<Mutex<Registry>>>> = Mutex::new(Vec::new());

/// Has what is in `registry` exported, if metrics are exported at all.
pub(crate) fn include(registry: &Arc<Mutex<Registry>>) {
    let mut all = REGISTRIES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|registry| registry.strong_count() > 0);
    all.push(Arc::downgrade(registry));
}

fn figures() -> Vec<Metric> {
    let registries: Vec<_> = {
        let all = REGISTRIES.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    };
    let mut text = String::new();
    for registry in registries {
        let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string does not fail; a metric that cannot be written ends only its own text.
        let _ = encode(&mut text, &registry);
    }
    let nanos = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    };
    let span = Span { began: nanos(started().at()), read: nanos(SystemTime::now()) };
    openmetrics::read(&text, span)
}

/// Sends metrics, once it is started.
#[derive(Debug)]
pub(super) struct Exporter {
    client: MetricsServiceClient<Channel>,
    export: MetricsExport,
    resource: Resource,
}

impl Exporter {
    /// An exporter that connects when it first sends. Called inside a tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is of no use.
    pub(super) fn new(export: MetricsExport, resource: Resource) -> Result<Self, String> {
        let endpoint =
            Endpoint::from_shared(export.endpoint.clone()).map_err(|error| error.to_string())?;
        if endpoint.uri().scheme_str() != Some("http") {
            return Err("only http:// is supported".to_owned());
        }
        let channel =
            endpoint.connect_timeout(export.timeout).timeout(export.timeout).connect_lazy();
        Ok(Self { client: MetricsServiceClient::new(channel), export, resource })
    }

    /// Sends at intervals from now on.
    pub(super) fn start(self) -> Running {
        let stop = CancellationToken::new();
        Running { task: tokio::spawn(self.run(stop.clone())), stop }
    }

    async fn run(mut self, stop: CancellationToken) -> Result<(), Status> {
        let mut ticks = interval(self.export.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await; // The first comes at once, when there is nothing to tell.
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.send().await,
                _ = ticks.tick() => {}
            }
            // Once, not at every interval for as long as the collector is away.
            match self.send().await {
                Ok(()) => failing = false,
                Err(error) if failing => debug!(%error, "metrics could not be sent"),
                Err(error) => {
                    failing = true;
                    warn!(%error, "metrics could not be sent, trying again");
                }
            }
        }
    }

    async fn send(&mut self) -> Result<(), Status> {
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        let scope = ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: "postern".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            metrics: figures(),
            ..ScopeMetrics::default()
        };
        let all = ResourceMetrics {
            resource: Some(opentelemetry_proto::tonic::resource::v1::Resource {
                attributes: resource.attributes.0,
                ..Default::default()
            }),
            scope_metrics: vec![scope],
            schema_url: resource.schema_url.unwrap_or_default(),
        };
        let mut request = Request::new(ExportMetricsServiceRequest { resource_metrics: vec![all] });
        *request.metadata_mut() = self.export.headers.clone();
        let answer = self.client.export(request).await?.into_inner();
        if let Some(partly) = answer.partial_success.filter(|p| p.rejected_data_points > 0) {
            let (rejected, reason) = (partly.rejected_data_points, partly.error_message);
            warn!(rejected, reason, "the collector did not take all metrics");
        }
        Ok(())
    }
}

/// An exporter that was started.
#[derive(Debug)]
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Status>>,
}

impl Running {
    /// Sends the last figures.
    pub(super) async fn shutdown(self) -> Result<(), String> {
        self.stop.cancel();
        match self.task.await {
            Ok(sent) => sent.map_err(|status| status.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
