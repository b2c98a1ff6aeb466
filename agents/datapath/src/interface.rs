//! An interface as the workers see it: what applies to it now, and what it has counted.
//!
//! The [`Policy`] is immutable and swapped whole; a worker takes the current one for each connection
//! that it accepts. The counters live as long as the interface, over all its policies.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use postern_model::id::{EndpointId, NetworkInterfaceId};

use crate::filter::SourceSet;
use crate::listener::Listening;
use crate::metrics::{ConnectFailure, Direction, Ending, RefusedReason};
use crate::spec::InterfaceSpec;
use crate::sys::{self, Namespace};

/// What applies to the connections of one interface.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) serving: bool,
    pub(crate) ports: BTreeMap<u16, PortPolicy>,
    pub(crate) proxy_protocol: bool,
    pub(crate) target_namespace: Arc<Namespace>,
    pub(crate) target_source: Option<Ipv4Addr>,
}

/// What applies to one port.
#[derive(Debug)]
pub(crate) struct PortPolicy {
    pub(crate) targets: Vec<SocketAddrV4>,
    pub(crate) sources: SourceSet,
}

impl Policy {
    pub(crate) fn of(spec: &InterfaceSpec, target_namespace: Arc<Namespace>) -> Self {
        let port = |listener: &crate::spec::Listener| {
            let sources = SourceSet::of(&spec.ingress, listener.port);
            (listener.port, PortPolicy { targets: listener.targets.clone(), sources })
        };
        Self {
            serving: spec.serving,
            ports: spec.listeners.iter().map(port).collect(),
            proxy_protocol: spec.proxy_protocol,
            target_namespace,
            target_source: spec.target_source,
        }
    }
}

/// An interface: who it is, what applies, what it counted.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) id: NetworkInterfaceId,
    pub(crate) endpoint: EndpointId,
    pub(crate) address: Ipv4Addr,
    policy: RwLock<Arc<Policy>>,
    idle_millis: AtomicU64,
    open: AtomicU32,
    accepted: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    ended: [AtomicU64; Ending::ALL.len()],
    refused: [AtomicU64; RefusedReason::ALL.len()],
    failures: Mutex<BTreeMap<SocketAddrV4, TargetFailures>>,
    no_target: AtomicU64,
    drops: Mutex<Drops>,
    /// When the last warning was written, in milliseconds, so that a dead target under load does not
    /// fill the log.
    warned: AtomicU64,
}

