//! Publishing by a principal.

use std::collections::BTreeMap;

use postern_model::arn::TopicArn;
use postern_runtime::telemetry;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::messages::{self, MessageKind, NewMessage};

/// An attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAttribute {
    /// Its name.
    pub name: String,
    /// `String`, `String.Array`, `Number` or `Binary`.
    pub data_type: String,
    /// Its value.
    pub value: String,
}

/// Asks to publish a message.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The topic.
    pub topic: TopicArn,
    /// The message.
    pub message: String,
    /// What each protocol gets in its place.
    pub variants: Option<BTreeMap<String, String>>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its attributes, by name.
    pub attributes: Vec<MessageAttribute>,
}

impl App {
    /// Publishes a message; returns its id.
    ///
    /// # Errors
    /// When there is no topic that the caller may publish to.
    pub async fn publish(&self, caller: &Caller, asked: Publish) -> Result<Uuid, Error> {
        let (_, principal) = caller.account()?;
        let now = self.clock.now();
        let attributes: Map<String, Value> = asked
            .attributes
            .into_iter()
            .map(|attribute| {
                let value = json!({"Type": attribute.data_type, "Value": attribute.value});
                (attribute.name, value)
            })
            .collect();
        let mut tx = self.store.begin().await?;
        let topic = self.topic(&mut tx, caller, &asked.topic, "SNS:Publish", false).await?;
        let message = NewMessage {
            id: Uuid::new_v4(),
            topic_id: topic.id,
            kind: MessageKind::Notification,
            event_id: None,
            notification_id: None,
            subject: asked.subject,
            body: asked.message,
            variants: asked.variants,
            attributes: Value::Object(attributes).to_string(),
            published_by: principal.to_owned(),
            ordering_key: None,
            trace: telemetry::inject(&tracing::Span::current()),
            published_at: now,
        };
        messages::insert(&mut tx, &message).await?;
        self.fanout.insert(&mut tx, std::slice::from_ref(&message), now).await?;
        tx.commit().await?;
        self.due.notify_one();
        Ok(message.id)
    }
}
