//! A flow: a client's connection, the connection to a target, and the bytes between them.
//!
//! Each flow has two *courses*, one a direction. A course moves bytes while its source has some and its
//! destination takes them, and then passes the end of the stream on; the other course is not touched by
//! that (half-close). Nothing is read that cannot be sent on, so that a slow reader is felt by the
//! sender through the kernel's own windows.
//!
//! Little messages are read into the worker's one buffer and written from it. When a read fills the
//! buffer, the course goes over to splice(2) through a pipe lent by the worker, and back when the
//! stream gets thin. What the destination did not take stays in the pipe, or in a box of its exact
//! size; an idle flow has neither.

use std::io;
use std::net::{Shutdown, SocketAddrV4};
use std::sync::Arc;

use nix::sys::epoll::EpollFlags;
use socket2::Socket;

use crate::interface::{Interface, Policy};
use crate::sys::{self, Pipe, Pipes};

/// The size of a worker's buffer: what is a little message.
const BUFFER: usize = 64 * 1024;
/// A pass of splices that moved less than this is no longer bulk.
const THIN: u64 = 16 * 1024;
/// How much one course moves before other flows have their turn.
const TURN: u64 = 2 * 1024 * 1024;

/// One of the two peers of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Target,
}

/// What the kernel has told about a socket and has not taken back. Events come on edges only: a flag is
/// cleared when a call says "not now".
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed or reset: what is there to read ends.
    pub(crate) closing: bool,
    /// The socket has, or had, an error.
    pub(crate) error: bool,
}

impl Ready {
    pub(crate) fn note(&mut self, events: EpollFlags) {
        let closing = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        self.closing |= events.intersects(closing);
        self.readable |= events.intersects(EpollFlags::EPOLLIN | closing);
        self.writable |= events.contains(EpollFlags::EPOLLOUT);
        self.error |= events.contains(EpollFlags::EPOLLERR);
    }
}

/// Bytes that were read and not yet taken by the destination.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Pipe(Pipe),
    Box {
        bytes: Box<[u8]>,
        sent: u32,
    },
}

/// One direction of a flow.
#[derive(Debug, Default)]
pub(crate) struct Course {
    held: Held,
    /// How many bytes the destination has taken.
    pub(crate) moved: u64,
    bulk: bool,
    /// The source has sent all.
    ended: bool,
    /// And the destination was told.
    pub(crate) finished: bool,
}

/// What a worker lends to the flow that it is attending to.
pub(crate) struct Scratch {
    buffer: Box<[u8]>,
    pub(crate) pipes: Pipes,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into_boxed_slice(), pipes: Pipes::default() }
    }
}

/// Which end of a course failed, and how.
#[derive(Debug)]
pub(crate) enum Broken {
    Source(io::Error),
    Destination(io::Error),
}

impl Course {
    /// Moves what can be moved now; returns whether there may be more at once.
    pub(crate) fn pump(
        &mut self,
        (source, source_ready): (&Socket, &mut Ready),
        (destination, destination_ready): (&Socket, &mut Ready),
        scratch: &mut Scratch,
    ) -> Result<bool, Broken> {
        let before = self.moved;
        loop {
            if !matches!(self.held, Held::Nothing) {
                if !destination_ready.writable {
                    return Ok(false);
                }
                match self.release(destination, &mut scratch.pipes) {
                    Ok(()) => {}
                    Err(error) if is_later(&error) => destination_ready.writable = false,
                    Err(error) => return Err(Broken::Destination(error)),
                }
                continue;
            }
            if self.ended {
                if !self.finished {
                    destination.shutdown(Shutdown::Write).map_err(Broken::Destination)?;
                    self.finished = true;
                }
                return Ok(false);
            }
            if !source_ready.readable || !destination_ready.writable {
                return Ok(false);
            }
            if self.moved - before >= TURN {
                return Ok(true);
            }
            let pipe = if self.bulk { scratch.pipes.lend() } else { None };
            let step = match pipe {
                Some(pipe) => self.splice(pipe, source, &mut scratch.pipes),
                None => self.copy(source, source_ready, destination, destination_ready, scratch)?,
            };
            match step {
                Ok(()) => {}
                Err(error) if is_later(&error) => {
                    source_ready.readable = false;
                    self.bulk &= self.moved - before >= THIN;
                }
                Err(error) => return Err(Broken::Source(error)),
            }
        }
    }

    /// Gives up what is held.
    pub(crate) fn abandon(&mut self, pipes: &mut Pipes) {
        if let Held::Pipe(pipe) = std::mem::take(&mut self.held) {
            pipes.give_back(pipe);
        }
    }

    fn splice(&mut self, mut pipe: Pipe, source: &Socket, pipes: &mut Pipes) -> io::Result<()> {
        match pipe.fill(source) {
            Ok(filled) if filled > 0 => {
                self.held = Held::Pipe(pipe);
                Ok(())
            }
            outcome => {
                pipes.give_back(pipe);
                self.ended = outcome.is_ok();
                outcome.map(drop)
            }
        }
    }

