//! Served to the control plane over mTLS: whether a topic takes notifications.

use postern_proto::internal::v1::topic_access_service_server::TopicAccessService;
use postern_proto::internal::v1::{CheckPublishRequest, CheckPublishResponse, PublishDecision};
use postern_runtime::tls::peer_spiffe;
use tonic::{Request, Response, Status};

use super::status_of;
use crate::app::{Access, App};

/// The service that the control plane calls.
#[derive(Clone, Debug)]
pub struct AccessApi {
    app: App,
}

impl AccessApi {
    /// The service over these use cases.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl TopicAccessService for AccessApi {
    async fn check_publish(
        &self,
        request: Request<CheckPublishRequest>,
    ) -> Result<Response<CheckPublishResponse>, Status> {
        // Hosts have identities of the same authority, and no business here.
        let peer = peer_spiffe(&request);
        if peer.as_ref().and_then(|peer| peer.as_service()) != Some("control-plane") {
            return Err(Status::permission_denied("only the control plane may ask"));
        }
        let CheckPublishRequest { topic_arn, source_arn, source_account } = request.into_inner();
        let access = self
            .app
            .check_publish(&topic_arn, &source_arn, &source_account)
            .await
            .map_err(status_of)?;
        let (decision, explanation) = match access {
            Access::Allowed => (PublishDecision::Allowed, String::new()),
            Access::Denied { explanation } => (PublishDecision::Denied, explanation),
            Access::NoSuchTopic => (PublishDecision::NoSuchTopic, String::new()),
        };
        Ok(Response::new(CheckPublishResponse { decision: decision.into(), explanation }))
    }
}
