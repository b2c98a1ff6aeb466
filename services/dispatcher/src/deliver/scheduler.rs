//! Claims what is due, has it tried, and records what came of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use postern_runtime::backoff::Backoff;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, debug, info, info_span, warn};
use uuid::Uuid;

use super::email::Mailer;
use super::message::{self, PublicUrl};
use super::sign::Signer;
use super::webhook::Webhooks;
use super::{Attempt, Verdict};
use crate::error::Error;
use crate::metrics::DeliveryMetrics;
use crate::plan::{self, Schedule};
use crate::store::Store;
use crate::store::deliveries::{self, ClaimRequest, Claimed, DeliveryState, Record};
use crate::store::messages::MessageKind;

/// How deliveries are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Attempts under way at a time.
    pub in_flight: usize,
    /// Attempts under way to one target at a time.
    pub per_target: usize,
    /// For how long a claimed delivery is nobody else's; longer than any attempt.
    pub lease: Duration,
    /// How often to look for what is due when nobody pokes.
    pub poll: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            in_flight: 256,
            per_target: 32,
            lease: Self::lease_of(Duration::from_secs(15)),
            poll: Duration::from_millis(500),
        }
    }
}

impl SchedulerConfig {
    /// The lease where no attempt takes longer than `longest`: as short as may be, since what a killed
    /// dispatcher had under way waits for its end.
    pub fn lease_of(longest: Duration) -> Duration {
        // To sign the message before and to record the result afterwards.
        longest + Duration::from_secs(5)
    }
}

/// What the scheduler works with. Clones share everything.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Where deliveries are kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Signs messages.
    pub signer: Signer,
    /// Posts to web addresses.
    pub webhooks: Webhooks,
    /// Sends mails; without a mail server their deliveries wait.
    pub mailer: Option<Mailer>,
    /// The base of links in messages.
    pub public: PublicUrl,
    /// Poked when something new is due.
    pub poke: Arc<Notify>,
    /// What is counted.
    pub metrics: DeliveryMetrics,
    /// The bounds.
    pub config: SchedulerConfig,
}

/// While the database is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// The claims under way, so that they can be given back.
type Claims = Arc<Mutex<HashMap<Uuid, String>>>;

