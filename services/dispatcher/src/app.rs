//! The use cases: what can be done with topics, subscriptions and deliveries, one file each.
//!
//! A topic's owner may do everything with it that its policy does not deny; another account what the
//! policy allows it, and what it may not even see does not exist for it. Setting the policy is the
//! exception: no policy keeps its owner from replacing it.

mod deliveries;
mod explain;
mod permissions;
mod publish;
mod subscriptions;
mod topics;

pub use deliveries::{Inspected, ListDeliveries, ReplayDeliveries, Sent, Watch};
pub use explain::{Asker, ExplainTopic, Explained};
pub use permissions::{AddPermission, RemovePermission};
pub use publish::{MessageAttribute, Publish};
pub use subscriptions::{
    Confirm, SetSubscriptionAttributes, Subscribe, SubscriptionAttributes, SubscriptionProtocol,
    SubscriptionSecret, sha256,
};
pub use topics::{CreateTopic, SetTopicAttributes, Topic};

use std::sync::Arc;

use postern_model::arn::TopicArn;
use postern_model::policy::{Context, Decision, Policy, Request, Requester};
use postern_model::zone::Region;
use postern_model::{Code, Refusal};
use postern_runtime::clock::Clock;
use sqlx::PgConnection;
use tokio::sync::Notify;

use crate::caller::Caller;
use crate::consume::explain_denial;
use crate::deliver::outbound::OutboundPolicy;
use crate::error::Error;
use crate::fanout::Fanout;
use crate::store::topics::TopicRow;
use crate::store::{Store, topics as store_topics};

/// What the use cases work with. Clones share everything.
#[derive(Clone, Debug)]
pub struct App {
    /// Where everything is kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The region that topics are in.
    pub region: Region,
    /// What webhooks may dial: an address that never could be is refused at once.
    pub outbound: Arc<OutboundPolicy>,
    /// Poked when deliveries were made.
    pub due: Arc<Notify>,
    /// Poked when there is something to tell the control plane.
    pub decided: Arc<Notify>,
    /// Finds who wants a message.
    pub fanout: Fanout,
}

/// Whether a topic takes notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It does.
    Allowed,
    /// Its policy does not let them in.
    Denied {
        /// Why, with a statement that would.
        explanation: String,
    },
    /// There is no such topic.
    NoSuchTopic,
}

pub(crate) fn no_topic(arn: &TopicArn) -> Error {
    let message = format!("the topic {arn} does not exist");
    Refusal::of_field(Code::NotFound, "topic_arn", message).into()
}

impl App {
    /// Whether `topic` takes notifications about `source_arn`, which `source_account` owns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check_publish(
        &self,
        topic: &str,
        source_arn: &str,
        source_account: &str,
    ) -> Result<Access, Error> {
        let Ok(arn) = topic.parse::<TopicArn>() else { return Ok(Access::NoSuchTopic) };
        if *arn.region() != self.region {
            return Ok(Access::NoSuchTopic);
        }
        let mut db = self.store.connection().await?;
        let Some(topic) = store_topics::find(&mut db, &arn).await? else {
            return Ok(Access::NoSuchTopic);
        };
        Ok(match explain_denial(&topic, source_arn, source_account, self.clock.now()) {
            None => Access::Allowed,
            Some(explanation) => Access::Denied { explanation },
        })
    }

    /// The topic, if the caller may do `action` with it. `held` keeps it until the transaction ends.
    async fn topic(
        &self,
        db: &mut PgConnection,
        caller: &Caller,
        arn: &TopicArn,
        action: &str,
        held: bool,
    ) -> Result<TopicRow, Error> {
        let context = caller.context(self.clock.now());
        self.topic_in_context(db, caller, arn, action, held, context).await
    }

    /// The same, where policies may ask more than the request says by itself.
    async fn topic_in_context(
        &self,
        db: &mut PgConnection,
        caller: &Caller,
        arn: &TopicArn,
        action: &str,
        held: bool,
        context: Context<'_>,
    ) -> Result<TopicRow, Error> {
        let (account, principal) = caller.account()?;
        if *arn.region() != self.region {
            return Err(no_topic(arn));
        }
        let found = if held {
            store_topics::lock(db, arn).await?
        } else {
            store_topics::find(db, arn).await?
        };
        let topic = found.ok_or_else(|| no_topic(arn))?;
        let owned = arn.account() == account;
        if owned && action == "SNS:SetTopicAttributes" {
            return Ok(topic);
        }
        let policy = Policy::parse(&topic.policy).map_err(|error| Error::Internal(error.into()))?;
        let text = arn.to_string();
        let requester = Requester::Account { account, principal };
        let decision = policy.evaluate(&Request { requester, action, resource: &text, context });
        match decision {
            Decision::Allowed { .. } => Ok(topic),
            Decision::NotAllowed if owned => Ok(topic),
            Decision::Denied { by } if owned => Err(Refusal::new(
                Code::AuthorizationError,
                format!("{} of the topic's policy denies {action}", policy.statement_name(by)),
            )
            .into()),
            Decision::NotAllowed | Decision::Denied { .. } => Err(no_topic(arn)),
        }
    }
}
