//! The stream to the control plane: Hello, states in, answers and reports out. It is opened again for
//! as long as the agent runs; between two streams the host goes on with what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use postern_datapath::Datapath;
use postern_model::desired::HostState;
use postern_model::id::NetworkInterfaceId;
use postern_proto::agent::v1::agent_service_client::AgentServiceClient;
use postern_proto::agent::v1::{
    Applied, FollowRequest, FollowResponse, Hello, InterfaceUsage, Refused, Report, follow_request,
    follow_response,
};
use postern_proto::desired::{read_delta, read_snapshot};
use postern_runtime::backoff::Backoff;
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use postern_runtime::tls::{ClientTls, IdentityHandle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{Instrument as _, info, warn};
use uuid::Uuid;

use crate::apply::{Applier, Status, to_wire};
use crate::config::AgentConfig;
use crate::enrol;
use crate::held::Held;
use crate::metrics::Metrics;

/// How long the control plane may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages to the control plane that may wait; reports that find no room are left out.
const OUTGOING: usize = 16;
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
                    _ = retry.tick() => self.retry().await,
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

        let mut told = self.applier.statuses().clone();
        let mut ticks = tokio::time::interval(self.config.report_every);
        loop {
            tokio::select! {
                response = next(&mut responses) => {
                    let Some(response) = response? else { return Ok(()) };
                    let answer = self.take(response).await?;
                    told = self.applier.statuses().clone();
                    outgoing.send(request(answer)).await.context("the stream is closed")?;
                }
                _ = ticks.tick() => {
                    self.retry().await;
                    let report = self.report(&mut told);
                    // With no room, the control plane doesn't read: a later report says it all.
                    if let Err(mpsc::error::TrySendError::Closed(_)) =
                        outgoing.try_send(request(follow_request::Message::Report(report)))
                    {
                        return Ok(());
                    }
                }
                () = stop.stopped() => return Ok(()),
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            generation: self.state.generation,
            digest: self.state.digest().as_bytes().to_vec().into(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            interfaces: self.applier.interface_statuses(),
            resolvers: self.applier.resolver_statuses(),
        }
    }

    /// Takes a state that is offered, and says what came of it.
    async fn take(&mut self, response: FollowResponse) -> anyhow::Result<follow_request::Message> {
        let (next, generation, context) = match response.message {
            Some(follow_response::Message::Snapshot(snapshot)) => {
                let generation = snapshot.generation;
                let read = read_snapshot(snapshot);
                match read {
                    Ok((offered, digest, context)) => {
                        let next = self.state.replace(offered, digest);
                        (next.map_err(|refused| refused.to_string()), generation, context)
                    }
                    Err(field) => (Err(field.to_string()), generation, BTreeMap::new()),
                }
            }
            Some(follow_response::Message::Delta(delta)) => {
                let generation = delta.generation;
                match read_delta(delta) {
                    Ok((change, context)) => {
                        let next = self.state.changed(&change);
                        (next.map_err(|refused| refused.to_string()), generation, context)
                    }
                    Err(field) => (Err(field.to_string()), generation, BTreeMap::new()),
                }
            }
            None => bail!("a message of a kind that this agent does not know"),
        };
        let next = match next {
            Ok(next) => next,
            Err(reason) => {
                warn!(generation, reason, "the state offered is refused");
                self.metrics.offers_refused.inc();
                return Ok(follow_request::Message::Refused(Refused { generation, reason }));
            }
        };
        let span = tracing::info_span!("apply", generation, trace_id = tracing::field::Empty);
        telemetry::set_parent(&span, &context);
        async {
            // Kept first: after a crash in the middle, the start applies what was begun here.
            self.held.save(&next).context("keeping the state on disk")?;
            self.applier.apply(&next).await;
            self.state = next;
            self.metrics.offers_applied.inc();
            info!(generation, "applied");
            Ok(follow_request::Message::Applied(Applied {
                generation,
                interfaces: self.applier.interface_statuses(),
                resolvers: self.applier.resolver_statuses(),
            }))
        }
        .instrument(span)
        .await
    }

    /// Applies the state again while something of it could not be done.
    async fn retry(&mut self) {
        if self.applier.wants_retry() {
            let state = self.state.clone();
            self.applier.apply(&state).await;
        }
    }

    /// The meters, and the statuses that are not `told` yet.
    fn report(&self, told: &mut BTreeMap<NetworkInterfaceId, Status>) -> Report {
        let changed = self
            .applier
            .statuses()
            .iter()
            .filter(|(id, status)| told.get(id) != Some(status))
            .map(|(id, status)| to_wire(*id, status))
            .collect();
        told.clone_from(self.applier.statuses());
        let usage = self.datapath.usage().into_iter().map(|usage| InterfaceUsage {
            network_interface_id: usage.id.to_string(),
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            active_connections: u64::from(usage.open),
            total_connections: usage.accepted,
            failed_connections: usage.failures.iter().map(|target| target.count).sum(),
        });
        Report { usage: usage.collect(), boot_id: self.boot_id.to_string(), interfaces: changed }
    }
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
