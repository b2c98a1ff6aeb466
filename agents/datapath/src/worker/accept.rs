//! Taking connections in: every one that the kernel has completed is either a flow or reset.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::Socket;
use tracing::{debug, warn};

use super::{Worker, pack};
use crate::flow::{Dial, Flow, Side};
use crate::interface::Policy;
use crate::listener::Listening;
use crate::metrics::RefusedReason;
use crate::sys;

/// How many connections are accepted from one listener before other flows have their turn.
const TURN: usize = 64;
/// How many turns a full accept queue takes.
pub(super) const TURNS_OF_A_QUEUE: usize = sys::BACKLOG as usize / TURN;

impl Worker {
    /// Takes a turn's worth of connections; returns whether there may be more.
    pub(super) fn accept(&mut self, listening: &Arc<Listening>) -> bool {
        for _ in 0..TURN {
            if self.paused.is_some() {
                return false;
            }
            match sys::accept(&listening.socket) {
                Ok((client, address)) => self.admit(listening, client, address),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                        self.pause(&error);
                        return false;
                    }
                    // The connection ended before it was accepted, or its network did (accept(2)):
                    // the next one has nothing to do with it.
                    Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::EPERM) => {}
                    _ => {
                        warn!(interface = %listening.interface.id, port = listening.port, %error,
                            "a connection could not be accepted");
                        return false;
                    }
                },
            }
        }
        true
    }

    fn admit(&mut self, listening: &Arc<Listening>, client: Socket, address: SocketAddrV4) {
        let policy = listening.interface.policy();
        let reason = match policy.ports.get(&listening.port) {
            _ if !policy.serving => Some(RefusedReason::NotServing),
            None => Some(RefusedReason::NotServing),
            // The kernel's filter was passed by the rules as they were when the SYN came.
            Some(port) if !port.sources.contains(*address.ip()) => Some(RefusedReason::Filtered),
            Some(_) => self.count_in(listening),
        };
        if let Some(reason) = reason {
            return self.refuse(listening, client, address, reason);
        }
        // What the listener's filter drops, an accepted connection must get: groups are stateful.
        if let Err(error) = client.detach_filter()
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            debug!(%error, "an accepted connection keeps its filter, it is reset");
            self.count_out(listening);
            return self.refuse(listening, client, address, RefusedReason::Error);
        }
        self.begin(listening, policy, client, address);
    }

    fn begin(
        &mut self,
        listening: &Arc<Listening>,
        policy: Arc<Policy>,
        client: Socket,
        address: SocketAddrV4,
    ) {
        let first = choice(self.shared.seed, address, listening);
        let flow = Flow {
            interface: Arc::clone(&listening.interface),
            client,
            target: None,
            client_address: address,
            target_address: None,
            port: listening.port,
            dial: Some(Box::new(Dial { policy, first, tried: 0, deadline: 0 })),
            client_ready: Default::default(),
            target_ready: Default::default(),
            onward: Default::default(),
            back: Default::default(),
            began: self.now,
            last_byte: self.now,
            queued: false,
        };
        self.shared.metrics.opened();
        let (index, generation) = self.flows.insert(flow);
        let event = EpollEvent::new(edges(), pack(index, generation, Side::Client));
        let watched = match self.flows.get(index) {
            Some(flow) => self.epoll.add(&flow.client, event),
            None => return,
        };
        match watched {
            Ok(()) => self.dial(index),
            Err(errno) => self.end(index, crate::metrics::Ending::Error, Some(errno.into())),
        }
    }

    /// Counts a flow in with the process and the interface, or says which of them is full.
    fn count_in(&self, listening: &Listening) -> Option<RefusedReason> {
        let (open, most) = (&self.shared.open, self.shared.flows);
        if open.fetch_update(Relaxed, Relaxed, |n| (n < most).then_some(n + 1)).is_err() {
            return Some(RefusedReason::ProcessFull);
        }
        if !listening.interface.admit(self.shared.flows_per_interface) {
            open.fetch_sub(1, Relaxed);
            return Some(RefusedReason::InterfaceFull);
        }
        None
    }

    /// Takes back what `count_in` counted, for a connection that never became a flow.
    fn count_out(&self, listening: &Listening) {
        listening.interface.withdraw();
        self.shared.open.fetch_sub(1, Relaxed);
    }

    fn refuse(
        &self,
        listening: &Listening,
        client: Socket,
        address: SocketAddrV4,
        reason: RefusedReason,
    ) {
        debug!(interface = %listening.interface.id, client = %address, port = listening.port, %reason,
            "connection refused after it was accepted");
        listening.interface.refused(reason);
        self.shared.metrics.refused(reason);
        sys::reset(client);
    }
}

/// What is watched for on the sockets of a flow.
pub(super) fn edges() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
}

/// Which target a connection goes to first: a hash of where it comes from and goes to, so that
/// connections spread evenly and one of them has one choice (spec 5.2).
fn choice(seed: u64, client: SocketAddrV4, listening: &Listening) -> u32 {
    let from = u64::from(u32::from(*client.ip())) << 16 | u64::from(client.port());
    let to = u64::from(u32::from(listening.interface.address)) << 16 | u64::from(listening.port);
    // splitmix64's finish, twice: every bit of both ends reaches every bit of the choice.
    let mut hash = seed;
    for word in [from, to] {
        hash = hash.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
    }
    (hash >> 32) as u32
}
