//! Connection notifications (spec 1.13 and 7).
//!
//! A topic's policy is asked when a notification is made or changed, before the transaction: nobody
//! else is talked to while one is open. Should the policy change between, the dispatcher still asks
//! it at every publish, and tells here what came of it.

use postern_model::arn::TopicArn;
use postern_model::endpoint::EndpointState;
use postern_model::event::EventKind;
use postern_model::id::{EndpointId, NotificationId, ServiceId};
use postern_model::{AccountId, Code};
use postern_proto::page::Page;
use sqlx::PgConnection;
use tracing::{info, warn};

use super::client_tokens::{Asked, ClientToken, mismatch};
use super::events::{endpoint_arn, service_arn};
use super::items::Unsuccessful;
use super::services::no_service;
use super::{App, PublishDecision};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::client_tokens::{Claim, Fingerprint};
use crate::store::columns::texts;
use crate::store::endpoints::Scope;
use crate::store::notifications::{About, Notification};
use crate::store::services::{self, Hold};
use crate::store::{endpoints, notifications};

/// After how many denials in a row a notification is disabled (spec 7).
pub const DENIALS_MAX: i32 = 3;
/// How many notifications are read at a time to ask their topic again.
const ASKED_MAX: i64 = 100;
/// How many characters of a reason are kept.
const REASON_MAX: usize = 500;

/// Asks for a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNotification {
    /// What it is about.
    pub about: About,
    /// The topic.
    pub topic: TopicArn,
    /// The events, at least one, each once.
    pub events: Vec<EventKind>,
    /// Makes a repeat harmless.
    pub client_token: Option<ClientToken>,
}

/// Asks to change a notification. What is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyNotification {
    /// The notification.
    pub id: NotificationId,
    /// The new topic.
    pub topic: Option<TopicArn>,
    /// All the events, at least one, each once.
    pub events: Option<Vec<EventKind>>,
}

/// What became of an event for a notification, as the dispatcher tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The notification.
    pub notification: NotificationId,
    /// The event's id.
    pub event: String,
    /// Whether the topic let it publish.
    pub allowed: bool,
    /// Why not.
    pub reason: String,
}

impl App {
    /// Makes a notification about a service or an endpoint of the caller's.
    ///
    /// # Errors
    ///
    /// What it is about is not there, or not the caller's; `InvalidParameter` when the topic is not
    /// there or its policy does not let `vpce.amazonaws.com` publish; `ResourceLimitExceeded`.
    pub async fn create_notification(
        &self,
        caller: &Caller,
        command: CreateNotification,
    ) -> Result<Notification> {
        let owner = caller.account()?;
        let now = self.clock.now();
        let about = command.about;
        let id = NotificationId::generate(&mut rand::rng());
        let asked = Asked {
            account: owner,
            action: "CreateVpcEndpointConnectionNotification",
            token: command.client_token.as_ref(),
            fingerprint: Fingerprint::of(&[
                &[format!("{about:?}")],
                &[command.topic.to_string()],
                &texts(&command.events),
            ]),
        };
        {
            let mut db = self.store.acquire().await?;
            match self.peek(&mut db, asked, now).await? {
                Claim::First => {}
                Claim::Mismatch => return Err(mismatch()),
                Claim::Repeat(made) => return repeat(&mut db, owner, &made).await,
            }
            check_owned(&mut db, owner, about, false).await?;
        }
        self.check_topic(&command.topic, about, owner).await?;

        let mut tx = self.store.begin().await?;
        match self.claim(&mut tx, asked, &id.to_string(), now).await? {
            Claim::First => {}
            Claim::Mismatch => return Err(mismatch()),
            Claim::Repeat(made) => return repeat(&mut tx, owner, &made).await,
        }
        // Held, so that neither the thing goes nor others are made meanwhile.
        check_owned(&mut tx, owner, about, true).await?;
        let quota = self.settings.quotas.notifications_per_resource;
        if notifications::count(&mut tx, about).await? >= i64::from(quota) {
            let message = format!("there are at most {quota} notifications of one resource");
            return Err(Error::refused(Code::ResourceLimitExceeded, message));
        }
        let new = Notification {
            id,
            owner,
            about,
            topic_arn: command.topic.to_string(),
            events: command.events,
            enabled: true,
            disabled_reason: String::new(),
            created_at: now,
        };
        notifications::insert(&mut tx, &new).await?;
        tx.commit().await?;
        Ok(new)
    }

