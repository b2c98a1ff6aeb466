//! Pipes that bytes pass through without being copied, lent to whoever has bytes under way.
//!
//! Architecture invariant: a pipe that is not lent is empty. One that comes back with bytes in it is
//! closed instead of kept.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::Socket;

/// How large a pipe is asked to be, in bytes. Where the kernel refuses (an unprivileged user may hold
/// only so much), its own default serves.
const CAPACITY: i32 = 256 * 1024;
/// How many pipes a worker lends at once; each costs two files. Flows beyond that are copied.
const MOST_LENT: usize = 256;
/// How many empty pipes a worker keeps.
const MOST_KEPT: usize = 16;

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    exit: OwnedFd,
    entrance: OwnedFd,
    held: u32,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (exit, entrance) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Fails when the user holds too many pages in pipes; then the default size does.
        let _ = fcntl(&entrance, FcntlArg::F_SETPIPE_SZ(CAPACITY));
        Ok(Self { exit, entrance, held: 0 })
    }

    /// Moves what `socket` has received into the empty pipe; 0 means that the peer has sent all.
    pub(crate) fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        let filled =
            retry(|| splice(socket, None, &self.entrance, None, CAPACITY as usize, flags()))?;
        self.held += filled as u32;
        Ok(filled)
    }

    /// Moves bytes out to `socket`; not always all of them.
    pub(crate) fn drain(&mut self, socket: &Socket) -> io::Result<usize> {
        let held = self.held as usize;
        let drained = retry(|| splice(&self.exit, None, socket, None, held, flags()))?;
        self.held -= drained as u32;
        Ok(drained)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

/// A worker's pipes.
#[derive(Default)]
pub(crate) struct Pipes {
    kept: Vec<Pipe>,
    lent: usize,
}

impl Pipes {
    /// An empty pipe; `None` when too many are lent or the process is out of files.
    pub(crate) fn lend(&mut self) -> Option<Pipe> {
        if self.lent >= MOST_LENT {
            return None;
        }
        let pipe = self.kept.pop().or_else(|| Pipe::new().ok())?;
        self.lent += 1;
        Some(pipe)
    }

    /// Takes a pipe back.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.lent -= 1;
        if pipe.is_empty() && self.kept.len() < MOST_KEPT {
            self.kept.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_lent_again() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.write_all(b"secret").unwrap();
        let mut pipes = Pipes::default();
        let mut pipe = pipes.lend().unwrap();
        assert_eq!(pipe.fill(&Socket::from(far)).unwrap(), 6);
        pipes.give_back(pipe);

        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut pipe = pipes.lend().unwrap();
        let (mut other_near, other_far) = std::os::unix::net::UnixStream::pair().unwrap();
        other_near.write_all(b"own").unwrap();
        pipe.fill(&Socket::from(other_far)).unwrap();
        assert_eq!(pipe.drain(&Socket::from(far)).unwrap(), 3);
        let mut read = [0; 16];
        let length = near.read(&mut read).unwrap();
        assert_eq!(&read[..length], b"own");
    }

    #[test]
    fn no_more_are_lent_than_the_limit() {
        let mut pipes = Pipes::default();
        let lent: Vec<Pipe> = std::iter::from_fn(|| pipes.lend()).collect();
        assert_eq!(lent.len(), MOST_LENT);
        lent.into_iter().for_each(|pipe| pipes.give_back(pipe));
        assert!(pipes.lend().is_some());
    }
}
