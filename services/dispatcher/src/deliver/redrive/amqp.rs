//! Dead letters to RabbitMQ: a durable quorum queue for each name, publisher confirms.

use std::collections::HashSet;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use postern_runtime::bus::{DeadLetters, Letter, PublishError};
use postern_runtime::config::Secret;
use tokio::sync::Mutex;

/// Sends dead letters to a broker.
pub struct AmqpDeadLetters {
    url: Secret,
    open: Mutex<Option<Open>>,
}

struct Open {
    // Held for its lifetime: dropped, it closes.
    _connection: Connection,
    channel: Channel,
    declared: HashSet<String>,
}

impl AmqpDeadLetters {
    /// To the broker of this URL. It connects when it has the first letter.
    pub fn new(url: Secret) -> Self {
        Self { url, open: Mutex::new(None) }
    }

    async fn connect(&self) -> lapin::Result<Open> {
        let connection =
            Connection::connect(self.url.expose(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Open { _connection: connection, channel, declared: HashSet::new() })
    }

    async fn send_all(
        &self,
        open: &mut Open,
        letters: &[Letter],
    ) -> lapin::Result<Vec<Result<(), PublishError>>> {
        let mut confirms = Vec::with_capacity(letters.len());
        for letter in letters {
            if !open.declared.contains(&letter.queue) {
                let mut arguments = FieldTable::default();
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
                let durable = QueueDeclareOptions { durable: true, ..Default::default() };
                open.channel
                    .queue_declare(letter.queue.as_str().into(), durable, arguments)
                    .await?;
                open.declared.insert(letter.queue.clone());
            }
            let mut headers = FieldTable::default();
            for (name, value) in &letter.headers {
                headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
            }
            let properties = BasicProperties::default()
                .with_message_id(letter.id.to_string().into())
                .with_delivery_mode(2)
                .with_headers(headers);
            let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = open
                .channel
                .basic_publish(
                    "".into(),
                    letter.queue.as_str().into(),
                    mandatory,
                    &letter.body,
                    properties,
                )
                .await?;
            confirms.push(confirm);
        }
        let mut answers = Vec::with_capacity(confirms.len());
        for confirm in confirms {
            answers.push(match confirm.await? {
                Confirmation::Ack(None) => Ok(()),
                Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                    Err(PublishError::Refused("the queue is gone".to_owned()))
                }
                Confirmation::Nack(None) | Confirmation::NotRequested => {
                    Err(PublishError::Refused("the broker did not take it".to_owned()))
                }
            });
        }
        Ok(answers)
    }
}

#[async_trait]
impl DeadLetters for AmqpDeadLetters {
    async fn send(&self, letters: &[Letter]) -> Vec<Result<(), PublishError>> {
        let mut held = self.open.lock().await;
        let sent = async {
            let open = match held.as_mut() {
                Some(open) => open,
                None => held.insert(self.connect().await?),
            };
            self.send_all(open, letters).await
        };
        match sent.await {
            Ok(answers) => {
                if answers.iter().any(Result::is_err) {
                    *held = None; // A queue that went is declared again.
                }
                answers
            }
            Err(error) => {
                *held = None;
                let text = error.to_string();
                let away = || PublishError::Unavailable(text.clone().into());
                letters.iter().map(|_| Err(away())).collect()
            }
        }
    }
}
