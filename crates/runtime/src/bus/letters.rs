//! Dead letters inside one process: kept in memory, the newest of each queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{DeadLetters, Letter, PublishError};

/// Letters of a queue; beyond, the oldest goes.
const KEPT: usize = 1000;

/// Queues in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InProcessDeadLetters(Arc<Mutex<BTreeMap<String, VecDeque<Letter>>>>);

impl InProcessDeadLetters {
    /// The letters in a queue, the oldest first.
    pub fn letters(&self, queue: &str) -> Vec<Letter> {
        let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.get(queue).map(|letters| letters.iter().cloned().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl DeadLetters for InProcessDeadLetters {
    async fn send(&self, letters: &[Letter]) -> Vec<Result<(), PublishError>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in letters {
            let queue = queues.entry(letter.queue.clone()).or_default();
            if queue.len() == KEPT {
                queue.pop_front();
            }
            queue.push_back(letter.clone());
        }
        letters.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_keeps_its_newest_letters() {
        let dead = InProcessDeadLetters::default();
        let letter = |number: usize| Letter {
            id: uuid::Uuid::from_u128(number as u128),
            queue: "q".to_owned(),
            headers: BTreeMap::new(),
            body: bytes::Bytes::new(),
        };
        let all: Vec<Letter> = (0..KEPT + 1).map(letter).collect();
        assert!(dead.send(&all).await.iter().all(Result::is_ok));
        let kept = dead.letters("q");
        assert_eq!((kept.len(), kept[0].id.as_u128()), (KEPT, 1));
        assert!(dead.letters("other").is_empty());
    }
}