impl Interface {
    pub(crate) fn new(spec: &InterfaceSpec, policy: Policy) -> Self {
        Self {
            id: spec.id,
            endpoint: spec.endpoint_id,
            address: spec.address,
            policy: RwLock::new(Arc::new(policy)),
            idle_millis: AtomicU64::new(millis(spec)),
            open: AtomicU32::new(0),
            accepted: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            ended: Default::default(),
            refused: Default::default(),
            failures: Mutex::default(),
            no_target: AtomicU64::new(0),
            drops: Mutex::default(),
            warned: AtomicU64::new(0),
        }
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `policy` apply from now on; forgets the failures of targets that are gone.
    pub(crate) fn set_policy(&self, spec: &InterfaceSpec, policy: Policy) {
        self.idle_millis.store(millis(spec), Relaxed);
        let still = |target: &SocketAddrV4| {
            spec.listeners.iter().any(|listener| listener.targets.contains(target))
        };
        self.failures().retain(|target, _| still(target));
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Lets nothing in from now on, whatever comes out of the accept queue.
    pub(crate) fn stop_serving(&self) {
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let target_namespace = Arc::clone(&policy.target_namespace);
        *policy = Arc::new(Policy {
            serving: false,
            ports: BTreeMap::new(),
            proxy_protocol: false,
            target_namespace,
            target_source: None,
        });
    }

    /// After how many milliseconds without a byte a flow is over.
    pub(crate) fn idle_millis(&self) -> u64 {
        self.idle_millis.load(Relaxed)
    }

    /// Counts a flow in, unless there are `most` already.
    pub(crate) fn admit(&self, most: u32) -> bool {
        let admitted = self
            .open
            .fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1))
            .is_ok();
        if admitted {
            self.accepted.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Takes back what [`Self::admit`] counted.
    pub(crate) fn withdraw(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.accepted.fetch_sub(1, Relaxed);
    }

    pub(crate) fn ended(&self, ending: Ending) {
        self.open.fetch_sub(1, Relaxed);
        self.ended[ending as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn passed(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::In => self.bytes_in.fetch_add(bytes, Relaxed),
            Direction::Out => self.bytes_out.fetch_add(bytes, Relaxed),
        };
    }

    /// Notes that `target` could not be connected to; `None` where there was no target at all.
    pub(crate) fn connect_failed(
        &self,
        target: Option<SocketAddrV4>,
        reason: ConnectFailure,
        error: &str,
    ) {
        let Some(target) = target else {
            self.no_target.fetch_add(1, Relaxed);
            return;
        };
        let mut failures = self.failures();
        let entry = failures.entry(target).or_insert_with(|| TargetFailures {
            target,
            count: 0,
            last_reason: reason,
            last_error: String::new(),
        });
        entry.count += 1;
        entry.last_reason = reason;
        error.clone_into(&mut entry.last_error);
    }

    /// Notes a listening socket, whose dropped packets count from now on.
    pub(crate) fn listens(&self, listening: &Arc<Listening>) {
        let at = Watched { listening: Arc::downgrade(listening), seen: 0 };
        self.drops.lock().unwrap_or_else(PoisonError::into_inner).at.push(at);
    }

    /// Packets that the kernel has dropped at the listening sockets, those that are closed included as
    /// far as they were looked at.
    pub(crate) fn dropped(&self) -> u64 {
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let Drops { total, at } = &mut *drops;
        at.retain_mut(|watched| {
            let Some(listening) = watched.listening.upgrade() else { return false };
            if let Ok(now) = sys::drops(&listening.socket) {
                // The kernel's count wraps.
                *total += u64::from(now.wrapping_sub(watched.seen));
                watched.seen = now;
            }
            true
        });
        *total
    }

    /// Whether a warning is due: one a second, at most.
    pub(crate) fn may_warn(&self, now: u64) -> bool {
        let last = self.warned.load(Relaxed);
        let due = last == 0 || now >= last + 1_000;
        due && self.warned.compare_exchange(last, now.max(1), Relaxed, Relaxed).is_ok()
    }

    pub(crate) fn usage(&self) -> InterfaceUsage {
        let count = |counters: &[AtomicU64], at: usize| counters[at].load(Relaxed);
        InterfaceUsage {
            id: self.id,
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            open: self.open.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            ended: Ending::ALL.iter().map(|e| (*e, count(&self.ended, *e as usize))).collect(),
            refused: RefusedReason::ALL
                .iter()
                .map(|reason| (*reason, count(&self.refused, *reason as usize)))
                .collect(),
            without_target: self.no_target.load(Relaxed),
            dropped: self.dropped(),
            failures: self.failures().values().cloned().collect(),
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddrV4, TargetFailures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel has dropped.
#[derive(Debug, Default)]
struct Drops {
    total: u64,
    at: Vec<Watched>,
}

/// A listening socket, and its count when it was last looked at.
#[derive(Debug)]
struct Watched {
    listening: Weak<Listening>,
    seen: u32,
}

fn millis(spec: &InterfaceSpec) -> u64 {
    // At least one: a timer of none would end a flow before its first byte.
    u64::try_from(spec.idle_timeout.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What an interface has counted since it was first applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Bytes passed from clients to targets.
    pub bytes_in: u64,
    /// Bytes passed from targets to clients.
    pub bytes_out: u64,
    /// Flows open now.
    pub open: u32,
    /// Flows accepted in all.
    pub accepted: u64,
    /// Flows ended, by how.
    pub ended: BTreeMap<Ending, u64>,
    /// Connections reset right after they were accepted, by reason.
    pub refused: BTreeMap<RefusedReason, u64>,
    /// Flows that ended because the service has no target at the port.
    pub without_target: u64,
    /// Packets that the kernel dropped at the interface's ports: each attempt to connect that no rule
    /// allows, repeats too, and those that found the accept queue full.
    pub dropped: u64,
    /// The targets that could not be connected to, at least once, and are still targets.
    pub failures: Vec<TargetFailures>,
}

/// How often a target could not be connected to, and why the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFailures {
    /// The target.
    pub target: SocketAddrV4,
    /// Attempts that failed.
    pub count: u64,
    /// What kind of failure the last one was.
    pub last_reason: ConnectFailure,
    /// What the kernel said, in words.
    pub last_error: String,
}