    /// One of the caller's notifications.
    ///
    /// # Errors
    ///
    /// `InvalidConnectionNotification`, also for another account's.
    pub async fn notification(&self, caller: &Caller, id: NotificationId) -> Result<Notification> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        notifications::find(&mut db, owner, id).await?.ok_or_else(|| no_notification(id))
    }

    /// A page of the caller's notifications, by id; of one service or endpoint if given.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn notifications(
        &self,
        caller: &Caller,
        service: Option<ServiceId>,
        endpoint: Option<EndpointId>,
        page: &Page,
    ) -> Result<Vec<Notification>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let (after, limit) = (page.after.as_deref(), page.limit());
        notifications::list(&mut db, owner, service, endpoint, after, limit).await
    }

    /// Changes a notification's topic or events. The topic's policy is asked again, and when it
    /// allows, a disabled notification is enabled.
    ///
    /// # Errors
    ///
    /// `InvalidConnectionNotification`; `InvalidParameter` as [`App::create_notification`].
    pub async fn modify_notification(
        &self,
        caller: &Caller,
        command: ModifyNotification,
    ) -> Result<Notification> {
        let owner = caller.account()?;
        let ModifyNotification { id, topic, events } = command;
        let present = self.notification(caller, id).await?;
        let asked = match &topic {
            Some(topic) => topic.clone(),
            None => present
                .topic_arn
                .parse()
                .map_err(|_| Error::internal("a notification's topic is malformed"))?,
        };
        self.check_topic(&asked, present.about, owner).await?;
        let mut db = self.store.acquire().await?;
        // The topic that was asked is written, also when it was not given: of two changes at once, the
        // second must not enable the first one's topic.
        let topic = asked.to_string();
        notifications::update(&mut db, owner, id, Some(&topic), events.as_deref())
            .await?
            .ok_or_else(|| no_notification(id))
    }

    /// Deletes notifications of the caller's.
    ///
    /// # Errors
    ///
    /// The database away. What is not there is an item of the answer.
    pub async fn delete_notifications(
        &self,
        caller: &Caller,
        ids: &[NotificationId],
    ) -> Result<Vec<Unsuccessful>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let deleted = notifications::delete(&mut db, owner, ids).await?;
        let missing = ids.iter().filter(|id| !deleted.contains(id));
        Ok(missing.map(|id| Unsuccessful::notification_not_found(*id)).collect())
    }

    /// Notes what became of an event. Three denials in a row disable the notification (spec 7); one
    /// that is let through starts the count anew. The same event told again changes nothing.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn report_outcome(&self, outcome: Outcome) -> Result<()> {
        let Outcome { notification, event, allowed, reason } = outcome;
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
        let mut db = self.store.acquire().await?;
        let disabled =
            notifications::note(&mut db, notification, &event, allowed, &reason, DENIALS_MAX)
                .await?;
        if disabled {
            warn!(%notification, %event, reason, "a notification is disabled: its topic refuses it");
        }
        Ok(())
    }

    /// Asks a topic again that has another policy: those of its disabled notifications that it lets
    /// publish now are enabled (spec 7). Returns how many.
    ///
    /// # Errors
    ///
    /// The database or the dispatcher away: what was enabled by then stays so.
    pub async fn topic_policy_changed(&self, topic: &TopicArn) -> Result<i32> {
        let topic = topic.to_string();
        let mut after = String::new();
        let mut enabled = 0;
        loop {
            let mut db = self.store.acquire().await?;
            let found = notifications::disabled(&mut db, &topic, &after, ASKED_MAX).await?;
            drop(db); // Nobody else is talked to while a connection is held.
            let Some(last) = found.last() else { return Ok(enabled) };
            after = last.id.to_string();
            for notification in found {
                let Notification { id, owner, about, .. } = notification;
                let source = self.source_arn(about, owner);
                let account = owner.to_string();
                let asked = self.topics.check_publish(&topic, &source, &account).await?;
                if asked != PublishDecision::Allowed {
                    continue;
                }
                let mut db = self.store.acquire().await?;
                if notifications::enable(&mut db, id, &topic).await? {
                    info!(notification = %id, topic, "a notification is enabled: its topic takes it again");
                    enabled += 1;
                }
            }
        }
    }

    fn source_arn(&self, about: About, owner: AccountId) -> String {
        match about {
            About::Service(service) => service_arn(&self.settings.region, owner, service),
            About::Endpoint(endpoint) => endpoint_arn(&self.settings.region, owner, endpoint),
        }
    }

    /// Asks the topic's policy whether it lets `vpce.amazonaws.com` publish about the thing.
    async fn check_topic(&self, topic: &TopicArn, about: About, owner: AccountId) -> Result<()> {
        const FIELD: &str = "connection_notification_arn";
        let region = &self.settings.region;
        let refuse = |reason: String| Err(Error::of_field(Code::InvalidParameter, FIELD, reason));
        if topic.region() != region {
            return refuse(format!("the topic is not in the region {region}"));
        }
        let source = self.source_arn(about, owner);
        let (topic, account) = (topic.to_string(), owner.to_string());
        match self.topics.check_publish(&topic, &source, &account).await? {
            PublishDecision::Allowed => Ok(()),
            PublishDecision::NoSuchTopic => refuse(format!("the topic {topic} does not exist")),
            PublishDecision::Denied { explanation } => refuse(explanation),
        }
    }
}

/// Checks that the caller owns the thing and that it lives; `hold` keeps it so, and keeps others from
/// adding to it.
async fn check_owned(
    db: &mut PgConnection,
    owner: AccountId,
    about: About,
    hold: bool,
) -> Result<()> {
    match about {
        About::Service(id) => {
            let found = if hold {
                services::lock(db, owner, &[id], Hold::Update).await?.pop()
            } else {
                services::find(db, owner, id).await?
            };
            found.map(|_| ()).ok_or_else(|| no_service(id))
        }
        About::Endpoint(id) => {
            let state = if hold {
                endpoints::lock(db, Scope::Owner(owner), &[id]).await?.pop().map(|row| row.state)
            } else {
                endpoints::find(db, owner, &[id]).await?.pop().map(|endpoint| endpoint.state)
            };
            match state {
                Some(EndpointState::Deleted) | None => Err(super::endpoints::no_such_endpoint(id)),
                Some(_) => Ok(()),
            }
        }
    }
}

async fn repeat(db: &mut PgConnection, owner: AccountId, made: &str) -> Result<Notification> {
    let id = made.parse().map_err(|_| Error::internal("a token's resource"))?;
    notifications::find(db, owner, id).await?.ok_or_else(|| no_notification(id))
}

fn no_notification(id: NotificationId) -> Error {
    Error::of_field(
        Code::InvalidConnectionNotification,
        "connection_notification_id",
        format!("the connection notification {id} does not exist"),
    )
}
