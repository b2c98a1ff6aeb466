//! A queue that an epoll loop can wait for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Messages for one thread, and a file that is readable while there may be some.
pub(crate) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    bell: EventFd,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), bell })
    }

    pub(crate) fn put(&self, message: T) -> io::Result<()> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.bell.write(1)?;
        Ok(())
    }

    /// Takes all that has come. Silences the bell first: a message put meanwhile rings it again.
    pub(crate) fn take(&self) -> VecDeque<T> {
        // It fails only when nothing has rung, and then there is nothing to silence.
        let _ = self.bell.read();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
