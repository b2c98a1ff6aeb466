//! Delivers messages to subscriptions.
//!
//! A *message* is what was published to a topic. A *delivery* is that message on its way to one
//! subscription, and an *attempt* is one try. Deliveries are at least once: each attempt carries the
//! message's id, and receivers drop repeats. A claimed delivery is leased, so that another replica
//! takes it over when this one dies; the lease saves double work, and nothing relies on it.
//!
//! Attempts under way are bounded in all, and for each target by how it answers ([`targets`]): one that
//! hangs fills a few places of its own and delays nobody else. First attempts of one endpoint's events to
//! one subscription are made in order; retries don't hold up what follows them, unless the subscription
//! asks for order.

pub mod dial;
pub mod email;
pub mod message;
pub mod outbound;
mod recorder;
pub mod redrive;
mod scheduler;
pub mod sign;
pub mod standard;
pub mod targets;
pub mod webhook;

pub use scheduler::{Scheduler, SchedulerConfig};

use std::time::Duration;

use self::targets::Answer;

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
    /// How long the other side asked to be left alone.
    pub retry_after: Option<Duration>,
    /// What was sent, in bytes; 0 where nobody counts.
    pub request_bytes: usize,
    /// What was read of the answer's body, in bytes.
    pub response_bytes: usize,
    /// The beginning of a refusal as text; empty where its address is not public.
    pub response: String,
}

impl Attempt {
    /// An attempt that got no answer.
    pub fn failed(verdict: Verdict, error: impl Into<String>) -> Self {
        Self { error: error.into(), ..Self::answered(verdict, 0) }
    }

    /// An attempt that got an answer.
    pub fn answered(verdict: Verdict, status: i32) -> Self {
        Self {
            verdict,
            status,
            error: String::new(),
            address: String::new(),
            retry_after: None,
            request_bytes: 0,
            response_bytes: 0,
            response: String::new(),
        }
    }

    /// What it says of its target's health.
    pub fn answer(&self) -> Answer {
        match self.verdict {
            Verdict::Retry if self.status == 0 || self.status >= 500 => Answer::Failed,
            Verdict::Delivered | Verdict::Retry | Verdict::Permanent => Answer::Answered,
        }
    }
}
