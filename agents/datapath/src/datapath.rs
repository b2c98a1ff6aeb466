//! The handle: starts the workers, applies interfaces, reads the counts, stops everything.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddrV4;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern_model::id::NetworkInterfaceId;
use socket2::SockFilter;
use tracing::{info, warn};

use crate::interface::{Interface, InterfaceUsage, Policy};
use crate::listener::{self, Listening, ListeningId};
use crate::metrics::Ending;
use crate::spec::{BindFailure, Bound, Config, CutReason, InterfaceSpec, Place};
use crate::sys::{self, Mailbox, Namespace, Whereabouts};
use crate::worker::{Command, Order, Shared, Worker};

/// For how long a worker may take to do what it is told; it does so between two batches of events.
const OBEDIENCE: Duration = Duration::from_secs(5);
/// Files that are not for flows: listeners, pipes, and whatever else the process has open. Where few
/// files may be open, it is a quarter of them.
const SPARE_FILES: u64 = 1_024;

/// The data plane of a host. Its methods block for as long as the kernel and the workers take, which is
/// milliseconds (except [`Datapath::shutdown`]).
pub struct Datapath {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    home: Arc<Namespace>,
    state: Mutex<State>,
}

struct Handle {
    mailbox: Arc<Mailbox<Command>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    interfaces: BTreeMap<NetworkInterfaceId, Applied>,
    next_listening: ListeningId,
    closing: bool,
}

/// An interface that was applied, and what it holds.
struct Applied {
    spec: InterfaceSpec,
    namespaces: Namespaces,
    interface: Arc<Interface>,
    /// Whether everything is as `spec` says; not so after a worker failed to do its part.
    settled: bool,
    /// The sockets of each port, one for each worker.
    ports: BTreeMap<u16, Vec<Arc<Listening>>>,
}

/// The namespaces of an interface, as found when it was applied.
struct Namespaces {
    /// None for the host's own.
    listen: Option<Arc<Namespace>>,
    dial: Arc<Namespace>,
}

impl Namespaces {
    fn are(&self, other: &Self) -> bool {
        self.listens_with(other) && self.dial.is(&other.dial)
    }

    /// Whether both listen in the same namespace.
    fn listens_with(&self, other: &Self) -> bool {
        match (&self.listen, &other.listen) {
            (None, None) => true,
            (Some(own), Some(other)) => own.is(other),
            _ => false,
        }
    }
}

