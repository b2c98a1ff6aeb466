//! Reaching a target: one after the other, three at most, then the client is reset (spec 5.5).
//!
//! A plain listener has completed the client's handshake before anything is known of the target. A
//! client whose target cannot be reached must therefore see a reset, never an orderly end, which it
//! could take for an empty answer.

use std::io;
use std::net::SocketAddrV4;

use nix::sys::epoll::EpollEvent;
use socket2::Socket;
use tracing::warn;

use super::accept::edges;
use super::{Worker, pack};
use crate::flow::{Dial, Side};
use crate::metrics::{ConnectFailure, Ending};
use crate::{proxy_protocol, sys};

/// How many targets a connection is tried on: one, and two others (spec 5.5).
const MOST_TRIED: u32 = 3;

impl Worker {
    /// Begins an attempt on the next target that can be begun on; ends the flow when none is left.
    pub(super) fn dial(&mut self, index: u32) {
        loop {
            let Some(flow) = self.flows.get(index) else { return };
            let Some(dial) = &mut flow.dial else { return };
            let Some(target) = next(dial, flow.port) else {
                if dial.tried == 0 {
                    self.attempt_failed(index, None, ConnectFailure::NoTarget, "no target");
                }
                return self.end(index, Ending::ConnectFailed, None);
            };
            dial.deadline = self.now + self.shared.connect_timeout.as_millis() as u64;
            let deadline = dial.deadline;
            flow.target_address = Some(target);
            flow.target_ready = Default::default();
            let begun = self
                .whereabouts
                .enter(&dial.policy.target_namespace)
                .and_then(|()| sys::dial(target, dial.policy.target_source));
            match begun.and_then(|socket| self.watch_target(index, socket)) {
                Ok(()) => return self.wheel.arm(index, deadline),
                Err(error) => self.target_failed(index, &error),
            }
        }
    }

    fn watch_target(&mut self, index: u32, socket: Socket) -> io::Result<()> {
        let data = pack(index, self.flows.generation(index), Side::Target);
        self.epoll.add(&socket, EpollEvent::new(edges(), data))?;
        if let Some(flow) = self.flows.get(index) {
            flow.target = Some(socket);
        }
        Ok(())
    }

    /// An event has come for a flow whose target is not connected yet.
    pub(super) fn attend_dial(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else { return };
        if std::mem::take(&mut flow.client_ready.error)
            && let Some(error) = sys::connection_error(&flow.client)
        {
            return self.end(index, Ending::ResetByClient, Some(error));
        }
        let (Some(target), Some(address)) = (&flow.target, flow.target_address) else { return };
        if flow.target_ready.error || (flow.target_ready.closing && !flow.target_ready.writable) {
            let error = sys::connection_error(target)
                .unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
            // A SYN that is refused is ECONNREFUSED: this one was answered, and reset before we looked.
            if error.raw_os_error() == Some(libc::ECONNRESET) {
                return self.end(index, Ending::ResetByTarget, Some(error));
            }
            self.target_failed(index, &error);
            return self.dial(index);
        }
        if !flow.target_ready.writable {
            return;
        }
        if sys::is_self_connected(target, address) {
            self.target_failed(index, &io::Error::from_raw_os_error(libc::ECONNREFUSED));
            return self.dial(index);
        }
        self.join(index);
    }

    /// The target is connected: from here on bytes pass.
    fn join(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else { return };
        let (Some(dial), Some(target)) = (flow.dial.take(), &flow.target) else { return };
        if dial.policy.proxy_protocol {
            let service = SocketAddrV4::new(flow.interface.address, flow.port);
            let header =
                proxy_protocol::header(flow.interface.endpoint, flow.client_address, service);
            // The buffer of a new connection is empty and far larger than the header.
            let sent = sys::send(target, &header);
            if !matches!(sent, Ok(proxy_protocol::LENGTH)) {
                return self.end(index, Ending::Error, sent.err());
            }
        }
        flow.last_byte = self.now;
        let deadline = self.now.saturating_add(flow.interface.idle_millis());
        self.wheel.arm(index, deadline);
        self.attend(index);
    }

    pub(super) fn dial_timed_out(&mut self, index: u32) {
        self.target_failed(index, &io::Error::from_raw_os_error(libc::ETIMEDOUT));
        self.dial(index);
    }

    /// Closes and notes an attempt that came to nothing.
    fn target_failed(&mut self, index: u32, error: &io::Error) {
        let Some(flow) = self.flows.get(index) else { return };
        if let Some(socket) = flow.target.take() {
            sys::reset(socket);
        }
        let target = flow.target_address;
        if let Some(dial) = &mut flow.dial {
            dial.tried += 1;
        }
        let reason = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => ConnectFailure::Refused,
            Some(libc::ETIMEDOUT) => ConnectFailure::TimedOut,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES) => {
                ConnectFailure::Unreachable
            }
            _ => ConnectFailure::Other,
        };
        self.attempt_failed(index, target, reason, &error.to_string());
    }

    fn attempt_failed(
        &mut self,
        index: u32,
        target: Option<SocketAddrV4>,
        reason: ConnectFailure,
        error: &str,
    ) {
        self.shared.metrics.connect_failed(reason);
        let Some(flow) = self.flows.get(index) else { return };
        let interface = &flow.interface;
        interface.connect_failed(target, reason, error);
        if interface.may_warn(self.now) {
            warn!(
                interface = %interface.id,
                endpoint = %interface.endpoint,
                client = %flow.client_address,
                port = flow.port,
                target = target.map(tracing::field::display),
                %reason,
                error,
                "a target could not be connected to (further ones within a second are only counted)",
            );
        }
    }
}

/// The target of the next attempt.
fn next(dial: &Dial, port: u16) -> Option<SocketAddrV4> {
    let targets = &dial.policy.ports.get(&port)?.targets;
    let count = targets.len() as u32;
    if dial.tried >= MOST_TRIED.min(count) {
        return None;
    }
    // Modulo the count, and neighbours of each other: no target is tried twice.
    targets.get(((dial.first % count) + dial.tried) as usize % targets.len()).copied()
}