impl Scheduler {
    /// Delivers until asked to stop; then finishes what is under way, and gives back what is cut.
    ///
    /// # Errors
    /// None: a database that is away is waited for.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let claims = Claims::default();
        let mut attempts: JoinSet<()> = JoinSet::new();
        let mut away = AWAY.delays(crate::randomness());
        while !stop.is_stopping() {
            // Before the claim, so that a poke during it is not lost.
            let poked = self.poke.notified();
            let taken = self.claim(&claims, &mut attempts).await;
            while attempts.try_join_next().is_some() {}
            let wait = match taken {
                Ok(taken) => {
                    away.reset();
                    if taken > 0 && self.room(&claims) > 0 {
                        continue; // There may be more.
                    }
                    self.config.poll
                }
                Err(error) => {
                    warn!(%error, cause = ?error, "cannot claim deliveries, trying again");
                    away.next().unwrap_or(self.config.poll)
                }
            };
            tokio::select! {
                () = poked => {}
                () = sleep(wait) => {}
                () = stop.stopped() => {}
            }
        }
        let finished = async { while attempts.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            () = stop.killed() => attempts.shutdown().await,
        }
        self.give_back(&claims).await;
        Ok(())
    }

    fn room(&self, claims: &Claims) -> usize {
        let under_way = claims.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.config.in_flight.saturating_sub(under_way)
    }

    async fn claim(&self, claims: &Claims, attempts: &mut JoinSet<()>) -> Result<usize, Error> {
        let limit = self.room(claims);
        if limit == 0 {
            return Ok(0);
        }
        let mut busy: HashMap<String, i64> = HashMap::new();
        for target in claims.lock().unwrap_or_else(PoisonError::into_inner).values() {
            *busy.entry(target.clone()).or_default() += 1;
        }
        let (targets, busy): (Vec<String>, Vec<i64>) = busy.into_iter().unzip();
        let now = self.clock.now();
        let request = ClaimRequest {
            now,
            lease_until: now + self.config.lease,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            per_target: i64::try_from(self.config.per_target).unwrap_or(i64::MAX),
            targets: &targets,
            busy: &busy,
        };
        let mut db = self.store.connection().await?;
        let claimed = deliveries::claim(&mut db, &request).await?;
        drop(db);
        let taken = claimed.len();
        for claimed in claimed {
            let claim = claimed.claim;
            claims
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(claim, claimed.target.clone());
            let (scheduler, claims) = (self.clone(), Arc::clone(claims));
            attempts.spawn(async move {
                scheduler.work(claimed).await;
                claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&claim);
                // Its place is free, and what waited for this first attempt may go.
                scheduler.poke.notify_one();
            });
        }
        Ok(taken)
    }

    /// One attempt, from the claim to the record.
    async fn work(&self, claimed: Claimed) {
        let kind = MessageKind::from_text(&claimed.kind);
        let span = info_span!(
            "delivery attempt",
            trace_id = tracing::field::Empty,
            delivery = %claimed.id,
            message = %claimed.message_id,
            number = claimed.attempts + 1,
            protocol = %claimed.protocol,
            status = tracing::field::Empty,
        );
        telemetry::set_parent(&span, &claimed.trace.0);
        let work = async {
            let Some(kind) = kind.filter(|kind| wanted(*kind, &claimed.subscription_state)) else {
                self.abandon(&claimed).await;
                return;
            };
            let (started_at, began) = (self.clock.now(), Instant::now());
            let effective = if claimed.protocol.starts_with("http") {
                plan::effective(
                    claimed.topic_delivery_policy.as_deref(),
                    claimed.delivery_policy.as_deref(),
                )
            } else {
                plan::Effective { schedule: Schedule::MAIL, content_type: None }
            };
            let attempt = self.attempt(&claimed, kind, effective.content_type.as_deref()).await;
            let took = began.elapsed();
            tracing::Span::current().record("status", attempt.status);
            self.metrics.attempt(&claimed.protocol, attempt.verdict, took);
            self.settle(&claimed, &effective.schedule, &attempt, started_at, took).await;
        };
        work.instrument(span).await;
    }

    async fn attempt(
        &self,
        claimed: &Claimed,
        kind: MessageKind,
        content_type: Option<&str>,
    ) -> Attempt {
        let raw = claimed.raw && kind == MessageKind::Notification;
        let rendered = if claimed.protocol == "email" || raw {
            Ok(None)
        } else {
            message::render(claimed, kind, &self.signer, &self.public).await.map(Some)
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(error) => {
                warn!(%error, cause = ?error, "a message cannot be signed");
                return Attempt::failed(Verdict::Retry, "the message could not be signed");
            }
        };
        match claimed.protocol.as_str() {
            "http" | "https" => {
                let body = rendered.unwrap_or_else(|| claimed.body.clone());
                self.webhooks.post(claimed, kind, body, content_type).await
            }
            _ => match &self.mailer {
                Some(mailer) => mailer.send(claimed, kind, rendered, &self.public).await,
                None => Attempt::failed(Verdict::Retry, "no mail server is configured"),
            },
        }
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        schedule: &Schedule,
        attempt: &Attempt,
        started_at: chrono::DateTime<Utc>,
        took: Duration,
    ) {
        let now = self.clock.now();
        let retry = u32::try_from(claimed.attempts).unwrap_or(u32::MAX);
        let delay = schedule.delay(retry, rand::rng().random());
        let (state, at) = match (attempt.verdict, delay) {
            (Verdict::Delivered, _) => (DeliveryState::Delivered, now),
            (Verdict::Retry, Some(delay)) => (DeliveryState::Pending, now + delay),
            (Verdict::Retry, None) | (Verdict::Permanent, _) => (DeliveryState::DeadLettered, now),
        };
        match state {
            DeliveryState::Delivered => debug!(status = attempt.status, "delivered"),
            DeliveryState::Pending => {
                info!(status = attempt.status, error = %attempt.error, next = %at, "will be retried");
            }
            _ => info!(status = attempt.status, error = %attempt.error, "given up"),
        }
        let record = Record {
            delivery: claimed.id,
            claim: claimed.claim,
            state,
            at,
            started_at,
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            status: attempt.status,
            error: &attempt.error,
            address: &attempt.address,
        };
        // A result that is not recorded is an attempt made twice, so it is worth some patience; when
        // the lease is over somebody else tries, and this result is not taken any more.
        let patience = timeout(self.config.lease, async {
            let mut delays = AWAY.delays(crate::randomness());
            loop {
                match self.record(&record).await {
                    Ok(taken) => return taken,
                    Err(error) => {
                        warn!(%error, cause = ?error, "cannot record an attempt, trying again");
                        sleep(delays.next().unwrap_or(AWAY.max)).await;
                    }
                }
            }
        });
        match patience.await {
            Ok(true) => self.metrics.ended(state),
            Ok(false) => debug!("the delivery had passed to somebody else"),
            Err(_) => warn!("the result of an attempt is lost: it will be made again"),
        }
    }

    async fn record(&self, record: &Record<'_>) -> Result<bool, Error> {
        let mut db = self.store.connection().await?;
        Ok(deliveries::record(&mut db, record).await?)
    }

    async fn abandon(&self, claimed: &Claimed) {
        debug!("the subscription ended before its message was sent");
        let abandoned = async {
            let mut db = self.store.connection().await?;
            deliveries::abandon(&mut db, claimed.claim, self.clock.now()).await
        };
        if let Err(error) = abandoned.await {
            // Its lease ends, and whoever claims it then comes to the same end.
            warn!(%error, "cannot drop a delivery");
        }
    }

    async fn give_back(&self, claims: &Claims) {
        let claims: Vec<Uuid> = claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(id, _)| id)
            .collect();
        if claims.is_empty() {
            return;
        }
        let released = async {
            let mut db = self.store.connection().await?;
            deliveries::release(&mut db, &claims, self.clock.now()).await
        };
        match timeout(Duration::from_secs(1), released).await {
            Ok(Ok(())) => info!(deliveries = claims.len(), "gave deliveries back"),
            Ok(Err(error)) => warn!(%error, "deliveries come back when their leases end"),
            Err(_) => warn!("deliveries come back when their leases end"),
        }
    }
}

/// Whether a subscription in this state is to get a message of this kind.
fn wanted(kind: MessageKind, subscription_state: &str) -> bool {
    match kind {
        MessageKind::Notification => subscription_state == "confirmed",
        MessageKind::SubscriptionConfirmation => subscription_state == "pending",
        MessageKind::UnsubscribeConfirmation => subscription_state == "ended",
    }
}
