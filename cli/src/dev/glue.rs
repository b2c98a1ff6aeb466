//! The calls that services make to each other, without the sockets between them.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use postern_control_plane::api::auth::Authenticator;
use postern_control_plane::app::{self as control_plane, PublishDecision, TopicAccess};
use postern_control_plane::caller::Caller as Principal;
use postern_control_plane::error::{Error, Result};
use postern_dispatcher::app::{Access, App as Topics};
use postern_dispatcher::caller::{Caller, Identities, Origin};
use postern_dispatcher::outcomes::{Outcome, Outcomes};
use postern_model::Class;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The dispatcher's topics, for the control plane. They come late: the dispatcher needs the control
/// plane to be there first.
#[derive(Clone, Default)]
pub struct LateTopics(Arc<OnceLock<Topics>>);

impl LateTopics {
    /// Now they are there.
    pub fn set(&self, topics: Topics) {
        // Set once; a second call would be a mistake that changes nothing.
        let _ = self.0.set(topics);
    }
}

#[async_trait]
impl TopicAccess for LateTopics {
    async fn check_publish(
        &self,
        topic_arn: &str,
        source_arn: &str,
        source_account: &str,
    ) -> Result<PublishDecision> {
        let away = |source: Cause| Error::Unavailable { part: "the dispatcher", source };
        let topics = self.0.get().ok_or_else(|| away("not started yet".into()))?;
        let access = topics
            .check_publish(topic_arn, source_arn, source_account)
            .await
            .map_err(|error| away(error.into()))?;
        Ok(match access {
            Access::Allowed => PublishDecision::Allowed,
            Access::Denied { explanation } => PublishDecision::Denied { explanation },
            Access::NoSuchTopic => PublishDecision::NoSuchTopic,
        })
    }
}

/// The control plane's API keys, for the dispatcher.
pub struct DirectIdentities(Authenticator);

impl DirectIdentities {
    /// Those that `authenticator` knows.
    pub fn new(authenticator: Authenticator) -> Self {
        Self(authenticator)
    }
}

#[async_trait]
impl Identities for DirectIdentities {
    async fn authenticate(&self, api_key_sha256: [u8; 32]) -> Result<Option<Caller>, Cause> {
        match self.0.authenticate_digest(&api_key_sha256).await {
            Ok(Principal::Operator) => Ok(Some(Caller::Operator)),
            Ok(Principal::Account { account, principal }) => {
                let (principal, origin) = (principal.into(), Origin::default());
                Ok(Some(Caller::Account { account, principal, origin }))
            }
            Err(Error::Refused(refusal)) if refusal.code.class() == Class::Unauthenticated => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The control plane's notifications, for the dispatcher's reports.
pub struct DirectOutcomes(control_plane::App);

impl DirectOutcomes {
    /// Reports to this control plane.
    pub fn new(app: control_plane::App) -> Self {
        Self(app)
    }
}

#[async_trait]
impl Outcomes for DirectOutcomes {
    async fn report(&self, outcome: &Outcome) -> Result<(), Cause> {
        let Outcome { notification, event, denied } = outcome;
        self.0
            .report_outcome(control_plane::notifications::Outcome {
                notification: *notification,
                event: event.to_string(),
                allowed: denied.is_none(),
                reason: denied.clone().unwrap_or_default(),
            })
            .await?;
        Ok(())
    }

    async fn policy_changed(&self, topic_arn: &str) -> Result<(), Cause> {
        self.0.topic_policy_changed(&topic_arn.parse()?).await?;
        Ok(())
    }
}
