//! The outbox relay: takes events out of the outbox and puts them on the bus (design 3).
//!
//! At least once, and in order per endpoint: an event is marked when the bus has confirmed it, and an
//! endpoint whose event failed waits with all its later ones while others go on. One replica relays at
//! a time, under a lease; what one that lost its lease has still published is published again by the
//! next, under the same ids, which receivers drop.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{Message, PublishError, Publisher};
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::sync::atomic::AtomicU64;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, debug, info_span, warn};
use uuid::Uuid;

use super::pause;
use crate::error::Result;
use crate::pokes::Pokes;
use crate::store::lease::{self, Held};
use crate::store::{Store, reconcile, relay};

/// The lease of the one that relays.
pub const LEASE: &str = "outbox-relay";
/// How long it lasts without being extended, unless told otherwise. Each pass extends it, and each
/// third of it while a batch is under way, so it need not outlast a slow broker: it is as long as
/// events may wait for a relay that was killed.
const LEASE_LASTING: Duration = Duration::from_secs(6);
/// For a batch to be published.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);
/// Events of a pass.
const BATCH: i64 = 256;
/// How often the relay looks by itself.
const LOOK: Duration = Duration::from_secs(1);
/// How long a published event is kept, for people who ask what happened.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How often published events are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(300);
/// Endpoints that wait after a failure, at most: beyond, the oldest failure is tried again.
const WAITING_MAX: usize = 10_000;

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RelayReport {
    /// Whether this replica relays.
    pub leads: bool,
    /// Events published and marked.
    pub published: u64,
    /// Events that the bus did not take.
    pub failed: u64,
    /// Whether the bus is away.
    pub away: bool,
    /// Whether there was a full batch, so that there may be more.
    pub full: bool,
    /// Events that wait after the pass.
    pub depth: i64,
    /// For how long the oldest has waited, in seconds.
    pub oldest_seconds: u64,
}

/// The relay's meters.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    depth: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    leads: Gauge,
    published: Counter,
    failed: Counter,
}

impl RelayMetrics {
    /// Registers under the caller's prefix, as in `postern_control_plane_outbox_depth`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self {
            depth: Gauge::default(),
            oldest: Gauge::default(),
            leads: Gauge::default(),
            published: Counter::default(),
            failed: Counter::default(),
        };
        registry.register("depth", "Events that wait to be published", this.depth.clone());
        registry.register(
            "oldest_seconds",
            "For how long the oldest event has waited",
            this.oldest.clone(),
        );
        registry.register("relaying", "1 where this replica relays", this.leads.clone());
        registry.register("published", "Events published", this.published.clone());
        registry.register("failed", "Events that the bus did not take", this.failed.clone());
        this
    }
}

/// Publishes what the outbox holds.
pub struct Relay {
    store: Store,
    publisher: Arc<dyn Publisher>,
    metrics: RelayMetrics,
    me: Uuid,
    lasting: Duration,
    held: Option<Held>,
    /// Endpoints whose event was not taken: how often, and when it is tried again.
    waiting: BTreeMap<String, (u32, Instant)>,
    backoff: Backoff,
    forgotten: Option<Instant>,
}

impl Relay {
    /// A relay from the outbox of `store` to `publisher`.
    pub fn new(store: Store, publisher: Arc<dyn Publisher>, metrics: RelayMetrics) -> Self {
        Self {
            store,
            publisher,
            metrics,
            me: Uuid::new_v4(),
            lasting: LEASE_LASTING,
            held: None,
            waiting: BTreeMap::new(),
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            forgotten: None,
        }
    }

    /// Replaces the waits between the tries after a failure.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Replaces the time that the lease lasts: longer than the time between two passes.
    #[must_use]
    pub fn lease(mut self, lasting: Duration) -> Self {
        self.lasting = lasting;
        self
    }

    /// Relays until `stop` is asked for.
    pub async fn run(mut self, pokes: Pokes, stop: Stop) {
        let mut heard = pokes.of_outbox();
        let mut failures = 0;
        while !stop.is_stopping() {
            let wait = match self.pass().await {
                Ok(report) => {
                    debug!(?report, "relayed");
                    failures = if report.away { failures + 1 } else { 0 };
                    match (report.full && report.failed == 0, report.away) {
                        (true, _) => Duration::ZERO,
                        (false, true) => self.backoff.delay(failures - 1, &mut rand::rng()),
                        (false, false) => LOOK,
                    }
                }
                Err(error) => {
                    warn!(%error, "the outbox could not be read");
                    failures += 1;
                    self.backoff.delay(failures - 1, &mut rand::rng())
                }
            };
            // While the bus is away, more events are no reason to try again sooner.
            let eager = failures == 0;
            tokio::select! {
                () = stop.stopped() => break,
                () = pause(&mut heard, wait), if eager => {}
                () = tokio::time::sleep(wait), if !eager => {}
            }
        }
        if let Err(error) = self.give_back().await {
            debug!(%error, "the relay's lease was not given back");
        }
    }

