//! Events from RabbitMQ: a durable quorum queue with a dead-letter exchange and a delivery limit.
//!
//! The topology is declared on every connection, which changes nothing where it is there. When the
//! connection breaks, the source says so, and connects again when it is next asked; what was not
//! acknowledged comes again.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;

use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use postern_runtime::admin::Part;
use postern_runtime::bus::{Delivery, Message, Outcome, Settle, SettleError, Source, SourceError};
use postern_runtime::config::Secret;
use tokio::time::timeout;
use tracing::{error, info};
use uuid::Uuid;

/// The exchange that the control plane publishes to.
pub const EXCHANGE: &str = "postern.endpoint-events";
/// What the dispatcher binds to.
pub const BINDING: &str = "endpoint.*";
/// The dispatcher's queue.
pub const QUEUE: &str = "postern.dispatcher.endpoint-events";
/// Where what can't be handled goes.
pub const DEAD_LETTER_EXCHANGE: &str = "postern.dead-letter";
/// Where it stays.
pub const DEAD_LETTER_QUEUE: &str = "postern.dispatcher.dead-letter";
/// How often a message is delivered before it counts as poison.
const DELIVERY_LIMIT: i64 = 20;
/// How many messages wait here for their turn.
const PREFETCH: u16 = 512;
/// For the connection, and for everything that is declared on it.
const CONNECT: Duration = Duration::from_secs(15);

/// Takes events from a broker.
pub struct AmqpSource {
    url: Secret,
    open: Option<Open>,
    shown: Option<Part>,
}

struct Open {
    // Held for its lifetime: dropped, it closes.
    _connection: Connection,
    _channel: Channel,
    consumer: Consumer,
}

impl AmqpSource {
    /// A source at the broker of this URL (`amqp://user:password@host:port/vhost`). It connects when
    /// it is first asked.
    pub fn new(url: Secret) -> Self {
        Self { url, open: None, shown: None }
    }

    /// Shows in this part whether the broker is there.
    #[must_use]
    pub fn shown_in(mut self, part: Part) -> Self {
        self.shown = Some(part);
        self
    }

    fn lost(&mut self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
        self.open = None;
        let error = error.into();
        if let Some(part) = &self.shown {
            part.not_ready(error.to_string());
        }
        SourceError::Unavailable(error)
    }

    async fn connect(&self) -> lapin::Result<Open> {
        let connection =
            Connection::connect(self.url.expose(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        declare(&channel).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(
                QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        info!(queue = QUEUE, "taking events from the broker");
        Ok(Open { _connection: connection, _channel: channel, consumer })
    }
}

/// Declares the exchanges and queues that events travel through; publishers declare the same.
///
/// # Errors
/// When the broker is away, or has something else under these names.
pub async fn declare(channel: &Channel) -> lapin::Result<()> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    for (exchange, kind) in
        [(EXCHANGE, ExchangeKind::Topic), (DEAD_LETTER_EXCHANGE, ExchangeKind::Topic)]
    {
        channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await?;
    }
    let quorum = || {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments
    };
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(DEAD_LETTER_QUEUE.into(), durable, quorum()).await?;
    channel
        .queue_bind(
            DEAD_LETTER_QUEUE.into(),
            DEAD_LETTER_EXCHANGE.into(),
            BINDING.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(DEAD_LETTER_EXCHANGE.into()),
    );
    channel.queue_declare(QUEUE.into(), durable, arguments).await?;
    channel
        .queue_bind(
            QUEUE.into(),
            EXCHANGE.into(),
            BINDING.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

#[async_trait]
impl Source for AmqpSource {
    async fn next(&mut self) -> Result<Delivery, SourceError> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let open = match timeout(CONNECT, self.connect()).await {
                        Ok(Ok(open)) => open,
                        Ok(Err(error)) => return Err(self.lost(error)),
                        Err(_) => return Err(self.lost("the broker does not answer")),
                    };
                    if let Some(part) = &self.shown {
                        part.ready();
                    }
                    self.open.insert(open)
                }
            };
            match open.consumer.next().await {
                Some(Ok(delivery)) => match read(delivery) {
                    Ok(delivery) => return Ok(delivery),
                    Err((reason, acker)) => {
                        error!(reason, "a message is malformed, putting it aside");
                        let reject = BasicRejectOptions { requeue: false };
                        if let Err(error) = acker.reject(reject).await {
                            return Err(self.lost(error));
                        }
                    }
                },
                Some(Err(error)) => return Err(self.lost(error)),
                None => return Err(self.lost("the broker ended the subscription")),
            }
        }
    }
}

fn read(delivery: AmqpDelivery) -> Result<Delivery, (&'static str, Acker)> {
    let AmqpDelivery { routing_key, redelivered, properties, data, acker, .. } = delivery;
    let id = properties.message_id().as_ref().and_then(|id| id.as_str().parse::<Uuid>().ok());
    let Some(id) = id else { return Err(("its message id is no UUID", acker)) };
    let mut headers = BTreeMap::new();
    if let Some(table) = properties.headers() {
        for (name, value) in table.inner() {
            if let AMQPValue::LongString(value) = value
                && let Ok(value) = std::str::from_utf8(value.as_bytes())
            {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
    }
    let kind = routing_key.as_str().strip_prefix("endpoint.").unwrap_or_default().to_owned();
    // One consumer handles one message after the other, so order is kept without the key.
    let message = Message { id, kind, key: String::new(), headers, body: data.into() };
    Ok(Delivery::new(message, redelivered, Box::new(Receipt(acker))))
}

struct Receipt(Acker);

#[async_trait]
impl Settle for Receipt {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<(), SettleError> {
        let settled = match outcome {
            Outcome::Ack => self.0.ack(BasicAckOptions::default()).await,
            Outcome::Retry => {
                self.0.nack(BasicNackOptions { requeue: true, multiple: false }).await
            }
            Outcome::Reject => self.0.reject(BasicRejectOptions { requeue: false }).await,
        };
        match settled {
            Ok(true) => Ok(()),
            Ok(false) => Err(SettleError("the channel has closed".into())),
            Err(error) => Err(SettleError(error.into())),
        }
    }
}
