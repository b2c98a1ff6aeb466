//! Connection notifications (spec 1.13 and 7).

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::event::EventKind;
use postern_model::id::{EndpointId, NotificationId, ServiceId};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row as _};

use super::columns::{parsed, parsed_all, parsed_or_none, texts};
use super::sql;
use crate::error::{Error, Result};

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// All endpoints of a service of the provider's.
    Service(ServiceId),
    /// One endpoint of the consumer's.
    Endpoint(EndpointId),
}

impl About {
    fn service(self) -> Option<String> {
        if let Self::Service(service) = self { Some(service.to_string()) } else { None }
    }

    fn endpoint(self) -> Option<String> {
        if let Self::Endpoint(endpoint) = self { Some(endpoint.to_string()) } else { None }
    }

    fn read(row: &PgRow) -> sqlx::Result<Self> {
        match parsed_or_none(row, "service_id")? {
            Some(service) => Ok(Self::Service(service)),
            None => Ok(Self::Endpoint(parsed(row, "endpoint_id")?)),
        }
    }
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The notification.
    pub id: NotificationId,
    /// The account that owns it, and what it is about.
    pub owner: AccountId,
    /// What it is about.
    pub about: About,
    /// The topic's ARN.
    pub topic_arn: String,
    /// The events that it asks for, in order, each once.
    pub events: Vec<EventKind>,
    /// Whether it is sent.
    pub enabled: bool,
    /// Why it is not sent; empty when it is.
    pub disabled_reason: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Notification {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            owner: parsed(row, "owner_id")?,
            about: About::read(row)?,
            topic_arn: row.try_get("topic_arn")?,
            events: parsed_all(row, "events")?,
            enabled: row.try_get("enabled")?,
            disabled_reason: row.try_get("disabled_reason")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// An enabled notification that is about a service or an endpoint, with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Matching {
    /// The notification.
    pub id: NotificationId,
    /// The account that owns what it is about.
    pub owner: AccountId,
    /// The service that it is about.
    pub service: Option<ServiceId>,
    /// The endpoint that it is about.
    pub endpoint: Option<EndpointId>,
    /// The topic's ARN.
    pub topic_arn: String,
    /// The events that it asks for.
    pub events: Vec<EventKind>,
}

impl Matching {
    /// Whether it asks for `kind` of this endpoint of this service.
    pub fn asks_for(&self, kind: EventKind, service: ServiceId, endpoint: EndpointId) -> bool {
        self.events.contains(&kind)
            && (self.service == Some(service) || self.endpoint == Some(endpoint))
    }
}

impl FromRow<'_, PgRow> for Matching {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: parsed(row, "id")?,
            owner: parsed(row, "owner_id")?,
            service: parsed_or_none(row, "service_id")?,
            endpoint: parsed_or_none(row, "endpoint_id")?,
            topic_arn: row.try_get("topic_arn")?,
            events: parsed_all(row, "events")?,
        })
    }
}

/// The enabled notifications that ask for `kind` and are about any of these services or endpoints.
///
/// # Errors
///
/// The database away.
pub async fn matching(
    db: &mut PgConnection,
    kind: EventKind,
    services: &[ServiceId],
    endpoints: &[EndpointId],
) -> Result<Vec<Matching>> {
    Ok(sqlx::query_as(sql!("notifications/matching"))
        .bind(kind.as_str())
        .bind(texts(services))
        .bind(texts(endpoints))
        .fetch_all(db)
        .await?)
}

/// Makes a notification.
///
/// # Errors
///
/// The database away.
pub async fn insert(db: &mut PgConnection, new: &Notification) -> Result<()> {
    sqlx::query(sql!("notifications/insert"))
        .bind(new.id.to_string())
        .bind(new.owner.to_string())
        .bind(new.about.service())
        .bind(new.about.endpoint())
        .bind(&new.topic_arn)
        .bind(texts(&new.events))
        .bind(new.created_at)
        .execute(db)
        .await?;
    Ok(())
}

