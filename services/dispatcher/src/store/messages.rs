//! Messages: what is delivered.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// What kind of message it is, as its `Type` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A message of the topic.
    Notification,
    /// Asks an endpoint whether it wants the topic's messages.
    SubscriptionConfirmation,
    /// Tells an endpoint that somebody else ended its subscription.
    UnsubscribeConfirmation,
    /// Several messages of the topic in one mail: its text is a JSON list of
    /// [`DigestItem`](crate::store::digests::DigestItem)s. SNS has none of these.
    Digest,
}

impl MessageKind {
    /// The kind as SNS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
            Self::Digest => "Digest",
        }
    }

    /// Reads what [`MessageKind::as_str`] says.
    pub fn from_text(text: &str) -> Option<Self> {
        [
            Self::Notification,
            Self::SubscriptionConfirmation,
            Self::UnsubscribeConfirmation,
            Self::Digest,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// A new message.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its id, the same in every attempt.
    pub id: Uuid,
    /// The topic.
    pub topic_id: Uuid,
    /// What kind it is.
    pub kind: MessageKind,
    /// The endpoint event that caused it.
    pub event_id: Option<Uuid>,
    /// The notification that asked for it.
    pub notification_id: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its text.
    pub body: String,
    /// What each protocol gets in place of the text, where the publisher said so.
    pub variants: Option<BTreeMap<String, String>>,
    /// Its attributes: a JSON object, name to `{Type, Value}`.
    pub attributes: String,
    /// The principal that published it.
    pub published_by: String,
    /// First attempts of one key to one subscription are made in order.
    pub ordering_key: Option<String>,
    /// W3C trace context of what caused it.
    pub trace: BTreeMap<String, String>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}

/// Adds a message.
pub async fn insert(db: &mut PgConnection, message: &NewMessage) -> sqlx::Result<()> {
    sqlx::query(include_str!("sql/messages/insert.sql"))
        .bind(message.id)
        .bind(message.topic_id)
        .bind(message.kind.as_str())
        .bind(message.event_id)
        .bind(&message.notification_id)
        .bind(&message.subject)
        .bind(&message.body)
        .bind(&message.attributes)
        .bind(&message.published_by)
        .bind(&message.ordering_key)
        .bind(Json(&message.trace))
        .bind(message.published_at)
        .bind(message.variants.as_ref().map(Json))
        .execute(db)
        .await
        .map(drop)
}

/// Adds messages of one kind that one principal published at one time.
pub async fn insert_batch(
    db: &mut PgConnection,
    kind: MessageKind,
    all: &[NewMessage],
    published_by: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let texts = |of: fn(&NewMessage) -> Option<&str>| all.iter().map(of).collect::<Vec<_>>();
    sqlx::query(include_str!("sql/messages/insert_batch.sql"))
        .bind(all.iter().map(|one| one.id).collect::<Vec<_>>())
        .bind(all.iter().map(|one| one.topic_id).collect::<Vec<_>>())
        .bind(kind.as_str())
        .bind(all.iter().map(|one| one.event_id).collect::<Vec<_>>())
        .bind(texts(|one| one.notification_id.as_deref()))
        .bind(texts(|one| one.subject.as_deref()))
        .bind(texts(|one| Some(&one.body)))
        .bind(texts(|one| Some(&one.attributes)))
        .bind(texts(|one| one.ordering_key.as_deref()))
        .bind(published_by)
        .bind(all.iter().map(|one| Json(&one.trace)).collect::<Vec<_>>())
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}
