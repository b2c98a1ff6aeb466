//! The dispatcher, asked over mTLS whether a topic takes notifications.

use std::time::Duration;

use async_trait::async_trait;
use postern_proto::internal::v1::topic_access_service_client::TopicAccessServiceClient;
use postern_proto::internal::v1::{CheckPublishRequest, CheckPublishResponse, PublishDecision};
use postern_runtime::grpc::InjectTrace;
use postern_runtime::tls::{ClientTls, IdentityHandle, SpiffeId, TlsError};
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::app::{self, TopicAccess};
use crate::error::{Error, Result};

/// For the dispatcher to answer: a caller waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What callers hear is away.
const PART: &str = "the dispatcher";

/// Topics by way of the dispatcher's internal port.
#[derive(Clone, Debug)]
pub struct RemoteTopics {
    client: TopicAccessServiceClient<InterceptedService<Channel, InjectTrace>>,
}

impl RemoteTopics {
    /// The dispatcher at `address` (`host:port`), which is dialled when it is first asked. It must
    /// show the certificate of the service `dispatcher`.
    ///
    /// # Errors
    ///
    /// An address that is none.
    pub fn new(address: &str, identity: IdentityHandle) -> Result<Self, TlsError> {
        let tls = ClientTls::mutual(identity, SpiffeId::service("dispatcher")?);
        let channel = tls.channel(address)?;
        Ok(Self { client: TopicAccessServiceClient::with_interceptor(channel, InjectTrace) })
    }
}

#[async_trait]
impl TopicAccess for RemoteTopics {
    async fn check_publish(
        &self,
        topic_arn: &str,
        source_arn: &str,
        source_account: &str,
    ) -> Result<app::PublishDecision> {
        let mut request = Request::new(CheckPublishRequest {
            topic_arn: topic_arn.to_owned(),
            source_arn: source_arn.to_owned(),
            source_account: source_account.to_owned(),
        });
        request.set_timeout(PATIENCE);
        let away = |source: Box<dyn std::error::Error + Send + Sync>| Error::Unavailable {
            part: PART,
            source,
        };
        // The client's own clock too: a peer that accepts and says nothing reads no deadline.
        let answer = tokio::time::timeout(PATIENCE, self.client.clone().check_publish(request))
            .await
            .map_err(|elapsed| away(elapsed.into()))?
            .map_err(|status| away(status.into()))?;
        let CheckPublishResponse { decision, explanation } = answer.into_inner();
        match PublishDecision::try_from(decision) {
            Ok(PublishDecision::Allowed) => Ok(app::PublishDecision::Allowed),
            Ok(PublishDecision::Denied) => Ok(app::PublishDecision::Denied { explanation }),
            Ok(PublishDecision::NoSuchTopic) => Ok(app::PublishDecision::NoSuchTopic),
            Ok(PublishDecision::Unspecified) | Err(_) => {
                Err(Error::internal(format!("the dispatcher decided {decision}, which is nothing")))
            }
        }
    }
}
