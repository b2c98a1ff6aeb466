//! What a run took, in ghz's figures.

use crate::config::Config;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// More different errors than this are counted together: a server that puts an id into each message
/// would fill the report.
const DIFFERENT_ERRORS: usize = 30;

/// The percentages of the latency distribution.
const PERCENTAGES: [u32; 7] = [10, 25, 50, 75, 90, 95, 99];

/// How many bars the histogram has above the fastest call, and how wide the longest is.
const BARS: u64 = 10;
const BAR_WIDTH: u64 = 40;

/// What one worker has seen.
#[derive(Debug)]
pub struct Recorder {
    count: u64,
    sum: Duration,
    fastest: Option<Duration>,
    slowest: Duration,
    /// In nanoseconds, three digits exact. It grows with what it is given, so that a worker takes little.
    latencies: Histogram<u32>,
    statuses: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let mut latencies =
            Histogram::new(3).unwrap_or_else(|_| unreachable!("0 to 5 digits are allowed"));
        latencies.auto(true);
        Self {
            count: 0,
            sum: Duration::ZERO,
            fastest: None,
            slowest: Duration::ZERO,
            latencies,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }
}

impl Recorder {
    /// A call that was answered.
    pub fn ok(&mut self, latency: Duration) {
        self.count += 1;
        *self.statuses.entry("OK".to_owned()).or_default() += 1;
        self.timed(latency);
    }

    /// A call that failed; with a latency when failures count in those.
    pub fn failed(&mut self, code: String, text: String, latency: Option<Duration>) {
        self.count += 1;
        *self.statuses.entry(code).or_default() += 1;
        self.error(text, 1);
        if let Some(latency) = latency {
            self.timed(latency);
        }
    }

    fn error(&mut self, text: String, count: u64) {
        let is_one_more = self.errors.len() >= DIFFERENT_ERRORS && !self.errors.contains_key(&text);
        let text = if is_one_more { "(others)".to_owned() } else { text };
        *self.errors.entry(text).or_default() += count;
    }

    fn timed(&mut self, latency: Duration) {
        self.sum += latency;
        self.fastest = Some(self.fastest.map_or(latency, |fastest| fastest.min(latency)));
        self.slowest = self.slowest.max(latency);
        // It resizes, so only an allocation could fail.
        let _ = self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds what another worker has seen.
    pub fn add(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.slowest = self.slowest.max(other.slowest);
        self.fastest = match (self.fastest, other.fastest) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        let _ = self.latencies.add(other.latencies);
        for (code, count) in other.statuses {
            *self.statuses.entry(code).or_default() += count;
        }
        for (text, count) in other.errors {
            self.error(text, count);
        }
    }
}

/// The report of a run. `Display` writes ghz's summary.
#[derive(Debug)]
pub struct Report {
    name: Option<String>,
    call: String,
    total: Duration,
    seen: Recorder,
}

impl Report {
    pub(crate) fn new(config: &Config, seen: Recorder, total: Duration) -> Self {
        let call = format!("{}/{}", config.service, config.method);
        Self { name: config.name.clone(), call, total, seen }
    }

    /// How many calls were made.
    pub fn count(&self) -> u64 {
        self.seen.count
    }

    /// Calls a second, over the whole run.
    pub fn rps(&self) -> f64 {
        self.seen.count as f64 / self.total.as_secs_f64().max(f64::EPSILON)
    }

    /// Whether every call was answered, and there was one.
    pub fn all_ok(&self) -> bool {
        self.seen.count > 0 && self.seen.errors.is_empty()
    }

    /// How many calls ended with each status, by the names that ghz gives them.
    pub fn statuses(&self) -> &BTreeMap<String, u64> {
        &self.seen.statuses
    }

    /// The latency that `percentage` percent of the calls did not exceed.
    pub fn latency(&self, percentage: u32) -> Duration {
        let value = self.seen.latencies.value_at_percentile(f64::from(percentage));
        // A bucket's upper end may lie above the slowest call, which is known exactly.
        Duration::from_nanos(value).min(self.seen.slowest)
    }

    /// The mean latency.
    pub fn average(&self) -> Duration {
        let timed = self.seen.latencies.len();
        if timed == 0 { Duration::ZERO } else { self.seen.sum.div_f64(timed as f64) }
    }

    fn fastest(&self) -> Duration {
        self.seen.fastest.unwrap_or_default()
    }

