//! One stream of one agent, from its Hello to its end.
//!
//! The session knows which generation the agent holds and offers what comes after it, one offer at a
//! time: while an answer is out, further changes gather into the next offer. Nothing here is needed
//! after the stream: a new one starts from the agent's Hello and the database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use postern_model::desired::HostState;
use postern_model::id::{EndpointId, HostId};
use postern_model::{Code, InvalidField, Refusal};
use postern_proto::agent::v1::follow_response::Message;
use postern_proto::agent::v1::{FollowRequest, FollowResponse};
use postern_proto::desired;
use postern_runtime::telemetry;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::{Status, Streaming};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::Fleet;
use super::enrolment::removed;
use super::message::{Applied, Hello, Report, Said};
use super::metrics::{Ending, EndingLabel, Offer, OfferLabel};
use crate::error::Error;
use crate::pokes::{HostPokes, Poke};
use crate::store::fleet::{Touched, advance};
use crate::store::state::{self, Since};
use crate::store::{interfaces, reports};

/// For the agent to introduce itself.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// For the agent to answer an offer: a host with thousands of addresses takes seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// How often a session looks by itself, should a poke have been lost.
const REFRESH: Duration = Duration::from_secs(5);
/// After a refused offer, before the whole state is offered again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Reports that may come at once, and how many a second after that. Agents report every few seconds,
/// and at once when something breaks.
const REPORTS_BURST: f64 = 20.0;
const REPORTS_PER_SECOND: f64 = 5.0;
/// Endpoints that are looked at again at the same time.
const SETTLING: usize = 4;

/// Why a session ends.
struct End {
    ending: Ending,
    status: Option<Status>,
}

impl End {
    fn quiet(ending: Ending) -> Self {
        Self { ending, status: None }
    }

    fn protocol(reason: impl Into<String>) -> Self {
        let refusal = Refusal::new(Code::InvalidParameter, reason);
        let status = postern_proto::status::status(&refusal);
        Self { ending: Ending::Protocol, status: Some(status) }
    }

    fn replaced() -> Self {
        let status = Status::aborted("a newer stream of this host has taken over");
        Self { ending: Ending::Replaced, status: Some(status) }
    }

    fn removed(host: HostId) -> Self {
        Self { ending: Ending::Removed, status: Some(removed(host).into()) }
    }
}

impl From<Error> for End {
    /// The agent comes back; until then it goes on with what it holds.
    fn from(error: Error) -> Self {
        Self { ending: Ending::Database, status: Some(error.into()) }
    }
}

impl From<InvalidField> for End {
    fn from(field: InvalidField) -> Self {
        let status = postern_proto::status::status(&field.into());
        Self { ending: Ending::Protocol, status: Some(status) }
    }
}

/// Serves one stream until it ends.
pub(super) async fn run(
    fleet: Fleet,
    host: HostId,
    mut inbound: Streaming<FollowRequest>,
    outbound: mpsc::Sender<Result<FollowResponse, Status>>,
) {
    // From before the Hello, so that no change falls between the first look and the first poke.
    let pokes = fleet.0.app.pokes.of_host(host);
    let end = match greet(&fleet, host, &mut inbound).await {
        Err(end) => end,
        Ok((session, hello)) => {
            info!(%host, session, version = hello.agent_version, "an agent is here");
            let mut run = Session {
                fleet: fleet.clone(),
                host,
                session,
                held: 0,
                whole: true,
                offered: None,
                not_before: None,
                reports: Allowance::full(),
                outbound: outbound.clone(),
            };
            let end = match run.follow(hello, &mut inbound, pokes).await {
                Ok(never) => match never {},
                Err(end) => end,
            };
            run.finish().await;
            end
        }
    };
    let End { ending, status } = end;
    info!(%host, ?ending, "the stream of an agent ended");
    fleet.0.metrics.ended.get_or_create(&EndingLabel { ending }).inc();
    if let Some(status) = status {
        // An agent that reads no more is gone already.
        let _ = outbound.try_send(Err(status));
    }
}