impl Datapath {
    /// Starts the workers. Raises the process's soft limit of open files to the hard one.
    pub fn start(config: Config) -> io::Result<Self> {
        let files = sys::raise_file_limit()?;
        let Config { workers, connect_timeout, flows_per_interface, flows, metrics } = config;
        let spare = SPARE_FILES.min(files / 4);
        let room = u32::try_from((files - spare) / 2).unwrap_or(u32::MAX).max(1);
        let shared = Arc::new(Shared {
            metrics,
            connect_timeout,
            flows_per_interface,
            flows: flows.unwrap_or(room),
            seed: seed(),
            open: AtomicU32::new(0),
            drained: (Mutex::new(()), Condvar::new()),
            began: Instant::now(),
        });
        let home = Arc::new(Namespace::current()?);
        let count = match workers {
            Some(count) => count,
            None => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let mut this =
            Self { shared, workers: Vec::new(), home, state: Mutex::new(State::default()) };
        for number in 0..count.get() {
            // When one does not start, dropping `this` ends those that did.
            let handle = this.spawn(number)?;
            this.workers.push(handle);
        }
        info!(workers = count.get(), flows = this.shared.flows, "the data plane is running");
        Ok(this)
    }

    fn spawn(&self, number: usize) -> io::Result<Handle> {
        let mailbox = Arc::new(Mailbox::new()?);
        let whereabouts = Whereabouts::new(Arc::clone(&self.home));
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&mailbox), whereabouts)?;
        let thread = std::thread::Builder::new()
            .name(format!("postern-dp-{number}"))
            .spawn(move || worker.run())?;
        Ok(Handle { mailbox, thread: Mutex::new(Some(thread)) })
    }

    /// Makes an interface what `spec` says, and returns what is bound. Applying the same again does
    /// nothing. Rules, targets and settings change without a connection or listener being touched;
    /// where the address or its place changes, it is a new interface, and the old flows are cut.
    ///
    /// Where something cannot be bound, what was there before is still in force.
    pub fn apply(&self, spec: InterfaceSpec) -> Result<Bound, BindFailure> {
        spec.validate().map_err(BindFailure::Invalid)?;
        let mut state = self.state();
        if state.closing {
            return Err(BindFailure::ShuttingDown);
        }
        let namespaces = self.namespaces(&spec)?;
        if let Some(applied) = state.interfaces.get(&spec.id) {
            let same_namespaces = applied.namespaces.are(&namespaces);
            if applied.settled && same_namespaces && applied.spec == spec {
                return Ok(bound(applied));
            }
            let same_place = applied.spec.place == spec.place
                && applied.spec.endpoint_id == spec.endpoint_id
                && applied.spec.address == spec.address;
            if !same_place || !applied.namespaces.listens_with(&namespaces) {
                info!(interface = %spec.id, "the interface moved, it is bound anew");
                self.discard(&mut state, spec.id, Ending::Policy)?;
            }
        }
        self.bring_about(&mut state, spec, namespaces)
    }

    /// Takes an interface away: its ports are closed and its flows reset when this returns. Returns
    /// what it had counted; `None` when there was no such interface.
    pub fn remove(
        &self,
        id: NetworkInterfaceId,
        reason: CutReason,
    ) -> Result<Option<InterfaceUsage>, BindFailure> {
        let ending = match reason {
            CutReason::Policy => Ending::Policy,
            CutReason::Shutdown => Ending::Shutdown,
        };
        self.discard(&mut self.state(), id, ending)
    }

    /// What each interface has counted.
    pub fn usage(&self) -> Vec<InterfaceUsage> {
        self.state().interfaces.values().map(|applied| applied.interface.usage()).collect()
    }

    /// Whether every worker is alive: not so after a shutdown, or after one has failed, whose share of
    /// the connections would then hang. For the readiness of the process.
    pub fn is_running(&self) -> bool {
        self.workers.iter().all(|worker| {
            let thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.as_ref().is_some_and(|thread| !thread.is_finished())
        })
    }

    /// Accepts nothing any more, lets flows finish for as long as `drain`, then resets those that are
    /// left, and ends the workers. Returns how many were reset. A second call has nothing to do and
    /// returns 0.
    pub fn shutdown(&self, drain: Duration) -> u32 {
        let mut state = self.state();
        if std::mem::replace(&mut state.closing, true) {
            return 0;
        }
        let ids: Arc<[ListeningId]> = state.interfaces.values().flat_map(listening_ids).collect();
        for applied in state.interfaces.values_mut() {
            applied.ports.clear();
        }
        drop(state);
        if let Err(error) = self.order(|| Order::Unlisten(Arc::clone(&ids))) {
            warn!(%error, "a worker did not close its listeners");
        }
        let left = self.wait_until_drained(drain);
        if left > 0 {
            warn!(open = left, "the drain deadline has passed, cutting what is still open");
        }
        // A worker that has ended takes no orders: the error says nothing new.
        let _ = self.order(|| Order::Stop);
        for worker in &self.workers {
            let thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                warn!("a worker panicked");
            }
        }
        left
    }

    fn wait_until_drained(&self, drain: Duration) -> u32 {
        let deadline = Instant::now() + drain;
        let (lock, drained) = &self.shared.drained;
        let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let open = self.shared.open.load(Relaxed);
            let left = deadline.saturating_duration_since(Instant::now());
            if open == 0 || left.is_zero() {
                return open;
            }
            guard = drained.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that may fail comes first; what was there before is not touched until it has not.
    fn bring_about(
        &self,
        state: &mut State,
        spec: InterfaceSpec,
        namespaces: Namespaces,
    ) -> Result<Bound, BindFailure> {
        let policy = Policy::of(&spec, Arc::clone(&namespaces.dial));
        let filters = policy
            .ports
            .iter()
            .map(|(port, policy)| Ok((*port, listener::compile(&policy.sources, *port)?)))
            .collect::<Result<BTreeMap<u16, Vec<SockFilter>>, BindFailure>>()?;
        let mut opened = BTreeMap::new();
        if spec.serving {
            refuse_overlap(state, &spec, &namespaces)?;
            let before = state.interfaces.get(&spec.id);
            for (port, filter) in &filters {
                if before.is_some_and(|applied| applied.ports.contains_key(port)) {
                    continue;
                }
                let address = SocketAddrV4::new(spec.address, *port);
                let listen = namespaces.listen.as_deref();
                let count = self.workers.len();
                let sockets = listener::open(address, &spec.place, listen, filter, count)?;
                opened.insert(*port, sockets);
            }
        }
        if !spec.serving || filters.is_empty() {
            let address = SocketAddrV4::new(spec.address, 0);
            listener::probe(address, &spec.place, namespaces.listen.as_deref())?;
        }
        self.commit(state, spec, namespaces, policy, &filters, opened)
    }

    fn commit(
        &self,
        state: &mut State,
        spec: InterfaceSpec,
        namespaces: Namespaces,
        policy: Policy,
        filters: &BTreeMap<u16, Vec<SockFilter>>,
        opened: BTreeMap<u16, Vec<socket2::Socket>>,
    ) -> Result<Bound, BindFailure> {
        let State { interfaces, next_listening, .. } = state;
        let mut applied = match interfaces.remove(&spec.id) {
            None => Applied {
                interface: self.made(&spec, policy),
                ports: BTreeMap::new(),
                settled: true,
                spec: spec.clone(),
                namespaces,
            },
            Some(mut applied) => {
                // Before the filters: what the new filter lets in must find the new policy. What the
                // old one has let in is put to the policy after it was accepted.
                applied.interface.set_policy(&spec, policy);
                applied.namespaces = namespaces;
                applied
            }
        };
        let before = std::mem::replace(&mut applied.spec, spec.clone());
        let outcome = self.move_to(&mut applied, &before, filters, opened, next_listening);
        let bound = bound(&applied);
        // Where it is not as it should be, the next `apply` must not take it for done.
        applied.settled = outcome.is_ok();
        interfaces.insert(spec.id, applied);
        outcome?;
        info!(interface = %spec.id, endpoint = %spec.endpoint_id, address = %spec.address,
            serving = spec.serving, ports = ?bound.ports, rules = spec.ingress.len(),
            "interface applied");
        Ok(bound)
    }

    fn made(&self, spec: &InterfaceSpec, policy: Policy) -> Arc<Interface> {
        let interface = Arc::new(Interface::new(spec, policy));
        self.shared.metrics.watch(&interface);
        interface
    }

    /// Takes the sockets and flows of an interface to what its description says.
    fn move_to(
        &self,
        applied: &mut Applied,
        before: &InterfaceSpec,
        filters: &BTreeMap<u16, Vec<SockFilter>>,
        opened: BTreeMap<u16, Vec<socket2::Socket>>,
        next_listening: &mut ListeningId,
    ) -> Result<(), BindFailure> {
        let serving = applied.spec.serving;
        // The last look at what is closed below.
        applied.interface.dropped();
        let gone: Vec<u16> = applied
            .ports
            .keys()
            .filter(|p| !serving || !filters.contains_key(p))
            .copied()
            .collect();
        let ids: Arc<[ListeningId]> = gone
            .iter()
            .filter_map(|port| applied.ports.remove(port))
            .flatten()
            .map(|l| l.id)
            .collect();
        if !ids.is_empty() {
            self.order(|| Order::Unlisten(Arc::clone(&ids)))?;
        }
        if !serving {
            let id = applied.spec.id;
            return self.order(|| Order::Cut(id, Ending::Policy));
        }
        if !applied.settled || before.ingress != applied.spec.ingress {
            for (port, listening) in &applied.ports {
                let Some(filter) = filters.get(port) else { continue };
                for listening in listening {
                    listener::refilter(listening, filter)?;
                }
            }
        }
        for (port, sockets) in opened {
            let mut listening = Vec::with_capacity(sockets.len());
            for socket in sockets {
                let id = *next_listening;
                *next_listening += 1;
                let interface = Arc::clone(&applied.interface);
                let opened = Arc::new(Listening { id, interface, port, socket });
                applied.interface.listens(&opened);
                listening.push(opened);
            }
            let mut each = listening.iter();
            self.order_each(|| each.next().map(|listening| Order::Listen(Arc::clone(listening))))?;
            applied.ports.insert(port, listening);
        }
        if !applied.settled || before.idle_timeout != applied.spec.idle_timeout {
            let id = applied.spec.id;
            self.order(|| Order::Rearm(id))?;
        }
        Ok(())
    }

    fn discard(
        &self,
        state: &mut State,
        id: NetworkInterfaceId,
        ending: Ending,
    ) -> Result<Option<InterfaceUsage>, BindFailure> {
        let Some(applied) = state.interfaces.get_mut(&id) else { return Ok(None) };
        applied.interface.stop_serving();
        applied.interface.dropped(); // The last look at what is closed below.
        applied.settled = false;
        let ids: Arc<[ListeningId]> = listening_ids(applied).collect();
        applied.ports.clear();
        self.order(|| Order::Unlisten(Arc::clone(&ids)))?;
        self.order(|| Order::Cut(id, ending))?;
        let usage = applied.interface.usage();
        state.interfaces.remove(&id);
        info!(interface = %id, %ending, bytes_in = usage.bytes_in, bytes_out = usage.bytes_out,
            "interface removed");
        Ok(Some(usage))
    }

    fn namespaces(&self, spec: &InterfaceSpec) -> Result<Namespaces, BindFailure> {
        let open = |place: &Place| match place {
            Place::Host => Ok(None),
            Place::Namespace(path) => Namespace::open(path)
                .map(|namespace| Some(Arc::new(namespace)))
                .map_err(|source| BindFailure::Namespace { path: path.clone(), source }),
        };
        let listen = open(&spec.place)?;
        let dial = open(&spec.target_place)?.unwrap_or_else(|| Arc::clone(&self.home));
        Ok(Namespaces { listen, dial })
    }

    /// Has all workers do the same, and waits until they have.
    fn order(&self, order: impl Fn() -> Order) -> Result<(), BindFailure> {
        self.order_each(|| Some(order()))
    }

    /// Has each worker do its own thing, and waits until they have.
    fn order_each(&self, mut order: impl FnMut() -> Option<Order>) -> Result<(), BindFailure> {
        let failed =
            |what: &str, source: io::Error| BindFailure::System { what: what.into(), source };
        let (done, acknowledged) = mpsc::channel();
        let mut sent = 0;
        for worker in &self.workers {
            if let Some(order) = order() {
                worker
                    .mailbox
                    .put(Command { order, done: done.clone() })
                    .map_err(|source| failed("waking a worker", source))?;
                sent += 1;
            }
        }
        drop(done);
        for _ in 0..sent {
            acknowledged
                .recv_timeout(OBEDIENCE)
                .map_err(|_| failed("commanding a worker", io::ErrorKind::TimedOut.into()))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        let running = |worker: &Handle| {
            worker.thread.lock().unwrap_or_else(PoisonError::into_inner).is_some()
        };
        if self.workers.iter().any(running) {
            self.shutdown(Duration::ZERO);
        }
    }
}

/// Refuses a port that another interface has at the same address. The kernel would not: it takes both
/// for workers of one listener (`SO_REUSEPORT`), and would hand each the other's connections.
fn refuse_overlap(
    state: &State,
    spec: &InterfaceSpec,
    namespaces: &Namespaces,
) -> Result<(), BindFailure> {
    for (id, other) in &state.interfaces {
        let same_address =
            other.spec.address == spec.address && other.namespaces.listens_with(namespaces);
        if *id == spec.id || !same_address {
            continue;
        }
        if let Some(taken) = spec.listeners.iter().find(|l| other.ports.contains_key(&l.port)) {
            return Err(BindFailure::InUse(SocketAddrV4::new(spec.address, taken.port)));
        }
    }
    Ok(())
}

fn listening_ids(applied: &Applied) -> impl Iterator<Item = ListeningId> + '_ {
    applied.ports.values().flatten().map(|listening| listening.id)
}

fn bound(applied: &Applied) -> Bound {
    Bound { address: applied.spec.address, ports: applied.ports.keys().copied().collect() }
}

/// Differs from process to process; need not be a secret.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
