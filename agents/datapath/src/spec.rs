//! What the data plane is told: its configuration, and the description of an interface.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use postern_model::field::InvalidField;
use postern_model::id::{EndpointId, NetworkInterfaceId};
use postern_model::security::IngressRule;

use crate::filter::FilterTooLarge;
use crate::metrics::Metrics;

/// Listeners that one interface may have: as many as a balancer has (spec 5.1).
const MOST_LISTENERS: usize = 50;
/// Targets that one listener may have.
const MOST_TARGETS: usize = 1_000;
/// Rules that one interface may have (spec 4.4: groups per interface times rules per group).
const MOST_RULES: usize = 1_000;
/// The longest idle timeout (spec 5.5).
const LONGEST_IDLE: Duration = Duration::from_secs(6_000);

/// How the data plane runs; the same for all interfaces.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many workers, each a thread; none given means one for each core.
    pub workers: Option<NonZeroUsize>,
    /// How long one target may take to answer a connection attempt (spec 5.5: 5 s).
    pub connect_timeout: Duration,
    /// How many flows one interface may have open. One more is reset.
    pub flows_per_interface: u32,
    /// How many flows there may be in all; none given means as many as the process's limit of open
    /// files has room for (two files each, and some to spare). One more is reset.
    pub flows: Option<u32>,
    /// The meters, which the caller has registered.
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: None,
            connect_timeout: Duration::from_secs(5),
            // As many as a balancer's node holds towards one target (spec 5.4).
            flows_per_interface: 55_000,
            flows: None,
            metrics: Metrics::default(),
        }
    }
}

/// Where a socket is opened (design 8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the network namespace that the data plane was started in.
    Host,
    /// In the network namespace bound to this path, such as `/run/netns/vpc-1`. Needs `CAP_SYS_ADMIN`.
    Namespace(PathBuf),
}

/// One port of an interface, and who answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The TCP port; not 0.
    pub port: u16,
    /// Where connections go. With none, a connection is accepted and reset.
    pub targets: Vec<SocketAddrV4>,
}

/// An interface as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// The endpoint that it belongs to; told to targets in the PROXY header.
    pub endpoint_id: EndpointId,
    /// The interface's address; must be there already, the data plane adds none.
    pub address: Ipv4Addr,
    /// Where the address is.
    pub place: Place,
    /// The ports.
    pub listeners: Vec<Listener>,
    /// Who may connect (spec 4.2). With no rule, nobody.
    pub ingress: Vec<IngressRule>,
    /// Whether connections are taken. If not, the kernel answers a SYN with RST, and flows that are
    /// open are reset.
    pub serving: bool,
    /// After how long without a byte a flow is reset on both sides (spec 5.5: 350 s).
    pub idle_timeout: Duration,
    /// Whether targets get a PROXY protocol v2 header first (spec 5.4).
    pub proxy_protocol: bool,
    /// Where targets are reached from.
    pub target_place: Place,
    /// The address that targets see; none given leaves it to the routing table.
    pub target_source: Option<Ipv4Addr>,
}

impl InterfaceSpec {
    /// Checks what the types do not.
    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        let refuse = |field: &str, reason: String| Err(InvalidField::new(field, reason));
        if self.address.is_unspecified()
            || self.address.is_multicast()
            || self.address.is_broadcast()
        {
            return refuse("address", format!("{} is no interface's address", self.address));
        }
        if self.listeners.len() > MOST_LISTENERS {
            let reason = format!("{} ports, at most {MOST_LISTENERS}", self.listeners.len());
            return refuse("listeners", reason);
        }
        if self.ingress.len() > MOST_RULES {
            let reason = format!("{} rules, at most {MOST_RULES}", self.ingress.len());
            return refuse("ingress", reason);
        }
        if self.idle_timeout.is_zero() || self.idle_timeout > LONGEST_IDLE {
            let reason = format!("{:?} is not within 1 ms and 6000 s", self.idle_timeout);
            return refuse("idle_timeout", reason);
        }
        let mut ports = BTreeSet::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            if listener.port == 0 || !ports.insert(listener.port) {
                let reason = format!("port {} is 0 or given twice", listener.port);
                return refuse(&format!("listeners[{index}].port"), reason);
            }
            if listener.targets.len() > MOST_TARGETS {
                let reason = format!("{} targets, at most {MOST_TARGETS}", listener.targets.len());
                return refuse(&format!("listeners[{index}].targets"), reason);
            }
            let unusable =
                |target: &SocketAddrV4| target.port() == 0 || target.ip().is_unspecified();
            if let Some(at) = listener.targets.iter().position(unusable) {
                let reason = format!("{} cannot be connected to", listener.targets[at]);
                return refuse(&format!("listeners[{index}].targets[{at}]"), reason);
            }
        }
        Ok(())
    }
}

/// What is really there after an interface was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The address, which exists in its place.
    pub address: Ipv4Addr,
    /// The ports that are listened on, ascending; none while not serving.
    pub ports: Vec<u16>,
}

/// Why an interface could not be applied. What was applied before is still in force.
#[derive(Debug, thiserror::Error)]
pub enum BindFailure {
    /// The description makes no sense.
    #[error("the description of the interface is invalid")]
    Invalid(#[source] InvalidField),
    /// The address is not there.
    #[error("{address} is not an address of {place:?}")]
    NoSuchAddress {
        /// The address.
        address: Ipv4Addr,
        /// Where it was looked for.
        place: Place,
    },
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    InUse(SocketAddrV4),
    /// The process may not do this.
    #[error("the agent may not {what}")]
    NotPermitted {
        /// What it tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace cannot be entered.
    #[error("the network namespace {path} cannot be entered")]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The rules do not fit a kernel filter.
    #[error("the security-group rules of port {port} do not fit the kernel's filter")]
    Filter {
        /// The port.
        port: u16,
        /// By how much.
        #[source]
        source: FilterTooLarge,
    },
    /// The data plane is shutting down.
    #[error("the data plane is shutting down")]
    ShuttingDown,
    /// Anything else that the kernel refused.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Why an interface's flows are cut when it is removed; decides how their end is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// The endpoint was deleted or rejected, or its interface moved to another host.
    Policy,
    /// The process ends.
    Shutdown,
}
