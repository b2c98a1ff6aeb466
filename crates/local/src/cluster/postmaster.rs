//! The server's process, as its pid file tells of it.

use crate::Error;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// A server that runs on a data directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    pub(super) port: u16,
}

impl Postmaster {
    /// The server that runs on `data`, if one does.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        // The lines are: pid, data directory, start time, port, and more that is not needed here.
        let mut lines = file.lines();
        let pid = Pid::from_raw(lines.next()?.trim().parse().ok()?);
        let port = lines.nth(2)?.trim().parse().ok()?;
        runs_on(pid, data).then_some(Self { pid, port })
    }

    /// Whether it still runs.
    pub(super) fn is_there(&self, data: &Path) -> bool {
        runs_on(self.pid, data)
    }

    /// Sends `signal`. A server that is gone already is no fault.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// Removes a pid file whose number now belongs to another program: the server would take that for
    /// itself and refuse to start. In every other case the file stays, because the server finds in it
    /// the shared memory that sessions of its dead predecessor may still be using.
    pub(super) fn forget_stale(data: &Path) -> Result<(), Error> {
        let path = data.join("postmaster.pid");
        let Ok(file) = fs::read_to_string(&path) else { return Ok(()) };
        let pid = file.lines().next().and_then(|line| line.trim().parse().ok()).map(Pid::from_raw);
        let taken = pid.is_some_and(|pid| {
            kill(pid, None) != Err(nix::errno::Errno::ESRCH) && !runs_on(pid, data)
        });
        if taken {
            fs::remove_file(&path).map_err(Error::io("removing", &path))?;
        }
        Ok(())
    }
}

/// A server stands in its data directory. A process that has ended and waits to be reaped stands
/// nowhere, so it counts as gone.
fn runs_on(pid: Pid, data: &Path) -> bool {
    let stands_in = fs::read_link(format!("/proc/{pid}/cwd"));
    match (stands_in, data.canonicalize()) {
        (Ok(there), Ok(data)) => there == data,
        _ => false,
    }
}
