//! `NotificationOutcomeService`: the dispatcher tells here what became of notifications, over mTLS.

use postern_proto::internal::v1;
use postern_proto::internal::v1::notification_outcome_service_server::NotificationOutcomeService;
use tonic::{Request, Response, Status};

use super::auth::service_only;
use super::fields::{required, required_words};
use crate::app::App;
use crate::app::notifications::Outcome;
use crate::error::{Error, Result};

/// How long an event's id is at most, in characters.
const EVENT_MAX: usize = 64;

/// Outcomes of notifications.
#[derive(Clone)]
pub struct Outcomes {
    app: App,
}

impl Outcomes {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl NotificationOutcomeService for Outcomes {
    async fn report_notification_outcome(
        &self,
        request: Request<v1::ReportNotificationOutcomeRequest>,
    ) -> Result<Response<v1::ReportNotificationOutcomeResponse>, Status> {
        service_only(&request)?;
        let outcome = Outcome::try_from(request.into_inner())?;
        self.app.report_outcome(outcome).await?;
        Ok(Response::new(v1::ReportNotificationOutcomeResponse {}))
    }

    async fn report_topic_policy_change(
        &self,
        request: Request<v1::ReportTopicPolicyChangeRequest>,
    ) -> Result<Response<v1::ReportTopicPolicyChangeResponse>, Status> {
        service_only(&request)?;
        let v1::ReportTopicPolicyChangeRequest { topic_arn } = request.into_inner();
        let topic = required("topic_arn", &topic_arn)?;
        let enabled = self.app.topic_policy_changed(&topic).await?;
        Ok(Response::new(v1::ReportTopicPolicyChangeResponse { enabled }))
    }
}

impl TryFrom<v1::ReportNotificationOutcomeRequest> for Outcome {
    type Error = Error;

    fn try_from(request: v1::ReportNotificationOutcomeRequest) -> Result<Self> {
        let v1::ReportNotificationOutcomeRequest {
            connection_notification_id,
            event_id,
            allowed,
            reason,
        } = request;
        Ok(Self {
            notification: required("connection_notification_id", &connection_notification_id)?,
            event: required_words("event_id", event_id, EVENT_MAX)?,
            allowed,
            reason,
        })
    }
}
