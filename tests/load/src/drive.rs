//! The run: connections, workers and the clock.

use crate::call::{Method, code_name};
use crate::config::{Config, End};
use crate::report::{Recorder, Report};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Calls the method as `config` says, until its end or until `stop`, and reports.
///
/// # Errors
/// When the server cannot be reached or the method and its requests do not fit. A call that fails is part
/// of the report.
pub async fn run(config: &Config, stop: &Arc<AtomicBool>) -> Result<Report> {
    let mut channels = Vec::new();
    for _ in 0..config.connections {
        channels.push(connect(config).await?);
    }
    let first = channels.first().context("no connection")?;
    let method = Arc::new(Method::prepare(config, first).await?);
    let shared = Arc::new(Shared {
        method,
        next: AtomicU64::new(0),
        stop: Arc::clone(stop),
        begin: Instant::now(),
        end: config.end,
        interval: config.rps.map(|rps| Duration::from_secs(1) / rps),
        count_errors: config.count_errors,
    });
    let mut workers = tokio::task::JoinSet::new();
    for (worker, channel) in (0..config.concurrency).zip(channels.iter().cycle()) {
        workers.spawn(work(Arc::clone(&shared), channel.clone(), worker));
    }
    let mut recorder = Recorder::default();
    while let Some(done) = workers.join_next().await {
        recorder.add(done?);
    }
    Ok(Report::new(config, recorder, shared.begin.elapsed()))
}

struct Shared {
    method: Arc<Method>,
    next: AtomicU64,
    stop: Arc<AtomicBool>,
    begin: Instant,
    end: End,
    /// The time between two appointed starts.
    interval: Option<Duration>,
    count_errors: bool,
}

impl Shared {
    /// The next request's number and the time from which its latency counts; `None` at the end.
    async fn take(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let appointed = self.interval.map(|interval| {
            // Not `interval * number`: a Duration is multiplied by 32 bits only.
            self.begin + Duration::from_secs_f64(interval.as_secs_f64() * number as f64)
        });
        let over = match self.end {
            End::Total(total) => number >= total,
            End::After(time) => appointed.unwrap_or_else(Instant::now) >= self.begin + time,
        };
        if over || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(appointed) = appointed {
            sleep_until(appointed).await;
        }
        // The clock is read after the wait for an unpaced call, and not at all for a paced one: being
        // late is the server's doing and counts.
        Some((number, appointed.unwrap_or_else(Instant::now)))
    }
}

async fn work(shared: Arc<Shared>, channel: Channel, worker: u32) -> Recorder {
    let mut recorder = Recorder::default();
    while let Some((number, start)) = shared.take().await {
        let outcome = shared.method.call(&channel, number, worker).await;
        let latency = start.elapsed();
        match outcome {
            Ok(()) => recorder.ok(latency),
            Err(status) => {
                let code = code_name(status.code());
                let text = format!("rpc error: code = {code} desc = {}", status.message());
                recorder.failed(code, text, shared.count_errors.then_some(latency));
            }
        }
    }
    recorder
}

async fn connect(config: &Config) -> Result<Channel> {
    let scheme = if config.cacert.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", config.host))
        .with_context(|| format!("host: {:?}", config.host))?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true);
    if let Some(path) = &config.cacert {
        let pem = std::fs::read(path).with_context(|| format!("cacert: {}", path.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls)?;
    }
    endpoint.connect().await.with_context(|| format!("host: connecting to {}", config.host))
}
