//! Claims what is due in batches, has it tried, and hands on what came of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use postern_runtime::backoff::Backoff;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use rand::Rng as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, debug, info, info_span, warn};
use uuid::Uuid;

use super::email::Mailer;
use super::message::{self, PublicUrl};
use super::recorder::{Done, QUEUE, Recorder};
use super::redrive::queue_of;
use super::sign::keys::SigningKeys;
use super::targets::Targets;
use super::webhook::Webhooks;
use super::{Attempt, Verdict};
use crate::error::Error;
use crate::metrics::DeliveryMetrics;
use crate::plan::{self, Effective, Schedule};
use crate::store::Store;
use crate::store::deliveries::{self, ClaimRequest, Claimed, DeliveryState, Held, Record};
use crate::store::messages::MessageKind;
use crate::store::redrives::RedriveRow;

/// How deliveries are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Attempts under way at a time, without those that take long.
    pub in_flight: usize,
    /// Attempts under way to one target at a time, at most.
    pub per_target: usize,
    /// For how long a claimed delivery is nobody else's; longer than any attempt.
    pub lease: Duration,
    /// How often to look for what is due when nobody pokes.
    pub poll: Duration,
    /// A subscription is disabled when nothing was taken for so long, and ten
    /// messages were given up.
    pub disable_after: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            in_flight: 256,
            per_target: 32,
            lease: Self::lease_of(Duration::from_secs(15)),
            poll: Duration::from_millis(500),
            disable_after: Duration::from_secs(5 * 24 * 3600),
        }
    }
}

/// How many messages in a row must be given up before a subscription is disabled.
pub(super) const DISABLE_FAILURES: i32 = 10;

impl SchedulerConfig {
    /// The lease where no attempt takes longer than `longest`: as short as may be, since what a killed
    /// dispatcher had under way waits for its end.
    pub fn lease_of(longest: Duration) -> Duration {
        // To sign the message before, to read an answer's body and to record the result afterwards.
        longest + Duration::from_secs(8)
    }
}

/// What the scheduler works with. Clones share everything.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Where deliveries are kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What signs messages.
    pub keys: SigningKeys,
    /// Posts to web addresses.
    pub webhooks: Webhooks,
    /// Sends mails; without a mail server their deliveries wait.
    pub mailer: Option<Mailer>,
    /// The base of links in messages.
    pub public: PublicUrl,
    /// Poked when something new is due.
    pub poke: Arc<Notify>,
    /// Poked when something is to go to a queue.
    pub redrive: Arc<Notify>,
    /// What is counted.
    pub metrics: DeliveryMetrics,
    /// The bounds.
    pub config: SchedulerConfig,
}

/// While the database is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// Claims come no closer than this: what comes in meanwhile is claimed together.
const GAP: Duration = Duration::from_millis(2);
/// For how long a full house is waited for.
const FULL: Duration = Duration::from_millis(20);
/// How often it is looked up how far back the claims must look; more seldom when that takes long.
const LOOK_BACK: Duration = Duration::from_secs(5);
/// What may be written but not yet visible is younger than this.
const UNSEEN: Duration = Duration::from_secs(600);
/// What has waited for a target whose circuit was open all the time is given up after this: as long as
/// retries may last (spec 8.4), for mail longer.
const PATIENCE: Duration = Duration::from_secs(3600);
const MAIL_PATIENCE: Duration = Duration::from_secs(7 * 3600);
/// Deliveries that are given up in one statement.
const GIVE_UP_BATCH: i64 = 5000;

/// How far back claims look.
struct Back {
    since: DateTime<Utc>,
    again: Instant,
}

/// One run of the scheduler.
#[derive(Clone)]
struct Run {
    scheduler: Scheduler,
    targets: Arc<Mutex<Targets>>,
    results: mpsc::Sender<Done>,
}