    /// The outer error is the destination's, the inner one the source's.
    fn copy(
        &mut self,
        source: &Socket,
        source_ready: &mut Ready,
        destination: &Socket,
        destination_ready: &mut Ready,
        scratch: &mut Scratch,
    ) -> Result<io::Result<()>, Broken> {
        let length = match sys::receive(source, &mut scratch.buffer) {
            Ok(0) => {
                self.ended = true;
                return Ok(Ok(()));
            }
            Ok(length) => length,
            Err(error) => return Ok(Err(error)),
        };
        self.bulk = length == BUFFER;
        // Less than there was room for: the next byte makes a new edge, and a call is saved. Not so
        // where the stream ends: its edge has been seen.
        if length < BUFFER && !source_ready.closing {
            source_ready.readable = false;
        }
        let sent = match sys::send(destination, &scratch.buffer[..length]) {
            Ok(sent) => sent,
            Err(error) if is_later(&error) => 0,
            Err(error) => return Err(Broken::Destination(error)),
        };
        self.moved += sent as u64;
        if sent < length {
            destination_ready.writable = false;
            self.held = Held::Box { bytes: scratch.buffer[sent..length].into(), sent: 0 };
        }
        Ok(Ok(()))
    }

    fn release(&mut self, destination: &Socket, pipes: &mut Pipes) -> io::Result<()> {
        match &mut self.held {
            Held::Nothing => return Ok(()),
            Held::Pipe(pipe) => {
                match pipe.drain(destination)? {
                    0 => return Err(io::ErrorKind::WouldBlock.into()),
                    now => self.moved += now as u64,
                }
                if !pipe.is_empty() {
                    return Ok(());
                }
            }
            Held::Box { bytes, sent } => {
                let now = sys::send(destination, &bytes[*sent as usize..])?;
                self.moved += now as u64;
                *sent += now as u32;
                if (*sent as usize) < bytes.len() {
                    return Ok(());
                }
            }
        }
        self.abandon(pipes);
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// An attempt to reach a target.
#[derive(Debug)]
pub(crate) struct Dial {
    /// What applied when the client was accepted; its targets are the ones tried.
    pub(crate) policy: Arc<Policy>,
    /// Which of the targets is tried first; the others follow it.
    pub(crate) first: u32,
    /// How many were tried before this one.
    pub(crate) tried: u32,
    /// When this attempt is given up, in milliseconds.
    pub(crate) deadline: u64,
}

/// A client's connection on its way to a target, or joined with one.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) interface: Arc<Interface>,
    pub(crate) client: Socket,
    pub(crate) target: Option<Socket>,
    pub(crate) client_address: SocketAddrV4,
    pub(crate) target_address: Option<SocketAddrV4>,
    pub(crate) port: u16,
    /// There while no target is connected.
    pub(crate) dial: Option<Box<Dial>>,
    pub(crate) client_ready: Ready,
    pub(crate) target_ready: Ready,
    /// From client to target.
    pub(crate) onward: Course,
    /// From target to client.
    pub(crate) back: Course,
    /// When the flow was accepted, and when a byte passed last, in milliseconds.
    pub(crate) began: u64,
    pub(crate) last_byte: u64,
    /// Whether it waits for another turn already.
    pub(crate) queued: bool,
}

/// A worker's flows, each under an index that is used again, and a generation that tells apart those
/// that had the same index.
#[derive(Default)]
pub(crate) struct Flows {
    places: Vec<(u32, Option<Flow>)>,
    free: Vec<u32>,
    count: usize,
}

impl Flows {
    /// Generations start anew after this many.
    const GENERATIONS: u32 = 1 << 30;

    pub(crate) fn insert(&mut self, flow: Flow) -> (u32, u32) {
        self.count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(flow);
        (index, *generation)
    }

    pub(crate) fn get(&mut self, index: u32) -> Option<&mut Flow> {
        self.places.get_mut(index as usize)?.1.as_mut()
    }

    pub(crate) fn is_current(&self, index: u32, generation: u32) -> bool {
        self.places.get(index as usize).is_some_and(|(current, _)| *current == generation)
    }

    pub(crate) fn generation(&self, index: u32) -> u32 {
        self.places.get(index as usize).map_or(0, |(generation, _)| *generation)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Flow> {
        let (generation, place) = self.places.get_mut(index as usize)?;
        let flow = place.take()?;
        *generation = (*generation + 1) % Self::GENERATIONS;
        self.free.push(index);
        self.count -= 1;
        Some(flow)
    }

    /// The indices of the flows that `wanted` picks.
    pub(crate) fn select(&self, wanted: impl Fn(&Flow) -> bool) -> Vec<u32> {
        let picked = |place: &Option<Flow>| place.as_ref().is_some_and(&wanted);
        (0u32..).zip(&self.places).filter(|(_, (_, p))| picked(p)).map(|(index, _)| index).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_flow_costs_less_than_256_bytes() {
        let size = size_of::<(u32, Option<Flow>)>();
        assert!(size < 256, "{size}");
    }
}
