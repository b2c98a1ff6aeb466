//! The bus inside one process: a bounded queue in memory.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tracing::error;

use super::{
    Delivery, Message, Outcome, PublishError, Publisher, Settle, SettleError, Source, SourceError,
};

/// A queue that holds at most `capacity` messages, counting those delivered and not yet settled.
pub fn in_process(capacity: usize) -> (InProcessPublisher, InProcessSource) {
    let shared = Arc::new(Shared {
        capacity,
        state: Mutex::new(State { publishers: 1, open: true, ..State::default() }),
        changed: Notify::new(),
    });
    (InProcessPublisher(Arc::clone(&shared)), InProcessSource(shared))
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    /// Poked when a message waits or the last publisher goes. There is one source, so one waiter.
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Queued>,
    /// Handed out and not yet settled.
    out: usize,
    /// Counts messages as published: one that comes back finds its place by it.
    published: u64,
    rejected: u64,
    publishers: usize,
    /// Whether the source still exists.
    open: bool,
}

struct Queued {
    number: u64,
    message: Message,
    redelivered: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts a message back before everything that was published after it: at the head, unless
    /// earlier ones came back before it.
    fn give_back(&mut self, queued: Queued) {
        let at = self.waiting.partition_point(|other| other.number < queued.number);
        self.waiting.insert(at, queued);
    }
}

/// The publishing end; clones feed the same queue.
pub struct InProcessPublisher(Arc<Shared>);

impl InProcessPublisher {
    /// How many messages were rejected since the start.
    pub fn rejected(&self) -> u64 {
        self.0.state().rejected
    }

    /// How many messages are in the queue, delivered but unsettled ones included.
    pub fn depth(&self) -> usize {
        let state = self.0.state();
        state.waiting.len() + state.out
    }
}

