//! How events travel: what a transport must promise, and the transport inside one process.
//!
//! A [`Publisher`] takes messages in order and confirms each. A [`Source`] hands out deliveries; each
//! is settled once: acknowledged, given back for another try, or rejected for good. The promise is *at
//! least once*: a delivery that is dropped unsettled comes back, marked as redelivered, so receivers
//! drop repeats by the message's id. Order is kept per key as far as one receiver settles one delivery
//! after the other; a message given back goes to the head, before later ones of its key.
//!
//! The transport over AMQP lives in the services; [`in_process`] is for a process that composes both
//! ends. Its messages live in memory: what is published and not yet settled is lost with the process,
//! and the outbox that feeds it must count a message as done only when the receiver's effect is stored.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

mod in_process;
mod letters;

pub use in_process::{InProcessPublisher, InProcessSource, in_process};
pub use letters::InProcessDeadLetters;

/// One message on the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event's id: the same for every redelivery.
    pub id: Uuid,
    /// What kind of event it is, which transports route by (`endpoint.<Kind>` in AMQP).
    pub kind: String,
    /// Messages of one key are delivered in the order they were published (the endpoint's id).
    pub key: String,
    /// Text headers: the trace context (`traceparent`, `tracestate`).
    pub headers: BTreeMap<String, String>,
    /// The body as published: a CloudEvent in JSON.
    pub body: Bytes,
}

/// A cause from beneath a transport.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The queue holds as much as it may; try again later.
    #[error("the queue is full")]
    Full,
    /// There is no receiver any more.
    #[error("the bus is closed")]
    Closed,
    /// The broker refused or returned the message.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// The broker cannot be reached, or the confirm did not come.
    #[error("the broker is not available")]
    Unavailable(#[source] Cause),
}

/// Why there is no next delivery.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Every publisher is gone and everything was settled.
    #[error("the bus is closed")]
    Closed,
    /// The broker cannot be reached; the source may be asked again.
    #[error("the broker is not available")]
    Unavailable(#[source] Cause),
}

/// A delivery could not be settled: it will come again.
#[derive(Debug, thiserror::Error)]
#[error("the delivery could not be settled")]
pub struct SettleError(#[source] pub Cause);

/// Takes messages.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes in order and waits for the confirm of each. The answers are in the order of `batch`
    /// and of its length. After a failure, the later messages of the same key are not published either:
    /// they would overtake.
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>>;
}

/// A message that nobody took, for a queue that somebody looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The message's id: the same when it is sent again.
    pub id: Uuid,
    /// The queue's name at the broker.
    pub queue: String,
    /// What became of it: text headers.
    pub headers: BTreeMap<String, String>,
    /// The message.
    pub body: Bytes,
}

/// Takes dead letters.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Puts each letter into its queue, which is made when it is not there, and waits for the confirms.
    /// The answers are in the order of `letters` and of its length. A letter may arrive twice.
    async fn send(&self, letters: &[Letter]) -> Vec<Result<(), PublishError>>;
}

/// Hands out deliveries.
#[async_trait]
pub trait Source: Send {
    /// The next delivery. Cancelling the wait loses nothing.
    async fn next(&mut self) -> Result<Delivery, SourceError>;
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect is stored: forget the message.
    Ack,
    /// It could not be handled now: deliver it again.
    Retry,
    /// It can never be handled: keep it aside for a person (dead letter).
    Reject,
}

/// The transport's end of a delivery. Dropped without a call, the message must come back.
#[async_trait]
pub trait Settle: Send {
    /// Tells the transport what became of the delivery.
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<(), SettleError>;
}

/// A message on its way, to be settled once. Dropped unsettled, it is delivered again.
#[must_use = "a delivery that is dropped comes back"]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    settle: Box<dyn Settle>,
}

impl Delivery {
    /// A delivery by some transport.
    pub fn new(message: Message, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { message, redelivered, settle }
    }

    /// Its effect is stored.
    ///
    /// # Errors
    /// When the transport could not be told: the message comes again.
    pub async fn ack(self) -> Result<(), SettleError> {
        self.settle.settle(Outcome::Ack).await
    }

    /// Asks for it again.
    ///
    /// # Errors
    /// When the transport could not be told: the message comes again all the same.
    pub async fn retry(self) -> Result<(), SettleError> {
        self.settle.settle(Outcome::Retry).await
    }

    /// Puts it aside for good.
    ///
    /// # Errors
    /// When the transport could not be told: the message comes again.
    pub async fn reject(self) -> Result<(), SettleError> {
        self.settle.settle(Outcome::Reject).await
    }

    /// Takes the message out, leaving the settling to the returned half.
    pub fn into_parts(self) -> (Message, Box<dyn Settle>) {
        (self.message, self.settle)
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.message.id)
            .field("kind", &self.message.kind)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
