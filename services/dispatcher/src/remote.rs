//! The control plane, asked over mTLS: whom API keys belong to, and told what topics said.

use std::time::Duration;

use async_trait::async_trait;
use postern_proto::internal::v1::identity_service_client::IdentityServiceClient;
use postern_proto::internal::v1::notification_outcome_service_client::NotificationOutcomeServiceClient;
use postern_proto::internal::v1::{
    AuthenticateRequest, AuthenticateResponse, ReportNotificationOutcomeRequest,
    ReportTopicPolicyChangeRequest,
};
use postern_runtime::grpc::InjectTrace;
use postern_runtime::tls::{ClientTls, IdentityHandle, SpiffeId, TlsError};
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::caller::{Caller, Identities, Origin};
use crate::error::Cause;
use crate::identity::CONTROL_PLANE;
use crate::outcomes::{Outcome, Outcomes};

/// For the control plane to say whose key it is: a caller waits for it.
const AUTHENTICATE: Duration = Duration::from_secs(3);
/// For the control plane to take a report.
const REPORT: Duration = Duration::from_secs(10);

/// The control plane by way of its internal port.
#[derive(Clone, Debug)]
pub struct RemoteControlPlane {
    identities: IdentityServiceClient<InterceptedService<Channel, InjectTrace>>,
    outcomes: NotificationOutcomeServiceClient<InterceptedService<Channel, InjectTrace>>,
}

impl RemoteControlPlane {
    /// The control plane at `address` (`host:port`), which is dialled when it is first asked.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str, identity: IdentityHandle) -> Result<Self, TlsError> {
        let tls = ClientTls::mutual(identity, SpiffeId::service(CONTROL_PLANE)?);
        let channel = tls.channel(address)?;
        Ok(Self {
            identities: IdentityServiceClient::with_interceptor(channel.clone(), InjectTrace),
            outcomes: NotificationOutcomeServiceClient::with_interceptor(channel, InjectTrace),
        })
    }
}

#[async_trait]
impl Identities for RemoteControlPlane {
    async fn authenticate(&self, api_key_sha256: [u8; 32]) -> Result<Option<Caller>, Cause> {
        let mut client = self.identities.clone();
        let asked = AuthenticateRequest { api_key_sha256: api_key_sha256.to_vec().into() };
        let mut request = Request::new(asked);
        request.set_timeout(AUTHENTICATE);
        // The client's own clock too: a peer that accepts and says nothing reads no deadline.
        let answer = match timeout(AUTHENTICATE, client.authenticate(request)).await? {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::Unauthenticated => return Ok(None),
            Err(status) => return Err(status.into()),
        };
        let AuthenticateResponse { account_id, principal_arn, is_operator } = answer;
        if is_operator {
            return Ok(Some(Caller::Operator));
        }
        let account = account_id.parse()?;
        let (principal, origin) = (principal_arn.into(), Origin::default());
        Ok(Some(Caller::Account { account, principal, origin }))
    }
}

#[async_trait]
impl Outcomes for RemoteControlPlane {
    async fn report(&self, outcome: &Outcome) -> Result<(), Cause> {
        let mut client = self.outcomes.clone();
        let mut request = Request::new(ReportNotificationOutcomeRequest {
            connection_notification_id: outcome.notification.to_string(),
            event_id: outcome.event.to_string(),
            allowed: outcome.denied.is_none(),
            reason: outcome.denied.clone().unwrap_or_default(),
        });
        request.set_timeout(REPORT);
        match timeout(REPORT, client.report_notification_outcome(request)).await? {
            Ok(_) => Ok(()),
            // The notification went in the meantime: nobody is left to hear of it.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    async fn policy_changed(&self, topic_arn: &str) -> Result<(), Cause> {
        let mut client = self.outcomes.clone();
        let asked = ReportTopicPolicyChangeRequest { topic_arn: topic_arn.to_owned() };
        let mut request = Request::new(asked);
        request.set_timeout(REPORT);
        timeout(REPORT, client.report_topic_policy_change(request)).await??;
        Ok(())
    }
}