/// How many notifications are about a thing.
///
/// # Errors
///
/// The database away.
pub async fn count(db: &mut PgConnection, about: About) -> Result<i64> {
    Ok(sqlx::query_scalar(sql!("notifications/count"))
        .bind(about.service())
        .bind(about.endpoint())
        .fetch_one(db)
        .await?)
}

/// One of an account's notifications.
///
/// # Errors
///
/// The database away.
pub async fn find(
    db: &mut PgConnection,
    owner: AccountId,
    id: NotificationId,
) -> Result<Option<Notification>> {
    Ok(sqlx::query_as(sql!("notifications/find"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .fetch_optional(db)
        .await?)
}

/// A page of an account's notifications, by id; of one service or endpoint if given.
///
/// # Errors
///
/// The database away.
pub async fn list(
    db: &mut PgConnection,
    owner: AccountId,
    service: Option<ServiceId>,
    endpoint: Option<EndpointId>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Notification>> {
    Ok(sqlx::query_as(sql!("notifications/list"))
        .bind(owner.to_string())
        .bind(service.map(|service| service.to_string()))
        .bind(endpoint.map(|endpoint| endpoint.to_string()))
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Gives one of an account's notifications a topic and events, and enables it. `None` when it is not
/// there.
///
/// # Errors
///
/// The database away.
pub async fn update(
    db: &mut PgConnection,
    owner: AccountId,
    id: NotificationId,
    topic_arn: Option<&str>,
    events: Option<&[EventKind]>,
) -> Result<Option<Notification>> {
    Ok(sqlx::query_as(sql!("notifications/update"))
        .bind(owner.to_string())
        .bind(id.to_string())
        .bind(topic_arn)
        .bind(events.map(texts))
        .fetch_optional(db)
        .await?)
}

/// Deletes notifications of an account; returns those that were there.
///
/// # Errors
///
/// The database away.
pub async fn delete(
    db: &mut PgConnection,
    owner: AccountId,
    ids: &[NotificationId],
) -> Result<Vec<NotificationId>> {
    let deleted: Vec<String> = sqlx::query_scalar(sql!("notifications/delete"))
        .bind(owner.to_string())
        .bind(texts(ids))
        .fetch_all(db)
        .await?;
    let read = |id: &String| id.parse().map_err(|_| Error::internal("malformed notification id"));
    deleted.iter().map(read).collect()
}

/// Notes that the topic let a notification publish an event, or did not. After `limit` denials in a
/// row it is disabled. The same event reported again changes nothing; neither does a notification
/// that is not there any more. Returns whether it is disabled by this.
///
/// # Errors
///
/// The database away.
pub async fn note(
    db: &mut PgConnection,
    id: NotificationId,
    event: &str,
    allowed: bool,
    reason: &str,
    limit: i32,
) -> Result<bool> {
    let disabled: Option<bool> = sqlx::query_scalar(sql!("notifications/note"))
        .bind(id.to_string())
        .bind(event)
        .bind(allowed)
        .bind(reason)
        .bind(limit)
        .fetch_optional(db)
        .await?;
    Ok(disabled.unwrap_or(false))
}

/// Disabled notifications to a topic, of any account, after the one named, by id.
///
/// # Errors
///
/// The database away.
pub async fn disabled(
    db: &mut PgConnection,
    topic_arn: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Notification>> {
    Ok(sqlx::query_as(sql!("notifications/disabled"))
        .bind(topic_arn)
        .bind(after)
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// Enables a notification that is disabled and still to this topic. Returns whether it was.
///
/// # Errors
///
/// The database away.
pub async fn enable(db: &mut PgConnection, id: NotificationId, topic_arn: &str) -> Result<bool> {
    let enabled = sqlx::query(sql!("notifications/enable"))
        .bind(id.to_string())
        .bind(topic_arn)
        .execute(db)
        .await?;
    Ok(enabled.rows_affected() == 1)
}