    /// The histogram: the upper end of each bar and how many calls are in it.
    fn bars(&self) -> Vec<(Duration, u64)> {
        let (low, high) = (self.fastest(), self.seen.slowest);
        if self.seen.latencies.is_empty() {
            return Vec::new();
        }
        let step = (high - low).div_f64(BARS as f64);
        let mut below = 0;
        (0..=BARS)
            .map(|bar| {
                let mark = if bar == BARS { high } else { low + step.mul_f64(bar as f64) };
                let nanos = u64::try_from(mark.as_nanos()).unwrap_or(u64::MAX);
                let upto = if bar == BARS {
                    self.seen.latencies.len()
                } else {
                    self.seen.latencies.count_between(0, nanos)
                };
                let count = upto.saturating_sub(below);
                below = upto.max(below);
                (mark, count)
            })
            .collect()
    }

    /// The report with the keys of ghz's JSON. Times are in nanoseconds.
    pub fn json(&self) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let timed = self.seen.latencies.len().max(1) as f64;
        json!({
            "name": self.name,
            "options": { "call": self.call },
            "count": self.seen.count,
            "total": nanos(self.total),
            "average": nanos(self.average()),
            "fastest": nanos(self.fastest()),
            "slowest": nanos(self.seen.slowest),
            "rps": self.rps(),
            "statusCodeDistribution": self.seen.statuses,
            "errorDistribution": self.seen.errors,
            "latencyDistribution": PERCENTAGES.map(|percentage| json!({
                "percentage": percentage,
                "latency": nanos(self.latency(percentage)),
            })),
            "histogram": self.bars().into_iter().map(|(mark, count)| json!({
                "mark": mark.as_secs_f64(),
                "count": count,
                "frequency": count as f64 / timed,
            })).collect::<Vec<_>>(),
        })
    }
}

/// A time in milliseconds, as ghz writes it.
fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSummary:")?;
        if let Some(name) = &self.name {
            writeln!(f, "  Name:\t\t{name}")?;
        }
        writeln!(f, "  Count:\t{}", self.seen.count)?;
        writeln!(f, "  Total:\t{:.2} s", self.total.as_secs_f64())?;
        writeln!(f, "  Slowest:\t{}", ms(self.seen.slowest))?;
        writeln!(f, "  Fastest:\t{}", ms(self.fastest()))?;
        writeln!(f, "  Average:\t{}", ms(self.average()))?;
        writeln!(f, "  Requests/sec:\t{:.2}", self.rps())?;
        writeln!(f, "\nResponse time histogram:")?;
        let bars = self.bars();
        let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        for (mark, count) in bars {
            let width = usize::try_from(count * BAR_WIDTH / most).unwrap_or(0);
            let line =
                format!("  {:.3} [{count}]\t|{}", mark.as_secs_f64() * 1e3, "∎".repeat(width));
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\nLatency distribution:")?;
        for percentage in PERCENTAGES {
            writeln!(f, "  {percentage} % in {}", ms(self.latency(percentage)))?;
        }
        writeln!(f, "\nStatus code distribution:")?;
        for (code, count) in &self.seen.statuses {
            writeln!(f, "  [{code}]   {count} responses")?;
        }
        if !self.seen.errors.is_empty() {
            writeln!(f, "\nError distribution:")?;
            for (text, count) in &self.seen.errors {
                writeln!(f, "  [{count}]   {text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_two_workers_are_those_of_one_run() {
        let (mut one, mut two) = (Recorder::default(), Recorder::default());
        for ms in 1..=50 {
            one.ok(Duration::from_millis(ms));
            two.ok(Duration::from_millis(50 + ms));
        }
        two.failed("NotFound".to_owned(), "gone".to_owned(), None);
        one.add(two);
        let total = Duration::from_secs(2);
        let report = Report { name: None, call: "S/M".to_owned(), total, seen: one };
        assert_eq!((report.count(), report.rps(), report.all_ok()), (101, 50.5, false));
        assert_eq!(report.average(), Duration::from_micros(50_500));
        let p90 = report.latency(90).as_secs_f64();
        assert!((p90 - 0.090).abs() < 0.001, "{p90}");
        let bars = report.bars();
        assert_eq!(bars.iter().map(|(_, count)| count).sum::<u64>(), 100, "{bars:?}");
        assert_eq!(bars.last().unwrap().0, Duration::from_millis(100));
        let text = report.to_string();
        assert!(text.contains("[NotFound]   1 responses"), "{text}");
        assert!(text.contains("Requests/sec:\t50.50"), "{text}");
    }
}
