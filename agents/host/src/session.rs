//! The stream to the control plane: Hello, states in, answers and reports out. It is opened again for
//! as long as the agent runs; between two streams the host goes on with what it holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use postern_datapath::Datapath;
use postern_model::desired::{Change, HostState};
use postern_model::id::NetworkInterfaceId;
use postern_proto::agent::v1::agent_service_client::AgentServiceClient;
use postern_proto::agent::v1::{
    Applied, FollowRequest, FollowResponse, Hello, InterfaceUsage, Refused, Report, follow_request,
    follow_response,
};
use postern_proto::desired::{read_delta, read_snapshot};
use postern_runtime::admin::Part;
use postern_runtime::backoff::Backoff;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use postern_runtime::tls::{ClientTls, IdentityHandle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{Instrument as _, info, warn};
use uuid::Uuid;

use crate::apply::{Applier, News};
use crate::config::AgentConfig;
use crate::enrol;
use crate::held::Held;
use crate::metrics::Metrics;

/// How long the control plane may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages to the control plane that may wait; reports that find no room are left out.
const OUTGOING: usize = 16;
/// Interfaces whose meters go into one report: a message to the control plane has 4 MiB at most, and the
/// rest goes with the next.
const METERS_MAX: usize = 5000;
/// A snapshot of a host with tens of thousands of objects is larger than the usual message.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// What the agent does from its start to its end.
pub struct Session {
    /// What it was told when it started.
    pub config: AgentConfig,
    /// Who it is.
    pub identity: IdentityHandle,
    /// The state on disk.
    pub held: Held,
    /// The state in effect, or as much of it as could be done.
    pub state: HostState,
    /// The host.
    pub applier: Applier,
    /// The forwarder, for its meters.
    pub datapath: Arc<Datapath>,
    /// The agent's own meters.
    pub metrics: Metrics,
    /// Changes with each run, so that the control plane knows when meters start from zero.
    pub boot_id: Uuid,
    /// Whether a state of the control plane's is in effect, for the readiness of the process.
    pub in_effect: Part,
    /// The meters as they were last reported on this stream.
    pub usage: HashMap<NetworkInterfaceId, InterfaceUsage>,
}

impl Session {
    /// Follows the control plane until asked to stop, then lets connections finish.
    ///
    /// # Errors
    ///
    /// The identity can't be used. Nothing that the control plane says or fails to say ends this.
    pub async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut attempt = 0;
        while !stop.is_stopping() {
            let before = tokio::time::Instant::now();
            match self.follow(&stop).await {
                Ok(()) => info!("the stream to the control plane ended"),
                Err(error) => {
                    warn!(error = format!("{error:#}"), "no stream to the control plane");
                }
            }
            self.metrics.connected.set(0);
            // A stream that lasted was a good one: its end starts the count anew.
            attempt = if before.elapsed() > Duration::from_secs(10) { 0 } else { attempt + 1 };
            let again = tokio::time::sleep(backoff.delay(attempt, &mut rand::rng()));
            tokio::pin!(again);
            let mut retry = tokio::time::interval(self.config.report_every);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    () = stop.stopped() => break,
                    _ = retry.tick() => self.applier.retry(&self.state).await,
                }
            }
        }
        self.applier.shut_down(self.config.drain).await;
        Ok(())
    }

    /// One stream, from Hello to its end.
    async fn follow(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let tls = ClientTls::mutual(self.identity.clone(), enrol::control_plane()?);
        let mut client = AgentServiceClient::new(tls.channel(&self.config.control_plane)?)
            .max_decoding_message_size(MESSAGE_MAX);
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        outgoing.send(request(follow_request::Message::Hello(self.hello()))).await?;
        let opening = client.follow(ReceiverStream::new(requests));
        let mut responses = tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .context("the control plane does not answer")?
            .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
            .into_inner();
        info!(generation = self.state.generation, "following the control plane");
        self.metrics.connected.set(1);

        let mut ticks = tokio::time::interval(self.config.report_every);
        loop {
            tokio::select! {
                response = next(&mut responses) => {
                    let Some(response) = response? else { return Ok(()) };
                    let answer = self.take(response).await?;
                    outgoing.send(request(answer)).await.context("the stream is closed")?;
                    // After the answer: nobody waits for this.
                    if let Err(error) = self.held.tidy(&self.state) {
                        warn!(%error, "the journal could not be made a snapshot");
                    }
                }
                _ = ticks.tick() => {
                    self.applier.retry(&self.state).await;
                    let report = self.report();
                    match outgoing.try_send(request(follow_request::Message::Report(report))) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Closed(_)) => return Ok(()),
                        // The control plane doesn't read: a later report says it.
                        Err(mpsc::error::TrySendError::Full(request)) => self.unreported(request),
                    }
                }
                () = stop.stopped() => return Ok(()),
            }
        }
    }

    fn hello(&mut self) -> Hello {
        // The control plane may be another one, which knows nothing of what the last was told.
        self.usage.clear();
        let News { interfaces, resolvers } = self.applier.tell_all();
        Hello {
            generation: self.state.generation,
            digest: self.state.digest().as_bytes().to_vec().into(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            interfaces,
            resolvers,
        }
    }

    /// Takes a state that is offered, and says what came of it.
    async fn take(&mut self, response: FollowResponse) -> anyhow::Result<follow_request::Message> {
        let (offer, generation, context) = match response.message {
            Some(follow_response::Message::Snapshot(snapshot)) => {
                let generation = snapshot.generation;
                match read_snapshot(snapshot) {
                    Ok((offered, digest, context)) => {
                        let next = self.state.replace(offered, digest).map(Offer::Whole);
                        (next.map_err(|refused| refused.to_string()), generation, context)
                    }
                    Err(field) => (Err(field.to_string()), generation, BTreeMap::new()),
                }
            }
            Some(follow_response::Message::Delta(delta)) => {
                let generation = delta.generation;
                match read_delta(delta) {
                    Ok((change, context)) => {
                        let judged = self.state.judge(&change).map(|()| Offer::Change(change));
                        (judged.map_err(|refused| refused.to_string()), generation, context)
                    }
                    Err(field) => (Err(field.to_string()), generation, BTreeMap::new()),
                }
            }
            None => bail!("a message of a kind that this agent does not know"),
        };
        let offer = match offer {
            Ok(offer) => offer,
            Err(reason) => {
                warn!(generation, reason, "the state offered is refused");
                self.metrics.offers_refused.inc();
                return Ok(follow_request::Message::Refused(Refused { generation, reason }));
            }
        };
        let span = tracing::info_span!("apply", generation, trace_id = tracing::field::Empty);
        telemetry::set_parent(&span, &context);
        async {
            let News { interfaces, resolvers } = self.obey(offer).await?;
            self.metrics.offers_applied.inc();
            self.in_effect.ready();
            info!(generation, "applied");
            Ok(follow_request::Message::Applied(Applied { generation, interfaces, resolvers }))
        }
        .instrument(span)
        .await
    }

    /// Takes a state or a change that follows from the state held. It is kept first: after a crash in
    /// the middle, the start applies what was begun here.
    async fn obey(&mut self, offer: Offer) -> anyhow::Result<News> {
        match offer {
            Offer::Whole(next) => {
                self.held.replace(&next).context("keeping the state on disk")?;
                self.state = next;
                self.applier.apply(&self.state).await;
                Ok(self.applier.tell_all())
            }
            Offer::Change(change) => {
                self.held.append(&change).context("keeping the change on disk")?;
                let keys = change.keys();
                self.state.take(change)?;
                self.applier.touch(&self.state, keys.clone()).await;
                Ok(self.applier.tell(&keys))
            }
        }
    }

    /// The meters that moved and the statuses that changed since they were last reported.
    fn report(&mut self) -> Report {
        let mut moved = Vec::new();
        let meters = self.datapath.usage();
        if self.usage.len() > 2 * meters.len() {
            // Most are of interfaces that are gone; those that are not are reported once more.
            self.usage.clear();
        }
        for usage in meters {
            let id = usage.id;
            let usage = InterfaceUsage {
                network_interface_id: id.to_string(),
                bytes_in: usage.bytes_in,
                bytes_out: usage.bytes_out,
                active_connections: u64::from(usage.open),
                total_connections: usage.accepted,
                failed_connections: usage.failures.iter().map(|target| target.count).sum(),
            };
            if moved.len() < METERS_MAX && self.usage.get(&id) != Some(&usage) {
                self.usage.insert(id, usage.clone());
                moved.push(usage);
            }
        }
        let interfaces = self.applier.take_news();
        Report { usage: moved, boot_id: self.boot_id.to_string(), interfaces }
    }

    /// Takes back a report that was not sent.
    fn unreported(&mut self, request: FollowRequest) {
        let Some(follow_request::Message::Report(report)) = request.message else { return };
        self.applier.untold(&report.interfaces);
        for usage in report.usage {
            if let Ok(id) = usage.network_interface_id.parse() {
                self.usage.remove(&id);
            }
        }
    }
}

/// What is offered, and follows from the state held.
enum Offer {
    Whole(HostState),
    Change(Change),
}

fn request(message: follow_request::Message) -> FollowRequest {
    FollowRequest { message: Some(message) }
}

async fn next(stream: &mut Streaming<FollowResponse>) -> anyhow::Result<Option<FollowResponse>> {
    stream
        .message()
        .await
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))
}