    /// Publishes one batch, if this replica is the one that relays.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn pass(&mut self) -> Result<RelayReport> {
        let mut report = RelayReport::default();
        let mut db = self.store.pool().acquire().await?;
        self.held = lease::take(&mut db, LEASE, self.me, self.lasting).await?;
        self.metrics.leads.set(i64::from(self.held.is_some()));
        let Some(held) = self.held else { return Ok(report) };
        report.leads = true;
        self.forget(&mut db).await?;
        let now = Instant::now();
        let waiting: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, (_, again))| *again > now)
            .map(|(endpoint, _)| endpoint.clone())
            .collect();
        let events = relay::claim(&mut db, &waiting, BATCH).await?;
        // The broker may take its time: the connection is for others meanwhile.
        drop(db);
        if !events.is_empty() {
            report.full = events.len() as i64 == BATCH;
            self.publish(held, events, &mut report).await?;
        }
        let mut db = self.store.pool().acquire().await?;
        let (depth, oldest) = relay::depth(&mut db).await?;
        (report.depth, report.oldest_seconds) = (depth, oldest.as_secs());
        self.metrics.depth.set(depth);
        self.metrics.oldest.set(oldest.as_secs_f64());
        Ok(report)
    }

    async fn publish(
        &mut self,
        held: Held,
        events: Vec<relay::Waiting>,
        report: &mut RelayReport,
    ) -> Result<()> {
        let messages: Vec<_> = events.into_iter().map(message).collect();
        let span = info_span!("relay", events = messages.len());
        let published = timeout(PUBLISH_PATIENCE, self.publisher.publish(&messages));
        let answers = tokio::select! {
            published = published.instrument(span) => published.unwrap_or_else(|_| {
                let late = || Err(PublishError::Unavailable("it did not answer in time".into()));
                messages.iter().map(|_| late()).collect()
            }),
            () = self.lost(held) => {
                // What was published already is published again by the other, to no effect.
                warn!("another replica relays now, leaving a batch to it");
                report.leads = false;
                self.metrics.leads.set(0);
                return Ok(());
            }
        };
        let mut done = Vec::with_capacity(messages.len());
        let mut stuck: HashSet<&str> = HashSet::new();
        for (message, answer) in messages.iter().zip(&answers) {
            // A transport that let an event overtake a failed one has it published again, later.
            if stuck.contains(message.key.as_str()) {
                report.failed += 1;
                continue;
            }
            match answer {
                Ok(()) => {
                    self.waiting.remove(&message.key);
                    done.push(message.id);
                }
                Err(error) => {
                    report.failed += 1;
                    stuck.insert(&message.key);
                    match error {
                        PublishError::Refused(reason) => {
                            warn!(
                                endpoint = message.key, event = %message.id, reason,
                                "an event was not taken, it and later ones of its endpoint wait"
                            );
                            self.wait(&message.key);
                        }
                        // What is away or full is so for every endpoint.
                        PublishError::Full
                        | PublishError::Closed
                        | PublishError::Unavailable(_) => report.away = true,
                    }
                }
            }
        }
        self.metrics.failed.inc_by(report.failed);
        if !done.is_empty() {
            let mut db = self.store.pool().acquire().await?;
            report.published = relay::mark(&mut db, held, &done).await?;
            self.metrics.published.inc_by(report.published);
        }
        Ok(())
    }

    /// Extends the lease again and again; ends when it is somebody else's. A database that is away
    /// is no reason to stop: the broker takes the events, and the mark is refused if the lease is lost.
    async fn lost(&self, held: Held) {
        loop {
            sleep(self.lasting / 3).await;
            let extended = async {
                let mut db = self.store.pool().acquire().await?;
                lease::take(&mut db, LEASE, self.me, self.lasting).await
            };
            match extended.await {
                Ok(now) if now == Some(held) => {}
                // Taken back after it had run out, it has another token: marks would be refused.
                Ok(_) => return,
                Err(error) => debug!(%error, "the relay's lease was not extended"),
            }
        }
    }

    /// Leaves an endpoint out for a while, for longer each time.
    fn wait(&mut self, endpoint: &str) {
        if self.waiting.len() >= WAITING_MAX && !self.waiting.contains_key(endpoint) {
            self.waiting.pop_first();
        }
        let (failures, again) =
            self.waiting.entry(endpoint.to_owned()).or_insert_with(|| (0, Instant::now()));
        *again = Instant::now() + self.backoff.delay(*failures, &mut rand::rng());
        *failures = failures.saturating_add(1);
    }

    async fn forget(&mut self, db: &mut sqlx::PgConnection) -> Result<()> {
        if self.forgotten.is_some_and(|at| at.elapsed() < FORGET_EVERY) {
            return Ok(());
        }
        let forgotten = reconcile::forget_events(db, KEPT).await?;
        if forgotten > 0 {
            debug!(forgotten, "forgot events that were published long ago");
        }
        self.forgotten = Some(Instant::now());
        Ok(())
    }

    /// Lets another replica relay at once.
    ///
    /// # Errors
    ///
    /// The database away: the lease runs out by itself.
    pub async fn give_back(&mut self) -> Result<()> {
        if let Some(held) = self.held.take() {
            let mut db = self.store.pool().acquire().await?;
            lease::give_back(&mut db, held).await?;
        }
        Ok(())
    }
}

/// An event as the bus carries it, in the trace of the request that caused it.
fn message(event: relay::Waiting) -> Message {
    let relay::Waiting { id, endpoint, kind, body, trace_context } = event;
    let span = info_span!("publish", endpoint, event = %id, kind, trace_id = tracing::field::Empty);
    telemetry::set_parent(&span, &trace_context);
    let mut headers = telemetry::inject(&span);
    if headers.is_empty() {
        headers = trace_context;
    }
    Message { id, kind, key: endpoint, headers, body: body.into_bytes().into() }
}