impl Scheduler {
    /// Delivers until asked to stop; then finishes what is under way, and gives back what is cut.
    ///
    /// # Errors
    /// None: a database that is away is waited for.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let recorder = Recorder {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            poke: Arc::clone(&self.poke),
            redrive: Arc::clone(&self.redrive),
            lease: self.config.lease,
            disable_after: (DISABLE_FAILURES, self.config.disable_after),
        };
        let (results, done) = mpsc::channel(QUEUE);
        let mut recording = JoinSet::new();
        recording.spawn(recorder.run(done));
        let targets = Targets::new(self.config.in_flight, self.config.per_target);
        let run = Run { scheduler: self, targets: Arc::new(Mutex::new(targets)), results };
        let mut attempts = JoinSet::new();
        run.go(&mut attempts, &stop).await;

        let finished = async { while attempts.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => {}
            () = stop.killed() => attempts.shutdown().await,
        }
        run.give_back().await;
        drop(run); // The last sender of results.
        tokio::select! {
            _ = recording.join_next() => {}
            () = stop.killed() => recording.shutdown().await,
        }
        Ok(())
    }
}

impl Run {
    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn go(&self, attempts: &mut JoinSet<()>, stop: &Stop) {
        let Scheduler { config, poke, .. } = &self.scheduler;
        let mut away = AWAY.delays(crate::randomness());
        let mut back = Back { since: DateTime::<Utc>::MIN_UTC, again: Instant::now() };
        let enough = (config.in_flight / 4).max(1);
        while !stop.is_stopping() {
            // Before the claim, so that a poke during it is not lost.
            let poked = poke.notified();
            let taken = self.pass(&mut back, attempts).await;
            while attempts.try_join_next().is_some() {}
            let (wait, gap) = match taken {
                Ok(taken) => {
                    away.reset();
                    let room = self.targets().room(Instant::now());
                    if taken >= enough && room >= enough {
                        continue; // There may be more.
                    }
                    // Claiming a few at a time costs as much as claiming many.
                    (config.poll, if room < enough { FULL } else { GAP })
                }
                Err(error) => {
                    warn!(%error, cause = ?error, "cannot claim deliveries, trying again");
                    (away.next().unwrap_or(config.poll), GAP)
                }
            };
            let rest = async {
                sleep(gap).await;
                tokio::select! {
                    () = poked => {}
                    () = sleep(wait) => {}
                }
            };
            tokio::select! {
                () = rest => {}
                () = stop.stopped() => {}
            }
        }
    }

    /// One claim; says how many deliveries it found.
    async fn pass(&self, back: &mut Back, attempts: &mut JoinSet<()>) -> Result<usize, Error> {
        self.look_back(back).await?;
        let Scheduler { config, clock, store, metrics, .. } = &self.scheduler;
        let (limit, first, (targets, places)) = {
            let targets = self.targets();
            let now = Instant::now();
            metrics.shows(targets.under_way(), targets.open());
            (targets.room(now), targets.first_places(), targets.places(now))
        };
        if limit == 0 {
            return Ok(0);
        }
        let now = clock.now();
        let request = ClaimRequest {
            now,
            lease_until: now + config.lease,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            per_target: i64::try_from(first).unwrap_or(i64::MAX),
            targets: &targets,
            places: &places,
            since: back.since,
        };
        let mut db = store.connection().await?;
        let claimed = deliveries::claim(&mut db, &request).await?;
        drop(db);
        let taken = claimed.len();
        let claimed: Vec<(Claimed, Effective)> = claimed.into_iter().map(with_effective).collect();
        let claimed = self.pace(claimed, now).await?;
        for (claimed, effective) in claimed {
            let held = claimed.held();
            self.targets().begin(held, &claimed.target, Instant::now());
            let run = self.clone();
            attempts.spawn(async move { run.work(claimed, effective).await });
        }
        Ok(taken)
    }

    /// Finds out how old the oldest is that is on its way: older days are not looked at. And gives up
    /// what has waited for too long.
    async fn look_back(&self, back: &mut Back) -> Result<(), Error> {
        let began = Instant::now();
        if began < back.again {
            return Ok(());
        }
        let now = self.scheduler.clock.now();
        let mut db = self.scheduler.store.connection().await?;
        let oldest = deliveries::oldest_pending(&mut db).await?;
        let unseen = now - UNSEEN;
        back.since = oldest.map_or(unseen, |oldest| oldest.min(unseen));
        let silent = self.targets().silent_for(PATIENCE, began);
        for target in silent {
            let patience = if target.contains(':') { PATIENCE } else { MAIL_PATIENCE };
            let why = "its target did not answer for too long, and was not tried any more";
            let before = now - patience;
            let given_up =
                deliveries::give_up(&mut db, &target, before, now, GIVE_UP_BATCH, why).await?;
            if given_up > 0 {
                info!(target, given_up, "gave up what waited for a target that does not answer");
                self.scheduler.redrive.notify_one();
            }
        }
        back.again = Instant::now() + LOOK_BACK.max(began.elapsed() * 50);
        Ok(())
    }

