//! What is asked of the kernel, in the words of the rest of the crate.

mod drops;
mod mailbox;
mod namespace;
mod pipe;
mod socket;

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) use drops::drops;
pub(crate) use mailbox::Mailbox;
pub(crate) use namespace::{Namespace, Whereabouts, within};
pub(crate) use pipe::{Pipe, Pipes};
pub(crate) use socket::{
    BACKLOG, accept, connection_error, dial, is_self_connected, listen, receive, reset, send,
};

/// Raises the soft limit of open files to the hard one, and returns what it is now.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard.max(soft))
}