/// Reads the Hello and takes the host's session over.
async fn greet(
    fleet: &Fleet,
    host: HostId,
    inbound: &mut Streaming<FollowRequest>,
) -> Result<(i64, Hello), End> {
    let first = timeout(HELLO_PATIENCE, inbound.message()).await;
    let first = first.map_err(|_| End::protocol("no Hello came in time"))?;
    let said = match first {
        Ok(Some(message)) => Said::try_from(message)?,
        Ok(None) | Err(_) => return Err(End::quiet(Ending::Agent)),
    };
    let Said::Hello(hello) = said else {
        return Err(End::protocol("the first message must be Hello"));
    };
    let mut db = fleet.0.app.store.pool().acquire().await.map_err(Error::from)?;
    let begun = reports::begin(&mut db, host, &hello.agent_version, hello.generation).await?;
    let session = begun.ok_or_else(|| End::removed(host))?;
    drop(db);
    // The older stream of this host, here or on another replica, looks and ends.
    fleet.0.app.pokes.poke(Poke::Host(host));
    // A host that is back, or new, may take interfaces that wait for one.
    fleet.0.app.pokes.poke(Poke::Reconcile);
    Ok((session, hello))
}

/// An offer that the agent has not answered yet.
struct Offered {
    generation: i64,
    whole: bool,
    context: BTreeMap<String, String>,
    at: Instant,
}

struct Session {
    fleet: Fleet,
    host: HostId,
    session: i64,
    /// The generation that the agent holds.
    held: i64,
    /// Whether it needs the whole state.
    whole: bool,
    offered: Option<Offered>,
    /// After a refusal: when to offer again.
    not_before: Option<Instant>,
    reports: Allowance,
    outbound: mpsc::Sender<Result<FollowResponse, Status>>,
}

/// A session goes on until something ends it.
enum Never {}