    /// Gives back what its subscription's throttle doesn't let through now, each to a moment of its own.
    async fn pace(
        &self,
        claimed: Vec<(Claimed, Effective)>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Claimed, Effective)>, Error> {
        let mut asked: HashMap<Uuid, (u32, i32)> = HashMap::new();
        for (claimed, effective) in &claimed {
            if let Some(rate) = effective.max_receives_per_second.filter(|_| !claimed.paced) {
                asked.entry(claimed.subscription_id).or_insert((rate, 0)).1 += 1;
            }
        }
        if asked.is_empty() {
            return Ok(claimed);
        }
        let mut db = self.scheduler.store.connection().await?;
        let mut next: HashMap<Uuid, (DateTime<Utc>, Duration)> = HashMap::new();
        for (subscription, (rate, count)) in asked {
            let apart = Duration::from_secs(1) / rate.max(1);
            let first = deliveries::reserve(&mut db, subscription, now, apart, count).await?;
            next.insert(subscription, (first, apart));
        }
        let mut go = Vec::with_capacity(claimed.len());
        let (mut held, mut at): (Vec<Held>, Vec<DateTime<Utc>>) = Default::default();
        for (claimed, effective) in claimed {
            let moment = match next.get_mut(&claimed.subscription_id) {
                Some((moment, apart)) if !claimed.paced => {
                    let own = *moment;
                    *moment += *apart;
                    own
                }
                _ => now,
            };
            if moment <= now {
                go.push((claimed, effective));
            } else {
                held.push(claimed.held());
                at.push(moment);
            }
        }
        if !held.is_empty() {
            deliveries::postpone(&mut db, &held, &at).await?;
        }
        Ok(go)
    }

