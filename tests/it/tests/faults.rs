//! What happens when parts of the system go away, on real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "faults/killed.rs"]
mod killed;
#[path = "faults/outage.rs"]
mod outage;
#[path = "faults/restart.rs"]
mod restart;

/// A short lease of hosts, for tests where somebody is away for longer than that.
const LEASE: std::time::Duration = std::time::Duration::from_secs(5);

/// What is asked again and again cannot fail otherwise than by not coming.
type Asked<T> = Result<Option<T>, std::convert::Infallible>;