impl Clone for InProcessPublisher {
    fn clone(&self) -> Self {
        self.0.state().publishers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InProcessPublisher {
    fn drop(&mut self) {
        self.0.state().publishers -= 1;
        self.0.changed.notify_one();
    }
}

#[async_trait]
impl Publisher for InProcessPublisher {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut state = self.0.state();
        let mut held_up = BTreeSet::new();
        let mut answers = Vec::with_capacity(batch.len());
        for message in batch {
            let full = state.waiting.len() + state.out >= self.0.capacity;
            answers.push(if !state.open {
                Err(PublishError::Closed)
            } else if full || held_up.contains(&message.key) {
                held_up.insert(&message.key); // A later one of this key may not overtake it.
                Err(PublishError::Full)
            } else {
                let number = state.published;
                state.published += 1;
                let message = message.clone();
                state.waiting.push_back(Queued { number, message, redelivered: false });
                Ok(())
            });
        }
        drop(state);
        self.0.changed.notify_one();
        answers
    }
}

/// The receiving end. Dropped, it closes the queue.
pub struct InProcessSource(Arc<Shared>);

#[async_trait]
impl Source for InProcessSource {
    async fn next(&mut self) -> Result<Delivery, SourceError> {
        loop {
            {
                let mut state = self.0.state();
                if let Some(queued) = state.waiting.pop_front() {
                    state.out += 1;
                    let (message, redelivered) = (queued.message.clone(), queued.redelivered);
                    let receipt = Receipt { shared: Arc::clone(&self.0), queued: Some(queued) };
                    return Ok(Delivery::new(message, redelivered, Box::new(receipt)));
                }
                // What is out may still come back.
                if state.publishers == 0 && state.out == 0 {
                    return Err(SourceError::Closed);
                }
            }
            // The poke is kept when nobody waits, so none is lost between the look and the wait.
            self.0.changed.notified().await;
        }
    }
}

impl Drop for InProcessSource {
    fn drop(&mut self) {
        self.0.state().open = false;
    }
}

/// Knows the message that is out, and gives it back unless it was settled.
struct Receipt {
    shared: Arc<Shared>,
    queued: Option<Queued>,
}

#[async_trait]
impl Settle for Receipt {
    async fn settle(mut self: Box<Self>, outcome: Outcome) -> Result<(), SettleError> {
        if outcome == Outcome::Retry {
            return Ok(()); // Dropping the receipt gives it back.
        }
        let Some(queued) = self.queued.take() else { return Ok(()) };
        let mut state = self.shared.state();
        state.out -= 1;
        if outcome == Outcome::Reject {
            state.rejected += 1;
            let (id, kind, key) = (queued.message.id, &queued.message.kind, &queued.message.key);
            error!(%id, kind, key, "a message was rejected and is gone");
        }
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let Some(mut queued) = self.queued.take() else { return };
        queued.redelivered = true;
        let mut state = self.shared.state();
        state.out -= 1;
        state.give_back(queued);
        drop(state);
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn message(number: u128, key: &str) -> Message {
        Message {
            id: Uuid::from_u128(number),
            kind: "Connect".to_owned(),
            key: key.to_owned(),
            headers: BTreeMap::new(),
            body: Bytes::from_static(b"{}"),
        }
    }

    async fn next(source: &mut InProcessSource) -> (u128, Delivery) {
        let delivery = source.next().await.expect("a delivery");
        (delivery.message.id.as_u128(), delivery)
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_an_acknowledged_one_is_gone() {
        let (publisher, mut source) = in_process(8);
        let answers = publisher.publish(&[message(1, "a"), message(2, "a")]).await;
        assert!(answers.iter().all(Result::is_ok));
        for expected in [1, 2] {
            let (number, delivery) = next(&mut source).await;
            assert_eq!((number, delivery.redelivered), (expected, false));
            delivery.ack().await.expect("settled");
        }
        assert_eq!(publisher.depth(), 0);
        drop(publisher);
        assert!(matches!(source.next().await, Err(SourceError::Closed)));
    }

    #[tokio::test]
    async fn a_retried_message_comes_before_later_ones_and_is_marked() {
        let (publisher, mut source) = in_process(8);
        publisher.publish(&[message(1, "a"), message(2, "a"), message(3, "a")]).await;
        let (_, first) = next(&mut source).await;
        let (_, second) = next(&mut source).await;
        second.retry().await.expect("settled");
        first.retry().await.expect("settled");
        for expected in [(1, true), (2, true), (3, false)] {
            let (number, delivery) = next(&mut source).await;
            assert_eq!((number, delivery.redelivered), expected);
            delivery.ack().await.expect("settled");
        }
    }

    #[tokio::test]
    async fn a_dropped_delivery_comes_back_even_after_the_publisher_is_gone() {
        let (publisher, mut source) = in_process(8);
        publisher.publish(&[message(1, "a")]).await;
        drop(publisher);
        drop(next(&mut source).await);
        let (number, delivery) = next(&mut source).await;
        assert_eq!((number, delivery.redelivered), (1, true));
        delivery.ack().await.expect("settled");
        assert!(matches!(source.next().await, Err(SourceError::Closed)));
    }

    #[tokio::test]
    async fn a_rejected_message_is_counted_and_does_not_come_back() {
        let (publisher, mut source) = in_process(8);
        publisher.publish(&[message(1, "a"), message(2, "b")]).await;
        next(&mut source).await.1.reject().await.expect("settled");
        assert_eq!(publisher.rejected(), 1);
        assert_eq!(next(&mut source).await.0, 2);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_unsettled_deliveries_count() {
        let (publisher, mut source) = in_process(2);
        let answers = publisher.publish(&[message(1, "a"), message(2, "b"), message(3, "c")]).await;
        assert!(matches!(answers[..], [Ok(()), Ok(()), Err(PublishError::Full)]), "{answers:?}");
        let (_, delivery) = next(&mut source).await;
        let answers = publisher.publish(&[message(4, "d")]).await;
        assert!(matches!(answers[..], [Err(PublishError::Full)]), "{answers:?}");
        delivery.ack().await.expect("settled");
        assert!(publisher.publish(&[message(4, "d")]).await[0].is_ok());
    }

    #[tokio::test]
    async fn a_waiting_source_wakes_for_a_message_and_a_closed_bus_refuses() {
        let (publisher, mut source) = in_process(2);
        let waiting = tokio::spawn(async move { next(&mut source).await.0 });
        publisher.publish(&[message(9, "a")]).await;
        assert_eq!(waiting.await.expect("no panic"), 9);
        let answers = publisher.publish(&[message(10, "a")]).await;
        assert!(matches!(answers[..], [Err(PublishError::Closed)]), "{answers:?}");
    }
}