    /// One attempt, from the claim to its result.
    async fn work(&self, claimed: Claimed, effective: Effective) {
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
                self.targets().end(claimed.claim, None, Instant::now());
                return;
            };
            let (started_at, began) = (self.scheduler.clock.now(), Instant::now());
            let content_type = effective.content_type.as_deref();
            let (attempt, text) = self.attempt(&claimed, kind, content_type, started_at).await;
            let took = began.elapsed();
            tracing::Span::current().record("status", attempt.status);
            self.scheduler.metrics.attempt(&claimed.protocol, attempt.verdict, took);
            self.targets().end(claimed.claim, Some(attempt.answer()), Instant::now());
            let done =
                self.settle(claimed, kind, &effective.schedule, attempt, text, started_at, took);
            // The recorder ends after the last attempt.
            let _ = self.results.send(done).await;
        };
        work.instrument(span).await;
    }

    /// Makes an attempt; answers the text too that was sent.
    async fn attempt(
        &self,
        claimed: &Claimed,
        kind: MessageKind,
        content_type: Option<&str>,
        now: DateTime<Utc>,
    ) -> (Attempt, String) {
        let Scheduler { keys, public, webhooks, mailer, .. } = &self.scheduler;
        let raw = claimed.raw && kind == MessageKind::Notification;
        let rendered = if claimed.protocol == "email" || raw {
            Ok(None)
        } else {
            message::render(claimed, kind, &keys.current(), public).await.map(Some)
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(error) => {
                warn!(%error, cause = ?error, "a message cannot be signed");
                let why = "the message could not be signed";
                return (Attempt::failed(Verdict::Retry, why), claimed.body.clone());
            }
        };
        let text = || rendered.clone().unwrap_or_else(|| claimed.body.clone());
        // Only what may go to a queue is kept beyond the attempt.
        let kept = if claimed.redrive_policy.is_some() { text() } else { String::new() };
        let attempt = match claimed.protocol.as_str() {
            "http" | "https" => {
                let body = rendered.unwrap_or_else(|| claimed.body.clone());
                webhooks.post(claimed, kind, body, content_type, now).await
            }
            _ => match mailer {
                Some(mailer) => mailer.send(claimed, kind, rendered, public).await,
                None => Attempt::failed(Verdict::Retry, "no mail server is configured"),
            },
        };
        (attempt, kept)
    }

    /// What follows from an attempt.
    #[expect(clippy::too_many_arguments, reason = "it is the end of one attempt")]
    fn settle(
        &self,
        claimed: Claimed,
        kind: MessageKind,
        schedule: &Schedule,
        attempt: Attempt,
        text: String,
        started_at: DateTime<Utc>,
        took: Duration,
    ) -> Done {
        let now = self.scheduler.clock.now();
        let retry = u32::try_from(claimed.attempts - claimed.replayed_after).unwrap_or_default();
        let delay = schedule.delay(retry, rand::rng().random());
        let (state, at) = match (attempt.verdict, delay) {
            (Verdict::Delivered, _) => (DeliveryState::Delivered, now),
            // Whoever asks for a longer wait gets it, within what a retry may take at most.
            (Verdict::Retry, Some(delay)) => {
                (DeliveryState::Pending, now + attempt.retry_after.unwrap_or_default().max(delay))
            }
            (Verdict::Retry, None) | (Verdict::Permanent, _) => (DeliveryState::DeadLettered, now),
        };
        match state {
            DeliveryState::Delivered => debug!(status = attempt.status, "delivered"),
            DeliveryState::Pending => {
                info!(status = attempt.status, error = %attempt.error, next = %at, "will be retried");
            }
            _ => info!(status = attempt.status, error = %attempt.error, "given up"),
        }
        let redrive = (state == DeliveryState::DeadLettered && kind == MessageKind::Notification)
            .then(|| claimed.redrive_policy.as_deref().and_then(queue_of))
            .flatten()
            .map(|queue_arn| RedriveRow {
                id: 0, // The database gives it one.
                delivery_id: claimed.id,
                message_id: claimed.message_id,
                topic_arn: claimed.topic_arn(),
                subscription_id: claimed.subscription_id,
                queue_arn,
                body: text,
                attempts: claimed.attempts + 1,
                status: attempt.status,
                error: attempt.error.clone(),
                given_up_at: now,
            });
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let record = Record {
            delivery: claimed.id,
            created_at: claimed.created_at,
            claim: claimed.claim,
            state,
            at,
            started_at,
            duration_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            status: attempt.status,
            // A text with a zero byte cannot be kept.
            error: attempt.error.replace('\0', ""),
            address: attempt.address,
            request_bytes: size(attempt.request_bytes),
            response_bytes: size(attempt.response_bytes),
            response: attempt.response,
        };
        Done {
            record,
            subscription: claimed.subscription_id,
            verdict: attempt.verdict,
            counts: claimed.subscription_state == "confirmed",
            redrive,
        }
    }

    async fn abandon(&self, claimed: &Claimed) {
        debug!("the subscription ended before its message was sent");
        let abandoned = async {
            let mut db = self.scheduler.store.connection().await?;
            deliveries::abandon(&mut db, claimed.held(), self.scheduler.clock.now()).await
        };
        if let Err(error) = abandoned.await {
            // Its lease ends, and whoever claims it then comes to the same end.
            warn!(%error, "cannot drop a delivery");
        }
    }

    async fn give_back(&self) {
        let held = self.targets().drain();
        if held.is_empty() {
            return;
        }
        let released = async {
            let mut db = self.scheduler.store.connection().await?;
            deliveries::release(&mut db, &held).await
        };
        match timeout(Duration::from_secs(1), released).await {
            Ok(Ok(())) => info!(deliveries = held.len(), "gave deliveries back"),
            Ok(Err(error)) => warn!(%error, "deliveries come back when their leases end"),
            Err(_) => warn!("deliveries come back when their leases end"),
        }
    }
}

fn with_effective(claimed: Claimed) -> (Claimed, Effective) {
    let effective = effective(&claimed);
    (claimed, effective)
}

/// What the policies say of a delivery.
fn effective(claimed: &Claimed) -> Effective {
    if claimed.protocol.starts_with("http") {
        plan::effective(
            claimed.topic_delivery_policy.as_deref(),
            claimed.delivery_policy.as_deref(),
        )
    } else {
        Effective { schedule: Schedule::MAIL, ..Effective::default() }
    }
}

/// Whether a subscription in this state is to get a message of this kind.
fn wanted(kind: MessageKind, subscription_state: &str) -> bool {
    match kind {
        MessageKind::Notification | MessageKind::Digest => subscription_state == "confirmed",
        MessageKind::SubscriptionConfirmation => subscription_state == "pending",
        MessageKind::UnsubscribeConfirmation => subscription_state == "ended",
    }
}
