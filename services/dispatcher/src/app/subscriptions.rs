//! Subscriptions: asked for, confirmed, ended.

use std::fmt;

use chrono::{DateTime, Utc};
use lettre::Address;
use postern_model::arn::{SubscriptionArn, TopicArn};
use postern_model::{Code, InvalidField, Refusal};
use postern_proto::page::Page;
use postern_runtime::telemetry;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use url::{Host, Url};
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::deliver::outbound::OutboundPolicy;
use crate::error::Error;
use crate::plan::SubscriptionPolicy;
use crate::store::deliveries::NewConfirmation;
use crate::store::messages::{MessageKind, NewMessage};
use crate::store::subscriptions::{self, SubscriptionRow, TokenRow};
use crate::store::{deliveries, messages, topics};

/// How long a token counts (spec 8.2).
const TOKEN_LIFE: chrono::Duration = chrono::Duration::days(2);
/// The longest endpoint, in bytes.
const MAX_ENDPOINT: usize = 2048;
/// The most unconfirmed subscriptions of a topic: whoever may subscribe must not fill the store, nor
/// use the dispatcher to flood others with confirmation messages.
const MAX_PENDING: i64 = 10_000;
/// Whom the load of mails falls on.
const MAIL_TARGET: &str = "smtp";

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionProtocol {
    /// Posted to an `http://` address.
    Http,
    /// Posted to an `https://` address.
    Https,
    /// Mailed as text.
    Email,
    /// Mailed as JSON.
    EmailJson,
}

impl SubscriptionProtocol {
    /// The protocol as SNS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Email => "email",
            Self::EmailJson => "email-json",
        }
    }

    fn is_mail(self) -> bool {
        matches!(self, Self::Email | Self::EmailJson)
    }
}

impl fmt::Display for SubscriptionProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks for a subscription.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The topic.
    pub topic: TopicArn,
    /// How messages are sent.
    pub protocol: SubscriptionProtocol,
    /// Where they are sent.
    pub endpoint: String,
    /// Whether the bare message is sent.
    pub raw: Option<bool>,
    /// How deliveries are retried.
    pub delivery_policy: Option<String>,
}

