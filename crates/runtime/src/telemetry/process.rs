//! What the process uses: memory, descriptors, threads, time since the start.
//!
//! The figures come from `/proc/self` when they are asked for. Where a file cannot be read, its figure
//! is left out rather than shown as zero.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

/// When this process first asked, which is at its start.
pub(crate) struct Started {
    at: SystemTime,
    since: Instant,
}

impl Started {
    pub(crate) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn at(&self) -> SystemTime {
        self.at
    }

    fn epoch_seconds(&self) -> f64 {
        self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

pub(crate) fn started() -> &'static Started {
    static STARTED: OnceLock<Started> = OnceLock::new();
    STARTED.get_or_init(|| Started { at: SystemTime::now(), since: Instant::now() })
}

/// A value in `/proc/self/status`, such as `VmRSS` (kB) or `Threads`.
fn status(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    status("VmRSS").map(|kilobytes| kilobytes * 1024)
}

fn threads() -> Option<u64> {
    status("Threads")
}

fn open_descriptors() -> Option<u64> {
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64)
}

type Read = fn() -> Option<u64>;

/// Name, help, and where the figure is from.
const GAUGES: [(&str, &str, Read); 3] = [
    ("process_resident_memory_bytes", "Memory in use by the process, in bytes", resident_bytes),
    ("process_threads", "Threads of the process", threads),
    ("process_open_fds", "File descriptors open now", open_descriptors),
];

/// The process's figures in a Prometheus registry.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            let metric =
                encoder.encode_descriptor(name, help, None, EncodeMetric::metric_type(&gauge))?;
            gauge.encode(metric)
        };
        let began = started().epoch_seconds();
        gauge("process_start_time_seconds", "When the process started, since 1970", began)?;
        for (name, help, read) in GAUGES {
            if let Some(value) = read() {
                gauge(name, help, value as f64)?;
            }
        }
        Ok(())
    }
}
