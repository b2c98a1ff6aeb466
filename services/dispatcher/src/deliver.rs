//! Delivers messages to subscriptions.
//!
//! A *message* is what was published to a topic. A *delivery* is that message on its way to one
//! subscription, and an *attempt* is one try. Deliveries are at least once: each attempt carries the
//! message's id, and receivers drop repeats. A claimed delivery is leased, so that another replica
//! takes it over when this one dies; the lease saves double work, and nothing relies on it.
//!
//! Attempts under way are bounded in all, and for each target: one that hangs fills its own places
//! and delays nobody else. First attempts of one endpoint's events to one subscription are made in
//! order; retries don't hold up what follows them.

pub mod dial;
pub mod email;
pub mod message;
pub mod outbound;
mod scheduler;
pub mod sign;
pub mod webhook;

pub use scheduler::{Scheduler, SchedulerConfig};

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// It may be taken later.
    Retry,
    /// It will never be taken.
    Permanent,
}

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What it came to.
    pub verdict: Verdict,
    /// The HTTP or SMTP status; 0 when there was no answer.
    pub status: i32,
    /// What was wrong, in words for the topic's owner; empty when nothing was.
    pub error: String,
    /// The address that was dialled; empty when none was.
    pub address: String,
}

impl Attempt {
    /// An attempt that got no answer.
    pub fn failed(verdict: Verdict, error: impl Into<String>) -> Self {
        Self { verdict, status: 0, error: error.into(), address: String::new() }
    }
}