/// Asks to change attributes.
#[derive(Clone, Debug)]
pub struct SetSubscriptionAttributes {
    /// The subscription.
    pub subscription: SubscriptionArn,
    /// Whether the bare message is sent.
    pub raw: Option<bool>,
    /// How deliveries are retried; empty takes it away.
    pub delivery_policy: Option<String>,
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

/// Checks where messages are to go; returns the endpoint as it is kept and whom its load falls on.
fn check_endpoint(
    protocol: SubscriptionProtocol,
    endpoint: &str,
    outbound: &OutboundPolicy,
) -> Result<(String, String), InvalidField> {
    let bad = |why: String| InvalidField::new("endpoint", why);
    if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT {
        return Err(bad(format!("must have 1 to {MAX_ENDPOINT} bytes")));
    }
    if protocol.is_mail() {
        let address: Address =
            endpoint.parse().map_err(|error| bad(format!("is no mail address: {error}")))?;
        return Ok((address.to_string(), MAIL_TARGET.to_owned()));
    }
    let url = Url::parse(endpoint).map_err(|error| bad(format!("is no web address: {error}")))?;
    if url.scheme() != protocol.as_str() {
        return Err(bad(format!("must start with {protocol}:// for this protocol")));
    }
    if protocol == SubscriptionProtocol::Http
        && !(url.username().is_empty() && url.password().is_none())
    {
        return Err(bad("may carry credentials in an https:// address only".to_owned()));
    }
    let host = url.host().ok_or_else(|| bad("names no host".to_owned()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    outbound.check_port(port).map_err(|error| bad(error.to_string()))?;
    let literal = match host {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    };
    if let Some(address) = literal {
        outbound.check_address(address).map_err(|error| bad(error.to_string()))?;
    }
    Ok((endpoint.to_owned(), format!("{host}:{port}")))
}

fn check_attributes(
    protocol: SubscriptionProtocol,
    raw: Option<bool>,
    delivery_policy: Option<&str>,
) -> Result<(), Error> {
    if protocol.is_mail() && raw == Some(true) {
        let why = "raw delivery is not for mail";
        return Err(Refusal::of_field(Code::InvalidParameter, "raw_message_delivery", why).into());
    }
    let Some(document) = delivery_policy.filter(|text| !text.is_empty()) else { return Ok(()) };
    let bad = |why: String| Refusal::of_field(Code::InvalidParameter, "delivery_policy", why);
    if protocol.is_mail() {
        return Err(bad("the retries of mail cannot be set".to_owned()).into());
    }
    SubscriptionPolicy::parse(document)
        .map_err(|fault| bad(format!("Invalid parameter: DeliveryPolicy: {fault}")))?;
    Ok(())
}

fn protocol_of(row: &SubscriptionRow) -> SubscriptionProtocol {
    match row.protocol.as_str() {
        "http" => SubscriptionProtocol::Http,
        "https" => SubscriptionProtocol::Https,
        "email-json" => SubscriptionProtocol::EmailJson,
        _ => SubscriptionProtocol::Email,
    }
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
        check_attributes(asked.protocol, asked.raw, asked.delivery_policy.as_deref())?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // Held, so that the same request sent twice at a time makes one subscription.
        let topic = self.topic(&mut tx, caller, &asked.topic, "SNS:Subscribe", true).await?;
        let protocol = asked.protocol.as_str();
        let found = subscriptions::lock_by_endpoint(&mut tx, topic.id, protocol, &endpoint).await?;
        let (text, token) = token(now);
        let row = match found {
            Some(row) => {
                let same = asked.raw.is_none_or(|raw| raw == row.raw)
                    && asked.delivery_policy.as_ref().is_none_or(|policy| {
                        *policy == row.delivery_policy.clone().unwrap_or_default()
                    });
                if !same {
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
                if subscriptions::count_pending(&mut tx, topic.id).await? >= MAX_PENDING {
                    let why = format!("at most {MAX_PENDING} subscriptions of a topic may wait");
                    return Err(Refusal::new(Code::SubscriptionLimitExceeded, why).into());
                }
                let row = SubscriptionRow {
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
                    raw: asked.raw.unwrap_or_default(),
                    delivery_policy: asked.delivery_policy.filter(|text| !text.is_empty()),
                    topic_delivery_policy: topic.delivery_policy.clone(),
                    token_expires_at: Some(token.expires_at),
                    created_at: now,
                    confirmed_at: None,
                };
                subscriptions::insert(&mut tx, &row, token).await?;
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

    /// Changes attributes; what is absent stays.
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
        let mut row = self.visible(caller, &asked.subscription, row)?;
        check_attributes(protocol_of(&row), asked.raw, asked.delivery_policy.as_deref())?;
        row.raw = asked.raw.unwrap_or(row.raw);
        if let Some(document) = asked.delivery_policy {
            row.delivery_policy = Some(document).filter(|text| !text.is_empty());
        }
        let policy = row.delivery_policy.as_deref();
        subscriptions::update(&mut tx, row.id, row.raw, policy).await?;
        tx.commit().await?;
        Ok(row)
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

    async fn send_token(
        &self,
        db: &mut PgConnection,
        row: &SubscriptionRow,
        kind: MessageKind,
        token: &str,
        by: &str,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let topic = format!("arn:aws:sns:{}:{}:{}", row.region, row.topic_owner_id, row.topic_name);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: SubscriptionProtocol, endpoint: &str) -> Result<String, String> {
        check_endpoint(protocol, endpoint, &OutboundPolicy::default())
            .map(|(_, target)| target)
            .map_err(|field| field.reason)
    }

    #[test]
    fn endpoints_are_checked_by_their_protocol() {
        use SubscriptionProtocol::{Email, Http, Https};
        assert_eq!(check(Http, "http://Example.com/a?b").unwrap(), "example.com:80");
        assert_eq!(check(Https, "https://u:p@example.com:8443/").unwrap(), "example.com:8443");
        assert_eq!(check(Email, "someone@example.com").unwrap(), "smtp");
        for (protocol, endpoint) in [
            (Http, ""),
            (Http, "example.com"),
            (Http, "https://example.com/"),
            (Http, "http://u:p@example.com/"),
            (Http, "http://example.com:22/"),
            (Http, "http://127.0.0.1:8080/"),
            (Http, "http://2130706433:8080/"),
            (Http, "http://[::ffff:169.254.169.254]/"),
            (Https, "http://example.com/"),
            (Email, "someone"),
            (Email, "http://example.com/"),
        ] {
            assert!(check(protocol, endpoint).is_err(), "{endpoint}");
        }
    }
}
