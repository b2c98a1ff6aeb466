//! The handler of agents' streams: who it is, and a session for it.

use postern_model::id::HostId;
use postern_model::{Code, Refusal};
use postern_proto::agent::v1::agent_service_server::AgentService;
use postern_proto::agent::v1::{FollowRequest, FollowResponse};
use postern_proto::status::status;
use postern_runtime::tls::peer_spiffe;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Fleet;
use super::session;

/// One offer is in flight at a time, and a stream ends with one status.
const OUTBOUND: usize = 4;

/// Serves agents.
pub(super) struct Agents(pub(super) Fleet);

#[tonic::async_trait]
impl AgentService for Agents {
    type FollowStream = ReceiverStream<Result<FollowResponse, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let peer = peer_spiffe(&request);
        let host: Option<HostId> =
            peer.as_ref().and_then(|peer| peer.as_host()).and_then(|id| id.parse().ok());
        let Some(host) = host else {
            return Err(status(&Refusal::new(
                Code::UnauthorizedOperation,
                "only an enrolled host may follow, and its agent must show its certificate",
            )));
        };
        let Some(admitted) = self.0.admit(host) else {
            return Err(status(&Refusal::new(
                Code::RequestLimitExceeded,
                format!("{host} has too many streams open: an agent has one"),
            )));
        };
        let (sender, receiver) = mpsc::channel(OUTBOUND);
        let fleet = self.0.clone();
        let inbound = request.into_inner();
        self.0.0.sessions.spawn(async move {
            session::run(fleet, host, inbound, sender).await;
            drop(admitted);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
