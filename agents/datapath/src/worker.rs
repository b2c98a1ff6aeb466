//! A worker: one thread, one epoll loop, its own listening sockets and flows.
//!
//! Workers share nothing but counters. Commands come through a mailbox and are done between two batches
//! of events; each is acknowledged, so that whoever commands knows when it holds. Sockets of flows are
//! registered once, for edges, and never re-registered; what has been seen and not used up is noted in
//! the flow. Events carry the flow's index and generation, so that one for a flow that is gone falls
//! on nobody.

mod accept;
mod dial;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use postern_model::id::NetworkInterfaceId;
use tracing::{debug, error, warn};

use crate::flow::{Broken, Flow, Flows, Scratch, Side};
use crate::listener::{Listening, ListeningId};
use crate::metrics::{Direction, Ending, Metrics};
use crate::sys::{self, Mailbox, Whereabouts};
use crate::wheel::Wheel;

/// How many events are taken from the kernel at once.
const BATCH: usize = 256;
/// For how long a worker accepts nothing after the process ran out of files or memory.
const PAUSE_MILLIS: u64 = 100;

/// The event of the mailbox.
const MAIL: u64 = u64::MAX;
/// Set in the event of a listener, whose id is the rest. Flows' events have it clear.
const LISTENER: u64 = 1 << 63;

/// What all workers have in common.
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) connect_timeout: Duration,
    pub(crate) flows_per_interface: u32,
    pub(crate) flows: u32,
    /// Makes the choice of targets differ from process to process.
    pub(crate) seed: u64,
    /// Flows open in all workers.
    pub(crate) open: AtomicU32,
    /// Rings when the last one has ended.
    pub(crate) drained: (Mutex<()>, Condvar),
    pub(crate) began: Instant,
}

/// What a worker is to do. It sends on `done` when it has.
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) done: Sender<()>,
}

