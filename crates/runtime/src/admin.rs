//! The admin port of a process: health, readiness and metrics, for operators and their machines.
//!
//! It is plain HTTP without authentication and shows no tenant's data: bind it where only operators
//! reach it. Healthy means that the process answers; ready means that every part that registered with
//! [`Readiness`] said so.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::{self, ProcessCollector, started};

/// Connections open at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// For a client to send its request's head, also between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed after this, busy or not: scrapers reconnect.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(300);
/// For answers under way when the process stops.
const DRAIN: Duration = Duration::from_secs(2);
/// After a failed accept, which most often means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin port shows. Clones share it.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The process's name, as in `postern-dispatcher`.
    pub process: &'static str,
    /// Where parts register their metrics, under a prefix of their own.
    pub registry: Arc<Mutex<Registry>>,
    /// Where parts tell whether they are ready.
    pub readiness: Readiness,
}

impl Admin {
    /// An admin page with the process's own figures and no parts. What is registered is exported over
    /// OTLP too, where [`crate::telemetry`] has an endpoint for metrics.
    pub fn new(process: &'static str) -> Self {
        started(); // The uptime begins here.
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let registry = Arc::new(Mutex::new(registry));
        telemetry::include(&registry);
        Self { process, registry, readiness: Readiness::default() }
    }

    /// Registers metrics: `admin.register(|registry| Meters::register(registry))`.
    pub fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which parts of a process are ready. A process with no parts is ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    last: u64,
    /// By number: the name, and why it is not ready.
    parts: BTreeMap<u64, (&'static str, Option<String>)>,
}

impl Readiness {
    /// Registers a part, which is not ready until it says so, and is forgotten when it is dropped.
    pub fn part(&self, name: &'static str) -> Part {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.last += 1;
        let number = parts.last;
        parts.parts.insert(number, (name, Some("starting".to_owned())));
        Part { of: self.clone(), number }
    }

    /// The parts that are not ready, each with its reason.
    pub fn faults(&self) -> BTreeMap<String, String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = parts.parts.values().filter_map(|(name, fault)| {
            fault.as_ref().map(|fault| ((*name).to_owned(), fault.clone()))
        });
        faults.collect()
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.faults().is_empty()
    }
}

/// One part's say in whether the process is ready.
#[derive(Debug)]
pub struct Part {
    of: Readiness,
    number: u64,
}

impl Part {
    /// It works.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It does not work, for a reason that an operator understands.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, now: Option<String>) {
        let mut parts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((name, fault)) = parts.parts.get_mut(&self.number) else { return };
        match (&*fault, &now) {
            (Some(_), None) => info!(part = *name, "ready"),
            (None, Some(reason)) => warn!(part = *name, reason, "not ready"),
            _ => {}
        }
        *fault = now;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut parts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.parts.remove(&self.number);
    }
}

/// Serves the admin pages until `stop`; answers under way are finished first, for at most 2 s.
///
/// # Errors
/// None that ends it while the listener is good: a failed accept is logged, and tried again.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> io::Result<()> {
    let at = listener.local_addr()?;
    info!(address = %at, "the admin port is open");
    let router = router(admin);
    let (slots, graceful) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), GracefulShutdown::new());
    let mut connections = JoinSet::new(); // Dropped with this function, which cuts what is left.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(64);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            listener.accept().await.map(|(stream, _)| (slot, stream))
        };
        let (slot, stream) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "the admin port could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            // A client that goes away in the middle is its own business.
            let _ = timeout(CONNECTION_LIFETIME, connection).await;
            drop(slot);
        });
    }
    drop(listener);
    let _ = timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn index(State(admin): State<Admin>) -> Html<String> {
    let (process, version) = (admin.process, env!("CARGO_PKG_VERSION"));
    let up = started().uptime().as_secs();
    let uptime = format!("{}h {:02}m {:02}s", up / 3600, up / 60 % 60, up % 60);
    let faults = admin.readiness.faults();
    let ready = if faults.is_empty() {
        "ready".to_owned()
    } else {
        format!("not ready: {}", faults.keys().cloned().collect::<Vec<_>>().join(", "))
    };
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{process}</title>\
         <body style=\"font-family: sans-serif; margin: 2rem\"><h1>{process}</h1>\
         <p>version {version}, up {uptime}, {ready}</p>\
         <ul><li><a href=\"/healthz\">/healthz</a>: the process answers</li>\
         <li><a href=\"/readyz\">/readyz</a>: it can do its work, or which parts cannot</li>\
         <li><a href=\"/metrics\">/metrics</a>: for Prometheus</li></ul></body></html>\n"
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    ready: bool,
    not_ready: BTreeMap<String, String>,
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let not_ready = admin.readiness.faults();
    let ready = not_ready.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, not_ready })).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    let encoded = {
        let registry = admin.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)
    };
    match encoded {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
