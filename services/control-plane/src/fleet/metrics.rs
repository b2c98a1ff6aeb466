//! What is counted of the fleet.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds from an offer to its answer: binding one address takes milliseconds, a whole host seconds.
const BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

/// What a host was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Offer {
    Snapshot,
    Delta,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfferLabel {
    pub(super) offer: Offer,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Ending {
    /// The agent closed it, or its connection broke.
    Agent,
    /// A newer stream of the host took over.
    Replaced,
    /// This replica is stopping.
    Stopping,
    /// The host was removed.
    Removed,
    /// The agent broke the protocol or its limits.
    Protocol,
    /// The agent did not answer in time.
    Silent,
    /// The database was away.
    Database,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EndingLabel {
    pub(super) ending: Ending,
}

/// The fleet's meters.
#[derive(Clone, Debug)]
pub struct FleetMetrics {
    pub(super) streams: Gauge,
    pub(super) ended: Family<EndingLabel, Counter>,
    pub(super) offers: Family<OfferLabel, Counter>,
    pub(super) refusals: Counter,
    pub(super) answer_seconds: Histogram,
    pub(super) enrolments: Counter,
    pub(super) enrolments_refused: Counter,
}

impl FleetMetrics {
    /// Registers under the caller's prefix, as in `postern_control_plane_fleet_streams_open`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self {
            streams: Gauge::default(),
            ended: Family::default(),
            offers: Family::default(),
            refusals: Counter::default(),
            answer_seconds: Histogram::new(BUCKETS),
            enrolments: Counter::default(),
            enrolments_refused: Counter::default(),
        };
        let streams = this.streams.clone();
        registry.register("streams_open", "Streams of agents that are open", streams);
        registry.register("streams_ended", "Streams of agents that ended", this.ended.clone());
        registry.register("offers", "States and changes offered to hosts", this.offers.clone());
        let refusals = this.refusals.clone();
        registry.register("offers_refused", "Offers that agents refused", refusals);
        registry.register(
            "answer_seconds",
            "Time from an offer to the agent's answer",
            this.answer_seconds.clone(),
        );
        registry.register("enrolments", "Certificates given out", this.enrolments.clone());
        registry.register(
            "enrolments_refused",
            "Requests for a certificate that were refused",
            this.enrolments_refused.clone(),
        );
        this
    }
}
