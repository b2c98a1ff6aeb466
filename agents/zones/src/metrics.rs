//! What is counted.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::packet::Transport;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Ending {
    /// Records of ours were sent.
    Answered,
    /// The name is ours and has no such record.
    NoData,
    /// The name would be ours and isn't there.
    NoSuchName,
    /// Another resolver's answer was sent.
    Forwarded,
    /// No other resolver answered in time, or with an error: SERVFAIL.
    ForwardFailed,
    /// Too many questions were on their way to other resolvers: SERVFAIL.
    Overloaded,
    /// Not ours, and nobody else is asked: REFUSED.
    NotForwarded,
    /// Aliases of ours that go round: SERVFAIL.
    Failed,
    /// No DNS query: FORMERR, or silence when it is shorter than a header.
    Malformed,
    /// An operation, version or form of query that isn't served: NOTIMP, BADVERS.
    Unsupported,
    /// Another class than the internet's, a zone transfer or the like: REFUSED.
    Refused,
    /// More than the client's share of packets: silence.
    RateLimited,
    /// A reply, though nobody was asked: silence.
    Dropped,
}

impl Ending {
    const ALL: [Self; 13] = [
        Self::Answered,
        Self::NoData,
        Self::NoSuchName,
        Self::Forwarded,
        Self::ForwardFailed,
        Self::Overloaded,
        Self::NotForwarded,
        Self::Failed,
        Self::Malformed,
        Self::Unsupported,
        Self::Refused,
        Self::RateLimited,
        Self::Dropped,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum By {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    transport: By,
    outcome: Ending,
}

/// The resolvers' meters: one set for all VPCs of a host. Names and addresses are no labels.
#[derive(Clone, Debug)]
pub struct Metrics {
    queries: Family<QueryLabels, Counter>,
    // The same counters, so that counting a query takes no look-up.
    udp: [Counter; Ending::ALL.len()],
    tcp: [Counter; Ending::ALL.len()],
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) forwards: Gauge,
    pub(crate) forward_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let queries = Family::<QueryLabels, Counter>::default();
        let counters = |transport| {
            Ending::ALL
                .map(|outcome| queries.get_or_create(&QueryLabels { transport, outcome }).clone())
        };
        let (udp, tcp) = (counters(By::Udp), counters(By::Tcp));
        Self {
            queries,
            udp,
            tcp,
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            forwards: Gauge::default(),
            // From half a millisecond to eight seconds.
            forward_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
        }
    }
}

impl Metrics {
    /// Registers under the caller's prefix, as in `postern_agent_dns_queries_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("queries", "Packets taken in, by what became of them", {
            this.queries.clone()
        });
        registry.register(
            "connections_open",
            "TCP connections of DNS clients open now",
            this.connections.clone(),
        );
        registry.register(
            "connections_refused",
            "TCP connections closed at once because there were too many",
            this.connections_refused.clone(),
        );
        registry.register(
            "forwards_in_flight",
            "Questions on their way to other resolvers now",
            this.forwards.clone(),
        );
        registry.register(
            "forward_seconds",
            "How long other resolvers, or the cache of their answers, took",
            this.forward_seconds.clone(),
        );
        this
    }

    /// How many packets ended so.
    pub fn count(&self, transport: Transport, ending: Ending) -> u64 {
        self.counter(transport, ending).get()
    }

    pub(crate) fn ended(&self, transport: Transport, ending: Ending) {
        self.counter(transport, ending).inc();
    }

    fn counter(&self, transport: Transport, ending: Ending) -> &Counter {
        // The list has the order of the type, which a test holds.
        match transport {
            Transport::Udp => &self.udp[ending as usize],
            Transport::Tcp => &self.tcp[ending as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_counted_under_its_own_label() {
        for (at, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, at, "{ending:?}");
        }
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.ended(Transport::Tcp, Ending::NoSuchName);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"queries_total{transport="Tcp",outcome="NoSuchName"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"queries_total{transport="Udp",outcome="Answered"} 0"#), "{text}");
    }
}
