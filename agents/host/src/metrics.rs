//! The agent's own meters; those of the datapath and of the resolvers are registered beside them.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the agent counts of itself.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The generation in effect.
    pub generation: Gauge<i64, AtomicI64>,
    /// Whether the stream to the control plane is open: 1 or 0.
    pub connected: Gauge<i64, AtomicI64>,
    /// Interfaces that are bound.
    pub interfaces_bound: Gauge<i64, AtomicI64>,
    /// Interfaces that could not be bound.
    pub interfaces_failed: Gauge<i64, AtomicI64>,
    /// Objects looked at to apply states: a change of one is a few, whatever the host holds.
    pub objects_touched: Counter,
    /// States offered that were taken.
    pub offers_applied: Counter,
    /// States offered that were refused.
    pub offers_refused: Counter,
}

impl Metrics {
    /// Registers the meters as `postern_agent_generation` and so on.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let registry = registry.sub_registry_with_prefix("postern_agent");
        registry.register("generation", "The generation in effect", this.generation.clone());
        registry.register(
            "connected",
            "Whether the stream to the control plane is open",
            this.connected.clone(),
        );
        registry.register(
            "interfaces_bound",
            "Interfaces that are bound",
            this.interfaces_bound.clone(),
        );
        registry.register(
            "interfaces_failed",
            "Interfaces that could not be bound",
            this.interfaces_failed.clone(),
        );
        registry.register(
            "objects_touched",
            "Objects looked at to apply states",
            this.objects_touched.clone(),
        );
        registry.register("offers_applied", "Desired states taken", this.offers_applied.clone());
        registry.register("offers_refused", "Desired states refused", this.offers_refused.clone());
        this
    }
}
