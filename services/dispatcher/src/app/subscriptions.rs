//! Subscriptions: asked for, confirmed, ended.

mod attributes;
mod endpoint;
mod secrets;

pub use attributes::SubscriptionAttributes;
pub use endpoint::SubscriptionProtocol;
pub use secrets::SubscriptionSecret;

use chrono::{DateTime, Utc};
use postern_model::arn::{SubscriptionArn, TopicArn};
use postern_model::policy::ConditionKey;
use postern_model::{Code, Refusal};
use postern_proto::page::Page;
use postern_runtime::telemetry;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use self::endpoint::check_endpoint;
use super::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::deliveries::NewConfirmation;
use crate::store::messages::{MessageKind, NewMessage};
use crate::store::subscriptions::{self, SubscriptionRow, TokenRow};
use crate::store::{deliveries, digests, messages, topics};

/// How long a token counts (spec 8.2).
const TOKEN_LIFE: chrono::Duration = chrono::Duration::days(2);
/// The most unconfirmed subscriptions of a topic: whoever may subscribe must not fill the store, nor
/// use the dispatcher to flood others with confirmation messages.
const MAX_PENDING: i64 = 10_000;
/// The most subscriptions of a topic that are not ended (spec 9).
const MAX_SUBSCRIPTIONS: i64 = 12_500_000;
/// The most filter policies of a topic, and of an account (spec 8.5).
const MAX_FILTERS_OF_TOPIC: i64 = 200;
const MAX_FILTERS_OF_ACCOUNT: i64 = 10_000;

/// Asks for a subscription.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The topic.
    pub topic: TopicArn,
    /// How messages are sent.
    pub protocol: SubscriptionProtocol,
    /// Where they are sent.
    pub endpoint: String,
    /// What is asked for besides.
    pub attributes: SubscriptionAttributes,
}

/// Asks to change attributes.
#[derive(Clone, Debug)]
pub struct SetSubscriptionAttributes {
    /// The subscription.
    pub subscription: SubscriptionArn,
    /// What is to change.
    pub attributes: SubscriptionAttributes,
}

/// Confirms a subscription.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// The topic.
    pub topic: TopicArn,
    /// What the endpoint was sent.
    pub token: String,
    /// Whether only an authenticated caller may end the subscription.
    pub guarded: bool,
}

/// SHA-256 of a text.
pub fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn token(now: DateTime<Utc>) -> (String, TokenRow) {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = hex::encode(bytes);
    let row = TokenRow { sha256: sha256(&text), expires_at: now + TOKEN_LIFE };
    (text, row)
}

fn no_subscription(arn: &SubscriptionArn) -> Error {
    let message = format!("the subscription {arn} does not exist");
    Refusal::of_field(Code::NotFound, "subscription_arn", message).into()
}

/// Whether there is room for another filter (spec 8.5).
async fn check_filters(db: &mut PgConnection, row: &SubscriptionRow) -> Result<(), Error> {
    let counts = subscriptions::count_filters(db, row.topic_id, &row.owner_id).await?;
    let (most, of) = if counts.of_topic >= MAX_FILTERS_OF_TOPIC {
        (MAX_FILTERS_OF_TOPIC, "a topic")
    } else if counts.of_account >= MAX_FILTERS_OF_ACCOUNT {
        (MAX_FILTERS_OF_ACCOUNT, "an account")
    } else {
        return Ok(());
    };
    let why = format!("there are at most {most} filter policies of {of}");
    Err(Refusal::of_field(Code::FilterPolicyLimitExceeded, "filter_policy", why).into())
}

