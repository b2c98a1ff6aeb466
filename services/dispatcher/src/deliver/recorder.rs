//! Writes down what came of attempts: as many as have come in by the time that the last batch is done.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use postern_runtime::backoff::Backoff;
use postern_runtime::clock::Clock;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::Verdict;
use crate::error::Error;
use crate::metrics::DeliveryMetrics;
use crate::store::Store;
use crate::store::deliveries::{self, DeliveryState, DisableAfter, Health, Record};
use crate::store::redrives::{self, RedriveRow};

/// Results of one statement.
const BATCH: usize = 256;
/// Results that wait for the recorder; beyond, attempts wait for it.
pub(super) const QUEUE: usize = 1024;
/// While the database is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// The result of an attempt, and what follows from it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) record: Record,
    pub(super) subscription: Uuid,
    pub(super) verdict: Verdict,
    /// Whether it counts for the subscription: confirmations don't.
    pub(super) counts: bool,
    /// Where a message goes that is given up.
    pub(super) redrive: Option<RedriveRow>,
}

/// Writes results down.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: DeliveryMetrics,
    /// Poked after each batch: what waited for these may go.
    pub(super) poke: Arc<Notify>,
    /// Poked when there is something for a queue.
    pub(super) redrive: Arc<Notify>,
    /// For how long a result is taken by the database.
    pub(super) lease: Duration,
    /// After how many failures in a row, over how long, a subscription is disabled.
    pub(super) disable_after: (i32, Duration),
}

impl Recorder {
    /// Records until every sender is gone.
    pub(super) async fn run(self, mut results: mpsc::Receiver<Done>) {
        let mut batch = Vec::with_capacity(BATCH);
        while results.recv_many(&mut batch, BATCH).await > 0 {
            self.flush(&batch).await;
            batch.clear();
            self.poke.notify_one();
        }
    }

    /// A result that is not recorded is an attempt made twice, so it is worth some patience; when the
    /// lease is over somebody else tries, and this result is not taken any more.
    async fn flush(&self, batch: &[Done]) {
        let deadline = Instant::now() + self.lease;
        let mut delays = AWAY.delays(crate::randomness());
        loop {
            match self.record(batch).await {
                Ok(recorded) => {
                    self.count(batch, &recorded);
                    self.note_health(batch, &recorded).await;
                    return;
                }
                Err(Error::Internal(error)) if batch.len() > 1 => {
                    warn!(%error, "a batch of results was not taken, recording them one by one");
                    for one in batch {
                        Box::pin(self.flush(std::slice::from_ref(one))).await;
                    }
                    return;
                }
                Err(error) if Instant::now() < deadline => {
                    warn!(%error, cause = ?error, "cannot record attempts, trying again");
                    sleep(delays.next().unwrap_or(AWAY.max)).await;
                }
                Err(error) => {
                    warn!(%error, results = batch.len(), "results are lost: those attempts will be made again");
                    return;
                }
            }
        }
    }

    async fn record(&self, batch: &[Done]) -> Result<HashSet<Uuid>, Error> {
        let records: Vec<Record> = batch.iter().map(|done| done.record.clone()).collect();
        let letters: Vec<&RedriveRow> =
            batch.iter().filter_map(|done| done.redrive.as_ref()).collect();
        if letters.is_empty() {
            let mut db = self.store.connection().await?;
            return Ok(deliveries::record(&mut db, &records).await?.into_iter().collect());
        }
        let mut tx = self.store.begin().await?;
        let recorded: HashSet<Uuid> =
            deliveries::record(&mut tx, &records).await?.into_iter().collect();
        for letter in letters {
            if recorded.contains(&letter.delivery_id) {
                redrives::insert(&mut tx, letter).await?;
            }
        }
        tx.commit().await?;
        self.redrive.notify_one();
        Ok(recorded)
    }

    fn count(&self, batch: &[Done], recorded: &HashSet<Uuid>) {
        for done in batch {
            if recorded.contains(&done.record.delivery) {
                self.metrics.ended(done.record.state);
            } else {
                debug!(delivery = %done.record.delivery, "it had passed to somebody else");
            }
        }
    }

    /// What is not written down here is written with the next result.
    async fn note_health(&self, batch: &[Done], recorded: &HashSet<Uuid>) {
        let all = health(batch, recorded);
        if all.is_empty() {
            return;
        }
        let now = self.clock.now();
        let (failures, over) = self.disable_after;
        let noted = async {
            let mut db = self.store.connection().await?;
            let after = DisableAfter { failures, since: now - over };
            Ok::<_, Error>(deliveries::note_health(&mut db, &all, now, after).await?)
        };
        match noted.await {
            Ok(disabled) => {
                for subscription in disabled {
                    info!(%subscription, "a subscription is disabled: its endpoint failed for long");
                    self.metrics.disabled();
                }
            }
            Err(error) => warn!(%error, cause = ?error, "cannot note how subscriptions do"),
        }
    }
}

/// What a batch says of each subscription, in the order of their ids, so that replicas lock them in one.
fn health(batch: &[Done], recorded: &HashSet<Uuid>) -> Vec<Health> {
    let mut all: BTreeMap<Uuid, Health> = BTreeMap::new();
    for done in batch.iter().filter(|done| done.counts) {
        if !recorded.contains(&done.record.delivery) {
            continue;
        }
        let ended_at: DateTime<Utc> = done.record.at;
        let entry = all.entry(done.subscription).or_insert_with(|| Health {
            subscription: done.subscription,
            taken_at: None,
            failures: 0,
            failed_at: None,
        });
        match (done.verdict, done.record.state) {
            (Verdict::Delivered, _) => {
                entry.taken_at = Some(ended_at);
                (entry.failures, entry.failed_at) = (0, None);
            }
            (_, DeliveryState::DeadLettered) => {
                entry.failures += 1;
                entry.failed_at.get_or_insert(ended_at);
            }
            _ => {}
        }
    }
    all.into_values().filter(|one| one.taken_at.is_some() || one.failures > 0).collect()
}