pub(crate) enum Order {
    /// Accept from this socket.
    Listen(Arc<Listening>),
    /// Accept no more from these, and close them.
    Unlisten(Arc<[ListeningId]>),
    /// Reset the interface's flows.
    Cut(NetworkInterfaceId, Ending),
    /// The interface's idle timeout has changed.
    Rearm(NetworkInterfaceId),
    /// Reset all flows, because the process ends, and end the thread.
    Stop,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox<Command>>,
    epoll: Epoll,
    listeners: HashMap<ListeningId, Arc<Listening>>,
    flows: Flows,
    wheel: Wheel,
    scratch: Scratch,
    /// Flows that had more to move when their turn was over.
    again: VecDeque<(u32, u32)>,
    whereabouts: Whereabouts,
    /// Milliseconds since the data plane began, read once for each batch of events.
    now: u64,
    /// Until when nothing is accepted.
    paused: Option<u64>,
    stopping: bool,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox<Command>>,
        whereabouts: Whereabouts,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*mailbox, EpollEvent::new(EpollFlags::EPOLLIN, MAIL))?;
        Ok(Self {
            shared,
            mailbox,
            epoll,
            listeners: HashMap::new(),
            flows: Flows::default(),
            wheel: Wheel::new(),
            scratch: Scratch::new(),
            again: VecDeque::new(),
            whereabouts,
            now: 0,
            paused: None,
            stopping: false,
        })
    }

    /// The thread's whole life.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); BATCH];
        let mut up = Vec::new();
        while !self.stopping {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(source) => {
                    // The epoll file itself is broken: nothing can be done from here on.
                    error!(%source, flows = self.flows.len(), "a worker cannot wait for events, it ends");
                    self.stop(Ending::Error);
                    return;
                }
            };
            self.now = self.shared.began.elapsed().as_millis() as u64;
            for event in &events[..count] {
                self.event(event.data(), event.events());
            }
            // Only those that were waiting before: what comes again meanwhile waits for its turn.
            for _ in 0..self.again.len() {
                if let Some((index, generation)) = self.again.pop_front()
                    && self.flows.is_current(index, generation)
                    && let Some(flow) = self.flows.get(index)
                {
                    flow.queued = false;
                    self.attend(index);
                }
            }
            self.wheel.advance(self.now, &mut up);
            for index in up.drain(..) {
                self.timer(index);
            }
            self.unpause();
        }
    }

    fn event(&mut self, data: u64, events: EpollFlags) {
        if data == MAIL {
            let mailbox = Arc::clone(&self.mailbox);
            for command in mailbox.take() {
                self.obey(command.order);
                // The one who commanded may have given up waiting.
                let _ = command.done.send(());
            }
        } else if data & LISTENER != 0 {
            if let Some(listening) = self.listeners.get(&(data & !LISTENER)).map(Arc::clone) {
                self.accept(&listening);
            }
        } else {
            let (index, generation, side) = unpack(data);
            if !self.flows.is_current(index, generation) {
                return;
            }
            if let Some(flow) = self.flows.get(index) {
                match side {
                    Side::Client => flow.client_ready.note(events),
                    Side::Target => flow.target_ready.note(events),
                }
                self.attend(index);
            }
        }
    }

    /// Does what can be done for a flow now.
    fn attend(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else { return };
        if flow.dial.is_some() {
            return self.attend_dial(index);
        }
        let before = (flow.onward.moved, flow.back.moved);
        let outcome = forward(flow, &mut self.scratch);
        let (inward, outward) = (flow.onward.moved - before.0, flow.back.moved - before.1);
        if inward + outward > 0 {
            flow.last_byte = self.now;
            for (direction, bytes) in [(Direction::In, inward), (Direction::Out, outward)] {
                if bytes > 0 {
                    flow.interface.passed(direction, bytes);
                    self.shared.metrics.passed(direction, bytes);
                }
            }
        }
        match outcome {
            Outcome::Wait => {}
            Outcome::Again => {
                if !std::mem::replace(&mut flow.queued, true) {
                    self.again.push_back((index, self.flows.generation(index)));
                }
            }
            Outcome::Over(ending, why) => self.end(index, ending, why),
        }
    }

    fn timer(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else { return };
        let deadline = match &flow.dial {
            Some(dial) => dial.deadline,
            None => flow.last_byte.saturating_add(flow.interface.idle_millis()),
        };
        if deadline > self.now {
            self.wheel.arm(index, deadline);
        } else if flow.dial.is_some() {
            self.dial_timed_out(index);
        } else {
            self.end(index, Ending::Idle, None);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Listen(listening) => {
                let data = LISTENER | listening.id;
                // Levels, not edges: what one turn does not accept, the next one does.
                let event = EpollEvent::new(self.listener_events(), data);
                if let Err(source) = self.epoll.add(&listening.socket, event) {
                    error!(interface = %listening.interface.id, port = listening.port, %source,
                        "a worker cannot watch a listener, its share of the connections will hang");
                }
                self.listeners.insert(listening.id, listening);
            }
            Order::Unlisten(ids) => {
                for id in ids.iter() {
                    if let Some(listening) = self.listeners.remove(id) {
                        // Completed connections that wait here would be reset by the close.
                        // As many as the queue holds, and not for ever under a flood of new ones.
                        for _ in 0..accept::TURNS_OF_A_QUEUE {
                            if !self.accept(&listening) {
                                break;
                            }
                        }
                        let _ = self.epoll.delete(&listening.socket);
                    }
                }
            }
            Order::Cut(interface, ending) => {
                for index in self.flows.select(|flow| flow.interface.id == interface) {
                    self.end(index, ending, None);
                }
            }
            Order::Rearm(interface) => {
                for index in self.flows.select(|flow| flow.interface.id == interface) {
                    // Comes up at once and is armed with what holds now.
                    self.wheel.arm(index, 0);
                }
            }
            Order::Stop => self.stop(Ending::Shutdown),
        }
    }

    fn stop(&mut self, ending: Ending) {
        for listening in std::mem::take(&mut self.listeners).into_values() {
            let _ = self.epoll.delete(&listening.socket);
        }
        for index in self.flows.select(|_| true) {
            self.end(index, ending, None);
        }
        self.stopping = true;
    }

    /// The one way out for a flow: whatever the ending, everything is counted, told and closed here.
    fn end(&mut self, index: u32, ending: Ending, why: Option<io::Error>) {
        let Some(mut flow) = self.flows.remove(index) else { return };
        self.wheel.disarm(index);
        flow.onward.abandon(&mut self.scratch.pipes);
        flow.back.abandon(&mut self.scratch.pipes);
        debug!(
            interface = %flow.interface.id,
            endpoint = %flow.interface.endpoint,
            client = %flow.client_address,
            port = flow.port,
            target = flow.target_address.map(tracing::field::display),
            %ending,
            why = why.as_ref().map(tracing::field::display),
            bytes_in = flow.onward.moved,
            bytes_out = flow.back.moved,
            milliseconds = self.now.saturating_sub(flow.began),
            "connection ended",
        );
        let Flow { client, target, interface, .. } = flow;
        match ending {
            Ending::Closed => drop((client, target)),
            // Every other ending cuts something off, which the peers must be able to tell.
            _ => {
                sys::reset(client);
                target.into_iter().for_each(sys::reset);
            }
        }
        interface.ended(ending);
        self.shared.metrics.ended(ending);
        if self.shared.open.fetch_sub(1, Relaxed) == 1 {
            let (lock, drained) = &self.shared.drained;
            drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
            drained.notify_all();
        }
    }

    /// How long to wait for events.
    fn patience(&self) -> EpollTimeout {
        if !self.again.is_empty() {
            return EpollTimeout::ZERO;
        }
        let due = [self.wheel.due(), self.paused].into_iter().flatten().min();
        let Some(due) = due else { return EpollTimeout::NONE };
        let now = self.shared.began.elapsed().as_millis() as u64;
        // Bounded by the wheel's horizon, which is far below what the type holds.
        u16::try_from(due.saturating_sub(now)).unwrap_or(u16::MAX).into()
    }

    fn listener_events(&self) -> EpollFlags {
        if self.paused.is_some() { EpollFlags::empty() } else { EpollFlags::EPOLLIN }
    }

    /// Accepts nothing for a while: the process is out of files or memory, and an epoll that reports
    /// the waiting connection again and again would only burn the processor.
    fn pause(&mut self, source: &io::Error) {
        if self.paused.replace(self.now + PAUSE_MILLIS).is_none() {
            warn!(%source, flows = self.flows.len(), "out of resources, accepting pauses");
            self.shared.metrics.accept_paused();
            self.watch_listeners();
        }
    }

    fn unpause(&mut self) {
        if self.paused.is_some_and(|until| until <= self.now) {
            self.paused = None;
            self.watch_listeners();
        }
    }

    fn watch_listeners(&self) {
        for listening in self.listeners.values() {
            let mut event = EpollEvent::new(self.listener_events(), LISTENER | listening.id);
            if let Err(source) = self.epoll.modify(&listening.socket, &mut event) {
                error!(interface = %listening.interface.id, port = listening.port, %source,
                    "a worker cannot watch a listener, its share of the connections will hang");
            }
        }
    }
}