impl App {
    /// Makes a subscription and sends its endpoint a token; one that is there already is returned,
    /// and while it waits a new token is sent.
    ///
    /// # Errors
    /// Bad attributes, an endpoint that could never be reached, or no topic that the caller may
    /// subscribe to.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        asked: Subscribe,
    ) -> Result<SubscriptionRow, Error> {
        let (account, principal) = caller.account()?;
        let (endpoint, target) = check_endpoint(asked.protocol, &asked.endpoint, &self.outbound)
            .map_err(|field| {
                Refusal::of_field(Code::InvalidParameter, field.field, field.reason)
            })?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // Held, so that the same request sent twice at a time makes one subscription.
        let protocol = asked.protocol.as_str();
        let context = caller
            .context(now)
            .with(ConditionKey::Protocol, protocol)
            .with(ConditionKey::Endpoint, endpoint.as_str());
        let topic = self
            .topic_in_context(&mut tx, caller, &asked.topic, "SNS:Subscribe", true, context)
            .await?;
        let found = subscriptions::lock_by_endpoint(&mut tx, topic.id, protocol, &endpoint).await?;
        let (text, token) = token(now);
        let row = match found {
            Some(row) => {
                let mut wanted = row.clone();
                asked.attributes.apply(&mut wanted)?;
                if wanted != row {
                    return Err(Refusal::new(
                        Code::InvalidParameter,
                        "Invalid parameter: Attributes Reason: Subscription already exists with \
                         different attributes",
                    )
                    .into());
                }
                if row.state == "confirmed" {
                    return Ok(row);
                }
                deliveries::drop_all(&mut tx, row.id, now).await?;
                subscriptions::set_token(&mut tx, row.id, token).await?;
                row
            }
            None => {
                if subscriptions::exceed(&mut tx, topic.id, MAX_SUBSCRIPTIONS).await? {
                    let why = format!("a topic has at most {MAX_SUBSCRIPTIONS} subscriptions");
                    return Err(Refusal::new(Code::SubscriptionLimitExceeded, why).into());
                }
                if subscriptions::count_pending(&mut tx, topic.id).await? >= MAX_PENDING {
                    let why = format!("at most {MAX_PENDING} subscriptions of a topic may wait");
                    return Err(Refusal::new(Code::SubscriptionLimitExceeded, why).into());
                }
                let mut row = SubscriptionRow {
                    id: Uuid::now_v7(),
                    topic_id: topic.id,
                    topic_owner_id: topic.owner_id.clone(),
                    region: topic.region.clone(),
                    topic_name: topic.name.clone(),
                    owner_id: account.to_string(),
                    principal: principal.to_owned(),
                    protocol: protocol.to_owned(),
                    endpoint,
                    target,
                    state: "pending".to_owned(),
                    guarded: false,
                    raw: false,
                    delivery_policy: None,
                    topic_delivery_policy: topic.delivery_policy.clone(),
                    token_expires_at: Some(token.expires_at),
                    created_at: now,
                    confirmed_at: None,
                    filter_policy: None,
                    filter_scope: "MessageAttributes".to_owned(),
                    redrive_policy: None,
                    ordered: false,
                    digest_seconds: 0,
                    last_success_at: None,
                    failure_streak: 0,
                    failing_since: None,
                    disabled_at: None,
                    disabled_reason: None,
                };
                asked.attributes.apply(&mut row)?;
                if row.filter_policy.is_some() {
                    check_filters(&mut tx, &row).await?;
                }
                let secret = (!asked.protocol.is_mail()).then(secrets::generate);
                subscriptions::insert(&mut tx, &row, token, secret.as_deref()).await?;
                row
            }
        };
        let kind = MessageKind::SubscriptionConfirmation;
        self.send_token(&mut tx, &row, kind, &text, principal).await?;
        tx.commit().await?;
        self.due.notify_one();
        Ok(row)
    }

    /// Confirms the subscription whose endpoint was sent the token; also takes an end back. Whoever
    /// has the token may do it.
    ///
    /// # Errors
    /// A bad topic or token (`InvalidParameter`).
    pub async fn confirm(&self, asked: Confirm) -> Result<SubscriptionArn, Error> {
        let invalid = || Refusal::of_field(Code::InvalidParameter, "token", "Invalid token");
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let topic = if *asked.topic.region() == self.region {
            topics::find(&mut tx, &asked.topic).await?
        } else {
            None
        };
        let topic = topic.ok_or_else(|| {
            let why = "Invalid parameter: Topic";
            Refusal::of_field(Code::InvalidParameter, "topic_arn", why)
        })?;
        let row = subscriptions::lock_by_token(&mut tx, topic.id, sha256(&asked.token))
            .await?
            .filter(|row| row.token_expires_at.is_some_and(|expiry| now < expiry))
            .ok_or_else(invalid)?;
        let arn = SubscriptionArn::new(asked.topic, row.id);
        if row.state == "confirmed" {
            return Ok(arn);
        }
        if row.state == "ended" {
            let live =
                subscriptions::lock_by_endpoint(&mut tx, topic.id, &row.protocol, &row.endpoint);
            if live.await?.is_some() {
                let why = "the endpoint was subscribed again in the meantime";
                return Err(Refusal::new(Code::InvalidParameter, why).into());
            }
        }
        subscriptions::confirm(&mut tx, row.id, now, asked.guarded).await?;
        tx.commit().await?;
        Ok(arn)
    }

    /// Ends a subscription. `caller` is `None` for whoever opened the link in a message. One that
    /// does not exist, or not for this caller, is no fault.
    ///
    /// # Errors
    /// When it waits for its confirmation, or only an authenticated caller may end it.
    pub async fn unsubscribe(
        &self,
        caller: Option<&Caller>,
        arn: &SubscriptionArn,
    ) -> Result<(), Error> {
        let account = caller.map(Caller::account).transpose()?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if *arn.topic().region() != self.region {
            return Ok(());
        }
        let Some(row) = subscriptions::lock(&mut tx, arn).await? else { return Ok(()) };
        let is = |owner: &str| account.is_some_and(|(account, _)| account.to_string() == owner);
        let foreign = caller.is_some() && !is(&row.owner_id) && !is(&row.topic_owner_id);
        if foreign || row.state == "ended" {
            return Ok(());
        }
        if row.state == "pending" {
            let why = "a subscription that waits for its confirmation cannot be ended; it is \
                       removed by itself after 3 days";
            return Err(Refusal::of_field(Code::InvalidParameter, "subscription_arn", why).into());
        }
        if caller.is_none() && row.guarded {
            let why = "only an authenticated request may end this subscription";
            return Err(Refusal::new(Code::AuthorizationError, why).into());
        }
        deliveries::drop_all(&mut tx, row.id, now).await?;
        digests::discard(&mut tx, row.id).await?;
        if is(&row.owner_id) {
            subscriptions::end(&mut tx, row.id, now, None).await?;
        } else {
            // Somebody else did it, so the endpoint is asked whether it agrees.
            let (text, token) = token(now);
            subscriptions::end(&mut tx, row.id, now, Some(token)).await?;
            let by = account.map_or("anonymous", |(_, principal)| principal);
            let kind = MessageKind::UnsubscribeConfirmation;
            self.send_token(&mut tx, &row, kind, &text, by).await?;
        }
        tx.commit().await?;
        self.due.notify_one();
        Ok(())
    }

    /// A subscription, for its owner and its topic's.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get_subscription(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
    ) -> Result<SubscriptionRow, Error> {
        let mut db = self.store.connection().await?;
        let row = subscriptions::find(&mut db, arn).await?;
        self.visible(caller, arn, row)
    }

    /// A page of the caller's subscriptions, or of those of a topic; and the token of the next.
    ///
    /// # Errors
    /// When there is no topic that the caller may list.
    pub async fn list_subscriptions(
        &self,
        caller: &Caller,
        topic: Option<&TopicArn>,
        page: &Page,
    ) -> Result<(Vec<SubscriptionRow>, String), Error> {
        let (account, _) = caller.account()?;
        let after = page.after.as_deref().map(str::parse::<Uuid>).transpose().map_err(|_| {
            let why = "no list of subscriptions gave out this token";
            Refusal::of_field(Code::InvalidNextToken, "page_token", why)
        })?;
        let (after, limit) = (after.unwrap_or_default(), page.limit());
        let mut db = self.store.connection().await?;
        let mut rows = match topic {
            Some(arn) => {
                let action = "SNS:ListSubscriptionsByTopic";
                let topic = self.topic(&mut db, caller, arn, action, false).await?;
                subscriptions::list_by_topic(&mut db, topic.id, after, limit).await?
            }
            None => {
                let region = self.region.as_str();
                subscriptions::list_by_owner(&mut db, account, region, after, limit).await?
            }
        };
        let token = page.cut(&mut rows, |row| row.id.to_string());
        Ok((rows, token))
    }

    /// Changes attributes of one of the caller's subscriptions; what is absent stays.
    ///
    /// # Errors
    /// Bad attributes, or no such subscription.
    pub async fn set_subscription_attributes(
        &self,
        caller: &Caller,
        asked: SetSubscriptionAttributes,
    ) -> Result<SubscriptionRow, Error> {
        let mut tx = self.store.begin().await?;
        let row = subscriptions::lock(&mut tx, &asked.subscription).await?;
        let mut row = self.owned(caller, &asked.subscription, row)?;
        let had_filter = row.filter_policy.is_some();
        asked.attributes.apply(&mut row)?;
        if row.filter_policy.is_some() && !had_filter {
            check_filters(&mut tx, &row).await?;
        }
        subscriptions::update(&mut tx, &row).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Enables a subscription that was disabled, for its owner and its topic's; one that is enabled
    /// stays so.
    ///
    /// # Errors
    /// When there is none.
    pub async fn enable_subscription(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
    ) -> Result<SubscriptionRow, Error> {
        let mut tx = self.store.begin().await?;
        let row = subscriptions::lock(&mut tx, arn).await?;
        let row = self.visible(caller, arn, row)?;
        if row.disabled_at.is_none() {
            return Ok(row);
        }
        subscriptions::enable(&mut tx, row.id).await?;
        tx.commit().await?;
        Ok(SubscriptionRow {
            disabled_at: None,
            disabled_reason: None,
            failure_streak: 0,
            failing_since: None,
            ..row
        })
    }

    fn visible(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
        row: Option<SubscriptionRow>,
    ) -> Result<SubscriptionRow, Error> {
        let (account, _) = caller.account()?;
        let account = account.to_string();
        row.filter(|row| row.state != "ended")
            .filter(|row| row.owner_id == account || row.topic_owner_id == account)
            .filter(|_| *arn.topic().region() == self.region)
            .ok_or_else(|| no_subscription(arn))
    }

    /// The subscription, if it is the caller's own.
    fn owned(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
        row: Option<SubscriptionRow>,
    ) -> Result<SubscriptionRow, Error> {
        let (account, _) = caller.account()?;
        let row = self.visible(caller, arn, row)?;
        if row.owner_id != account.to_string() {
            let why = "only the account that subscribed may do this";
            return Err(Refusal::of_field(Code::AuthorizationError, "subscription_arn", why).into());
        }
        Ok(row)
    }

    async fn send_token(
        &self,
        db: &mut PgConnection,
        row: &SubscriptionRow,
        kind: MessageKind,
        token: &str,
        by: &str,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let topic = row.topic_arn();
        let body = if kind == MessageKind::UnsubscribeConfirmation {
            format!(
                "You have chosen to deactivate subscription {topic}:{}.\nTo cancel this operation \
                 and restore the subscription, visit the SubscribeURL included in this message.",
                row.id
            )
        } else {
            format!(
                "You have chosen to subscribe to the topic {topic}.\nTo confirm the subscription, \
                 visit the SubscribeURL included in this message."
            )
        };
        let message = NewMessage {
            id: Uuid::new_v4(),
            topic_id: row.topic_id,
            kind,
            event_id: None,
            notification_id: None,
            subject: None,
            body,
            variants: None,
            attributes: "{}".to_owned(),
            published_by: by.to_owned(),
            ordering_key: None,
            trace: telemetry::inject(&tracing::Span::current()),
            published_at: now,
        };
        messages::insert(db, &message).await?;
        let confirmation = NewConfirmation {
            message: message.id,
            topic: row.topic_id,
            subscription: row.id,
            target: &row.target,
            token,
            now,
        };
        deliveries::insert_confirmation(db, confirmation).await?;
        Ok(())
    }
}
