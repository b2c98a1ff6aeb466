//! The data plane's meters. Labels are closed enums: an id or an address goes into the log instead. The
//! one exception is what the kernel drops, of which there is no log: it is counted for each interface
//! that the host has.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::interface::Interface;

macro_rules! label {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every one that there is.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// How it is written in a label or a log.
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label! {
    /// How a flow ended.
    pub Ending {
        /// Both peers were done and said so.
        Closed = "closed",
        /// The client reset it.
        ResetByClient = "reset_by_client",
        /// The target reset it.
        ResetByTarget = "reset_by_target",
        /// No byte passed for the idle timeout.
        Idle = "idle",
        /// No target could be connected to.
        ConnectFailed = "connect_failed",
        /// It was cut because it may no longer be: endpoint rejected, deleted, or moved away.
        Policy = "policy",
        /// It was cut because the process ends.
        Shutdown = "shutdown",
        /// The kernel gave up on it, or had no resources for it.
        Error = "error",
    }
}

label! {
    /// Why an accepted connection was reset before it became a flow.
    pub RefusedReason {
        /// The rules changed after the kernel had let it in.
        Filtered = "filtered",
        /// The interface stopped serving after the kernel had let it in.
        NotServing = "not_serving",
        /// The interface has as many flows as it may have.
        InterfaceFull = "interface_full",
        /// The process has as many flows as it may have.
        ProcessFull = "process_full",
        /// The kernel had no resources for it.
        Error = "error",
    }
}

label! {
    /// Why one attempt to connect to a target failed.
    pub ConnectFailure {
        /// The target answered with a reset.
        Refused = "refused",
        /// The target did not answer in time.
        TimedOut = "timed_out",
        /// There is no way to the target.
        Unreachable = "unreachable",
        /// The service has no target at this port.
        NoTarget = "no_target",
        /// Anything else, such as no source port left.
        Other = "other",
    }
}

label! {
    /// Which way bytes went.
    pub(crate) Direction {
        /// From the client to the target.
        In = "in",
        /// From the target to the client.
        Out = "out",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: RefusedReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    reason: ConnectFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Passed {
    direction: Direction,
}

/// What the kernel dropped at each interface, read when it is asked for.
#[derive(Clone, Debug, Default)]
struct Dropped(Arc<Mutex<Vec<Weak<Interface>>>>);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let interfaces: Vec<_> = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|interface| interface.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let mut family = encoder.encode_descriptor(
            "packets_dropped",
            "Packets dropped at an interface's ports: attempts to connect that no rule allows, and \
             those that found the accept queue full",
            None,
            MetricType::Counter,
        )?;
        for interface in interfaces {
            let labels = [("interface", interface.id.to_string())];
            let count = ConstCounter::new(interface.dropped());
            count.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The meters of a [`Datapath`](crate::Datapath), over all its interfaces. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: Gauge,
    accepted: Counter,
    ended: Family<Ended, Counter>,
    refused: Family<Refused, Counter>,
    connect_failures: Family<Failed, Counter>,
    bytes: Family<Passed, Counter>,
    accept_pauses: Counter,
    dropped: Dropped,
    // The two that are counted for every move, so that no map is looked up for them.
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let bytes: Family<Passed, Counter> = Family::default();
        let of = |direction| bytes.get_or_create(&Passed { direction }).clone();
        let (bytes_in, bytes_out) = (of(Direction::In), of(Direction::Out));
        let this = Self {
            open: Gauge::default(),
            accepted: Counter::default(),
            ended: Family::default(),
            refused: Family::default(),
            connect_failures: Family::default(),
            bytes,
            accept_pauses: Counter::default(),
            dropped: Dropped::default(),
            bytes_in,
            bytes_out,
        };
        // Every series exists from the start, so that a rate over the first event is right.
        for direction in Direction::ALL {
            drop(this.bytes.get_or_create(&Passed { direction: *direction }));
        }
        for ending in Ending::ALL {
            drop(this.ended.get_or_create(&Ended { ending: *ending }));
        }
        for reason in RefusedReason::ALL {
            drop(this.refused.get_or_create(&Refused { reason: *reason }));
        }
        for reason in ConnectFailure::ALL {
            drop(this.connect_failures.get_or_create(&Failed { reason: *reason }));
        }
        this
    }
}

impl Metrics {
    /// Registers under the caller's prefix, as in `postern_agent_forward_connections_open`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("connections_open", "Connections open now", this.open.clone());
        registry.register(
            "connections_accepted",
            "Connections accepted and forwarded, or tried to",
            this.accepted.clone(),
        );
        registry.register("connections_ended", "Connections ended, by how", this.ended.clone());
        registry.register(
            "connections_refused",
            "Connections reset right after they were accepted, by reason",
            this.refused.clone(),
        );
        registry.register(
            "connect_failures",
            "Attempts to connect to a target that failed, by reason",
            this.connect_failures.clone(),
        );
        registry.register_with_unit(
            "passed",
            "Bytes passed on, by direction; in is from client to target",
            Unit::Bytes,
            this.bytes.clone(),
        );
        registry.register(
            "accept_pauses",
            "Times that a worker stopped accepting because the process was out of files or memory",
            this.accept_pauses.clone(),
        );
        registry.register_collector(Box::new(this.dropped.clone()));
        this
    }

    /// Counts what the kernel drops at an interface, for as long as it is there.
    pub(crate) fn watch(&self, interface: &Arc<Interface>) {
        let mut all = self.dropped.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::downgrade(interface));
    }

    pub(crate) fn opened(&self) {
        self.open.inc();
        self.accepted.inc();
    }

    pub(crate) fn ended(&self, ending: Ending) {
        self.open.dec();
        self.ended.get_or_create(&Ended { ending }).inc();
    }

    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    pub(crate) fn connect_failed(&self, reason: ConnectFailure) {
        self.connect_failures.get_or_create(&Failed { reason }).inc();
    }

    pub(crate) fn passed(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::In => self.bytes_in.inc_by(bytes),
            Direction::Out => self.bytes_out.inc_by(bytes),
        };
    }

    pub(crate) fn accept_paused(&self) {
        self.accept_pauses.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_appears_in_the_text_under_its_label() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(registry.sub_registry_with_prefix("postern_agent_forward"));
        metrics.opened();
        metrics.ended(Ending::Policy);
        metrics.passed(Direction::Out, 42);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "postern_agent_forward_connections_open 0",
            "postern_agent_forward_connections_ended_total{ending=\"policy\"} 1",
            "postern_agent_forward_connections_ended_total{ending=\"shutdown\"} 0",
            "postern_agent_forward_passed_bytes_total{direction=\"out\"} 42",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
