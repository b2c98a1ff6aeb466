//! Private servers on this machine, for development and tests.
//!
//! A [`Cluster`] is a PostgreSQL of one's own: made with `initdb` in a directory that the caller names,
//! listening on 127.0.0.1 only, with a password that stands in a file of that directory, and stopped when
//! the owner is done. `postern dev` keeps its state in one and the tests take databases from one.
//!
//! The server programs are those of the machine ([`Programs`]); where there are none they are fetched
//! once. Nothing here touches a system service or a cluster that somebody else made.
//!
//! Invariant: whoever holds a [`Cluster`] holds the lock of its directory, so two processes never believe
//! that they own the same server.

mod account;
mod cluster;
mod error;
mod fetch;
mod programs;
mod wire;

pub use cluster::{Cluster, Options};
pub use error::Error;
pub use programs::Programs;

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port of 127.0.0.1 that nobody listened on a moment ago.
///
/// Another process may take it before the caller does, so whoever starts a server on it looks at the
/// outcome and asks again.
///
/// # Errors
/// When the system has no port left to give.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