impl Session {
    async fn follow(
        &mut self,
        hello: Hello,
        inbound: &mut Streaming<FollowRequest>,
        mut pokes: HostPokes,
    ) -> Result<Never, End> {
        self.hello(hello).await?;
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let patience = self.offered.as_ref().map(|offered| {
                (offered.at + ANSWER_PATIENCE).saturating_duration_since(Instant::now())
            });
            let stop = &self.fleet.0.stop;
            tokio::select! {
                () = stop.stopped() => {
                    let status = Status::unavailable("this replica is stopping");
                    return Err(End { ending: Ending::Stopping, status: Some(status) });
                }
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        self.heard(message.try_into()?).await?;
                        self.look().await?;
                    }
                    Ok(None) => return Err(End::quiet(Ending::Agent)),
                    Err(status) if status.code() == tonic::Code::OutOfRange => {
                        return Err(End { ending: Ending::Protocol, status: Some(status) });
                    }
                    Err(_) => return Err(End::quiet(Ending::Agent)),
                },
                () = pokes.next() => self.look().await?,
                _ = refresh.tick() => self.look().await?,
                () = sleep(patience.unwrap_or_default()), if patience.is_some() => {
                    let status = Status::deadline_exceeded("an offer was not answered in time");
                    return Err(End { ending: Ending::Silent, status: Some(status) });
                }
            }
        }
    }

    /// What the agent holds may be what it should: then it needs no snapshot.
    async fn hello(&mut self, hello: Hello) -> Result<(), End> {
        let shared = &self.fleet.0;
        let state = state::read_all(&shared.app.store, &shared.naming, self.host).await?;
        let state = state.ok_or_else(|| End::removed(self.host))?;
        if hello.generation != state.generation {
            return Ok(());
        }
        if hello.digest != Some(state.digest()) {
            // Other content under a number is never taken, so it gets another number. This comes of
            // a version or a configuration of ours that renders the same rows in another way.
            let mut db = shared.app.store.pool().acquire().await.map_err(Error::from)?;
            reports::skip(&mut db, self.host).await?;
            return Ok(());
        }
        debug!(host = %self.host, generation = hello.generation, "the agent holds the newest");
        self.held = hello.generation;
        self.whole = false;
        let Hello { generation, interfaces, resolvers, .. } = hello;
        self.note(Applied { generation, interfaces, resolvers }, &BTreeMap::new()).await
    }

    /// Whether the stream is still the host's newest, and whether there is something to offer.
    async fn look(&mut self) -> Result<(), End> {
        let shared = &self.fleet.0;
        let mut db = shared.app.store.pool().acquire().await.map_err(Error::from)?;
        let present = reports::present(&mut db, self.host).await?;
        drop(db);
        let (session, generation) = present.ok_or_else(|| End::removed(self.host))?;
        if session != self.session {
            return Err(End::replaced());
        }
        let waiting = self.not_before.is_some_and(|at| at > Instant::now());
        if self.offered.is_some() || waiting || (generation == self.held && !self.whole) {
            return Ok(());
        }
        self.not_before = None;
        self.offer().await
    }

    async fn offer(&mut self) -> Result<(), End> {
        let (store, naming) = (&self.fleet.0.app.store, &self.fleet.0.naming);
        if !self.whole {
            let since = state::read_changes(store, naming, self.host, self.held).await?;
            match since.ok_or_else(|| End::removed(self.host))? {
                Since::Same => return Ok(()),
                Since::Changed(change, cause) => {
                    let (generation, objects) = (change.to, change.upserts.len());
                    let span = info_span!(
                        "offer", host = %self.host, generation, objects, whole = false,
                        trace_id = tracing::field::Empty
                    );
                    telemetry::set_parent(&span, &cause);
                    let context = telemetry::inject(&span);
                    let delta = desired::delta(&change, context.clone());
                    let sent = self.send(generation, context, Message::Delta(delta));
                    return sent.instrument(span).await;
                }
                Since::TooOld => self.whole = true,
            }
        }
        let state = state::read_all(store, naming, self.host).await?;
        let state: HostState = state.ok_or_else(|| End::removed(self.host))?;
        let (generation, objects) = (state.generation, state.objects().count());
        let span = info_span!("offer", host = %self.host, generation, objects, whole = true);
        let context = telemetry::inject(&span);
        let snapshot = desired::snapshot(&state, context.clone());
        self.send(generation, context, Message::Snapshot(snapshot)).instrument(span).await
    }

    async fn send(
        &mut self,
        generation: i64,
        context: BTreeMap<String, String>,
        message: Message,
    ) -> Result<(), End> {
        let whole = matches!(message, Message::Snapshot(_));
        let offer = if whole { Offer::Snapshot } else { Offer::Delta };
        let response = FollowResponse { message: Some(message) };
        // There is room: the offer before was answered.
        if self.outbound.send(Ok(response)).await.is_err() {
            return Err(End::quiet(Ending::Agent));
        }
        debug!("offered a state to a host");
        self.fleet.0.metrics.offers.get_or_create(&OfferLabel { offer }).inc();
        self.offered = Some(Offered { generation, whole, context, at: Instant::now() });
        Ok(())
    }

    async fn heard(&mut self, said: Said) -> Result<(), End> {
        match said {
            Said::Hello(_) => Err(End::protocol("Hello comes first, and only first")),
            Said::Applied(applied) => {
                let offered = self.answered(applied.generation)?;
                let span = info_span!(
                    "applied", host = %self.host, generation = applied.generation,
                    interfaces = applied.interfaces.len(), trace_id = tracing::field::Empty
                );
                telemetry::set_parent(&span, &offered.context);
                self.held = applied.generation;
                self.whole = false;
                self.note(applied, &offered.context).instrument(span).await
            }
            Said::Refused { generation, reason } => {
                let offered = self.answered(generation)?;
                warn!(host = %self.host, generation, reason, "a host refused its state");
                self.fleet.0.metrics.refusals.inc();
                if offered.whole {
                    // It may be the number that it does not take.
                    let app = &self.fleet.0.app;
                    let mut db = app.store.pool().acquire().await.map_err(Error::from)?;
                    reports::skip(&mut db, self.host).await?;
                }
                self.whole = true;
                self.not_before = Some(Instant::now() + REFUSED_PAUSE);
                self.alive().await
            }
            Said::Report(report) => {
                if !self.reports.take() {
                    let refusal =
                        Refusal::new(Code::RequestLimitExceeded, "reports come too often");
                    let status = postern_proto::status::status(&refusal);
                    return Err(End { ending: Ending::Protocol, status: Some(status) });
                }
                self.report(report).await
            }
        }
    }

    /// The offer that an answer is to.
    fn answered(&mut self, generation: i64) -> Result<Offered, End> {
        match self.offered.take() {
            Some(offered) if offered.generation == generation => {
                self.fleet.0.metrics.answer_seconds.observe(offered.at.elapsed().as_secs_f64());
                Ok(offered)
            }
            Some(offered) => Err(End::protocol(format!(
                "generation {generation} was answered, {} was offered",
                offered.generation
            ))),
            None => Err(End::protocol("an answer came to no offer")),
        }
    }

    async fn alive(&self) -> Result<(), End> {
        let app = &self.fleet.0.app;
        let mut db = app.store.pool().acquire().await.map_err(Error::from)?;
        if reports::seen(&mut db, self.host, self.session).await? {
            return Ok(());
        }
        Err(End::replaced())
    }

    async fn report(&self, report: Report) -> Result<(), End> {
        self.alive().await?;
        let Report { boot, usage, interfaces } = report;
        if !usage.is_empty() {
            let app = &self.fleet.0.app;
            let mut db = app.store.pool().acquire().await.map_err(Error::from)?;
            reports::usage(&mut db, self.host, &boot, &usage).await?;
        }
        if interfaces.is_empty() {
            return Ok(());
        }
        let said = Applied { generation: self.held, interfaces, resolvers: Vec::new() };
        self.note(said, &telemetry::inject(&tracing::Span::current())).await
    }

    /// Writes down what is bound as of a generation, lets go of what was to go by then, and looks at
    /// the endpoints concerned again.
    async fn note(&self, said: Applied, context: &BTreeMap<String, String>) -> Result<(), End> {
        let Applied { generation, interfaces, resolvers } = said;
        let app = &self.fleet.0.app;
        let mut tx = app.store.begin().await?;
        let news = reports::statuses(&mut tx, self.host, generation, &interfaces).await?;
        let mut endpoints: Vec<EndpointId> =
            interfaces::release(&mut tx, self.host, generation).await?;
        reports::resolvers(&mut tx, self.host, &resolvers).await?;
        let mut touched = Touched::default();
        for news in &news {
            if news.names {
                touched.names(news.vpc, news.endpoint);
            }
            if news.unsettled {
                endpoints.push(news.endpoint);
            }
        }
        let hosts = advance(&mut tx, &touched, context).await?;
        if !reports::applied(&mut tx, self.host, self.session, generation).await? {
            return Err(End::replaced());
        }
        tx.commit().await.map_err(Error::from)?;
        for host in hosts {
            app.pokes.poke(Poke::Host(host));
        }
        endpoints.sort();
        endpoints.dedup();
        futures_util::stream::iter(endpoints)
            .for_each_concurrent(SETTLING, |endpoint| async move {
                // The reconciler looks again.
                if let Err(error) = app.settle(endpoint).await {
                    warn!(%endpoint, %error, "an endpoint could not be looked at");
                }
            })
            .await;
        Ok(())
    }

    async fn finish(&self) {
        let ended = async {
            let mut db = self.fleet.0.app.store.pool().acquire().await?;
            reports::end(&mut db, self.host, self.session).await
        };
        if let Err(error) = ended.await {
            debug!(host = %self.host, %error, "the end of a stream was not noted");
        }
    }
}

/// How many reports an agent may send: a bucket that fills at a steady rate.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn full() -> Self {
        Self { left: REPORTS_BURST, at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let filled = self.left + (now - self.at).as_secs_f64() * REPORTS_PER_SECOND;
        (self.left, self.at) = (filled.min(REPORTS_BURST), now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_taken_until_the_allowance_is_used_up() {
        let mut allowance = Allowance::full();
        let taken = (0..100).filter(|_| allowance.take()).count();
        assert!((20..25).contains(&taken), "{taken}");
        allowance.at -= Duration::from_secs(1);
        assert!(allowance.take());
    }
}