/// What comes of attending to a flow.
enum Outcome {
    Wait,
    Again,
    Over(Ending, Option<io::Error>),
}

/// Moves both courses of a flow that has its target.
fn forward(flow: &mut Flow, scratch: &mut Scratch) -> Outcome {
    let Flow { client, target: Some(target), client_ready, target_ready, onward, back, .. } = flow
    else {
        return Outcome::Wait;
    };
    let onward_more = match onward.pump((client, client_ready), (target, target_ready), scratch) {
        Ok(more) => more,
        Err(Broken::Source(error)) => return broken(Side::Client, error),
        Err(Broken::Destination(error)) => return broken(Side::Target, error),
    };
    let back_more = match back.pump((target, target_ready), (client, client_ready), scratch) {
        Ok(more) => more,
        Err(Broken::Source(error)) => return broken(Side::Target, error),
        Err(Broken::Destination(error)) => return broken(Side::Client, error),
    };
    if onward.finished && back.finished {
        return Outcome::Over(Ending::Closed, None);
    }
    if onward_more || back_more {
        return Outcome::Again;
    }
    // A side that has an error and could still be read would have shown it there, after its last
    // bytes. One that cannot, because it has said its end or its bytes are held up, shows it here.
    for (side, ready, socket) in
        [(Side::Client, client_ready, client), (Side::Target, target_ready, target)]
    {
        if std::mem::take(&mut ready.error)
            && let Some(error) = sys::connection_error(socket)
        {
            return broken(side, error);
        }
    }
    Outcome::Wait
}

fn broken(side: Side, error: io::Error) -> Outcome {
    let reset = matches!(
        error.raw_os_error(),
        Some(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::ESHUTDOWN)
    );
    let ending = match side {
        _ if !reset => Ending::Error,
        Side::Client => Ending::ResetByClient,
        Side::Target => Ending::ResetByTarget,
    };
    Outcome::Over(ending, Some(error))
}

fn pack(index: u32, generation: u32, side: Side) -> u64 {
    // 30 bits of generation keep the listeners' bit clear.
    u64::from(generation) << 33 | u64::from(index) << 1 | u64::from(side == Side::Target)
}

fn unpack(data: u64) -> (u32, u32, Side) {
    let side = if data & 1 == 1 { Side::Target } else { Side::Client };
    ((data >> 1) as u32, (data >> 33) as u32, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_which_flow_and_which_side_and_is_never_taken_for_a_listeners() {
        for index in [0, 1, u32::MAX] {
            for generation in [0, (1 << 30) - 1] {
                for side in [Side::Client, Side::Target] {
                    let data = pack(index, generation, side);
                    assert_eq!(unpack(data), (index, generation, side));
                    assert_eq!(data & LISTENER, 0);
                }
            }
        }
    }
}
