//! What the dispatcher counts. Labels are closed sets; ids and addresses are for spans.

use std::time::Duration;

use postern_runtime::admin::Admin;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::deliver::Verdict;
use crate::store::deliveries::DeliveryState;

/// Labels of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    protocol: &'static str,
    result: &'static str,
}

/// Labels of something that ends in one of a few ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Deliveries and their attempts.
#[derive(Clone, Debug)]
pub struct DeliveryMetrics {
    attempts: Family<AttemptLabels, Counter>,
    ended: Family<ResultLabels, Counter>,
    duration: Histogram,
    disabled: Counter,
    open_circuits: Gauge,
    under_way: Gauge,
}

impl DeliveryMetrics {
    /// Registers them with the process's others.
    pub fn register(admin: &Admin) -> Self {
        let this = Self {
            attempts: Family::default(),
            ended: Family::default(),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            disabled: Counter::default(),
            open_circuits: Gauge::default(),
            under_way: Gauge::default(),
        };
        admin.register(|registry| {
            registry.register(
                "postern_dispatcher_delivery_attempts",
                "Attempts at deliveries, by protocol and result",
                this.attempts.clone(),
            );
            registry.register(
                "postern_dispatcher_deliveries_settled",
                "Results of attempts as recorded: delivered, pending (will be retried), dead-lettered",
                this.ended.clone(),
            );
            registry.register(
                "postern_dispatcher_delivery_attempt_seconds",
                "How long attempts took, in seconds",
                this.duration.clone(),
            );
            registry.register(
                "postern_dispatcher_subscriptions_disabled",
                "Subscriptions disabled because their endpoints failed for long",
                this.disabled.clone(),
            );
            registry.register(
                "postern_dispatcher_circuits_open",
                "Targets that get nothing but probes, since they don't answer",
                this.open_circuits.clone(),
            );
            registry.register(
                "postern_dispatcher_attempts_under_way",
                "Attempts under way",
                this.under_way.clone(),
            );
        });
        this
    }

    /// Counts an attempt.
    pub(crate) fn attempt(&self, protocol: &str, verdict: Verdict, took: Duration) {
        let protocol = ["http", "https", "email", "email-json"]
            .into_iter()
            .find(|known| *known == protocol)
            .unwrap_or("other");
        let result = match verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry => "failed",
            Verdict::Permanent => "refused",
        };
        self.attempts.get_or_create(&AttemptLabels { protocol, result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a subscription that is disabled.
    pub(crate) fn disabled(&self) {
        self.disabled.inc();
    }

    /// Shows what is under way.
    pub(crate) fn shows(&self, under_way: usize, open_circuits: usize) {
        self.under_way.set(i64::try_from(under_way).unwrap_or(i64::MAX));
        self.open_circuits.set(i64::try_from(open_circuits).unwrap_or(i64::MAX));
    }

    /// Counts what became of a delivery.
    pub(crate) fn ended(&self, state: DeliveryState) {
        self.ended.get_or_create(&ResultLabels { result: state.as_str() }).inc();
    }
}

/// Events from the bus.
#[derive(Clone, Debug, Default)]
pub struct ConsumeMetrics {
    events: Family<ResultLabels, Counter>,
    publishes: Family<ResultLabels, Counter>,
}

impl ConsumeMetrics {
    /// Registers them with the process's others.
    pub fn register(admin: &Admin) -> Self {
        let this = Self::default();
        admin.register(|registry| {
            registry.register(
                "postern_dispatcher_events",
                "Events from the bus: taken, repeated, malformed",
                this.events.clone(),
            );
            registry.register(
                "postern_dispatcher_event_publishes",
                "Events published to topics: allowed, denied",
                this.publishes.clone(),
            );
        });
        this
    }

    /// Counts an event.
    pub(crate) fn event(&self, result: &'static str) {
        self.events.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts a publish to a topic.
    pub(crate) fn publish(&self, allowed: bool) {
        let result = if allowed { "allowed" } else { "denied" };
        self.publishes.get_or_create(&ResultLabels { result }).inc();
    }
}
