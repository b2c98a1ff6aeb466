//! Events over AMQP: the production transport of the bus (design 3 and 4).
//!
//! A message counts as published when the broker has confirmed it and had a queue for it: it is sent
//! `mandatory`, and one that comes back as unroutable is a failure like any other. So nothing is lost
//! while the dispatcher, whose queue it is, has never been there yet.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use postern_runtime::admin::Part;
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{Message, PublishError, Publisher};
use postern_runtime::config::Secret;
use postern_runtime::shutdown::Stop;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Where endpoint events are published.
pub const EXCHANGE: &str = "postern.endpoint-events";

/// For a connection with its channel and exchange.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// For the confirms of a batch.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);
/// Between heartbeats, in seconds: a broker that is gone is noticed after two.
const HEARTBEAT_SECONDS: u16 = 10;
/// How often an idle connection is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// AMQP's persistent delivery mode.
const PERSISTENT: u8 = 2;

/// A connection, and its one channel with confirms.
struct Live {
    connection: Connection,
    channel: Channel,
}

impl Live {
    fn is_good(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// Publishes to a broker, connecting when it must.
pub struct AmqpPublisher {
    uri: AMQPUri,
    live: Mutex<Option<Live>>,
    part: Part,
}

impl std::fmt::Debug for AmqpPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URI has a password in it.
        f.debug_struct("AmqpPublisher").finish_non_exhaustive()
    }
}

impl AmqpPublisher {
    /// The broker at `url`, such as `amqp://user:password@host:5672/vhost`. `part` tells whether it is
    /// there.
    ///
    /// # Errors
    ///
    /// Why `url` is none, without its content: it has a password in it.
    pub fn new(url: &Secret, part: Part) -> Result<Self, String> {
        let mut uri: AMQPUri = url.expose().parse().map_err(|_| {
            "is not an AMQP URL such as amqp://user:password@host:5672/vhost".to_owned()
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self { uri, live: Mutex::new(None), part })
    }

    /// Keeps a connection open until `stop` is asked for, so that the broker's absence is known
    /// before the next event is.
    pub async fn keep(&self, stop: Stop) {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut failures = 0;
        loop {
            let connected = {
                let mut live = self.live.lock().await;
                self.ensure(&mut live).await.map(|_| ())
            };
            let wait = match connected {
                Ok(()) => {
                    failures = 0;
                    LOOK
                }
                Err(error) => {
                    warn!(%error, "the message broker can't be reached, events wait in the outbox");
                    failures += 1;
                    backoff.delay(failures - 1, &mut rand::rng())
                }
            };
            tokio::select! {
                () = stop.stopped() => break,
                () = sleep(wait) => {}
            }
        }
        if let Some(live) = self.live.lock().await.take() {
            let closed = live.connection.close(200, "stopping".into());
            let _ = timeout(CONNECT_PATIENCE, closed).await;
        }
    }

    /// The channel, of a new connection if need be.
    async fn ensure(&self, live: &mut Option<Live>) -> Result<Channel, PublishError> {
        if let Some(live) = live.as_ref().filter(|live| live.is_good()) {
            return Ok(live.channel.clone());
        }
        *live = None;
        let connected = timeout(CONNECT_PATIENCE, self.connect()).await;
        let connected = match connected {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(PublishError::Unavailable(error.into())),
            Err(elapsed) => Err(PublishError::Unavailable(elapsed.into())),
        };
        match connected {
            Ok(connected) => {
                info!("connected to the message broker");
                self.part.ready();
                Ok(live.insert(connected).channel.clone())
            }
            Err(error) => {
                self.part.not_ready("the message broker can't be reached; events wait");
                Err(error)
            }
        }
    }

    async fn connect(&self) -> lapin::Result<Live> {
        let properties =
            ConnectionProperties::default().with_connection_name("postern-control-plane".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Live { connection, channel })
    }
}

#[async_trait]
impl Publisher for AmqpPublisher {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut live = self.live.lock().await;
        let mut answers: BTreeMap<usize, Result<(), PublishError>> = BTreeMap::new();
        // In waves: the first message of each key, all at once, then the second of those keys that
        // had no failure. A message that overtook a failed one of its key would be out of order.
        let mut left: Vec<usize> = (0..batch.len()).collect();
        let mut failed: HashSet<&str> = HashSet::new();
        while !left.is_empty() {
            let channel = match self.ensure(&mut live).await {
                Ok(channel) => channel,
                Err(error) => {
                    let reason = error.to_string();
                    for index in left {
                        answers
                            .insert(index, Err(PublishError::Unavailable(reason.clone().into())));
                    }
                    break;
                }
            };
            let mut keys = HashSet::new();
            let (wave, rest): (Vec<usize>, Vec<usize>) =
                left.into_iter().partition(|index| keys.insert(batch[*index].key.as_str()));
            let sent = timeout(CONFIRM_PATIENCE, send(&channel, batch, &wave)).await;
            let sent = sent.unwrap_or_else(|_| {
                let late = || Err(PublishError::Unavailable("the confirm did not come".into()));
                wave.iter().map(|_| late()).collect()
            });
            for (index, answer) in wave.into_iter().zip(sent) {
                if matches!(answer, Err(PublishError::Unavailable(_))) {
                    // Whatever the channel still has to say is not for the next messages.
                    *live = None;
                }
                if answer.is_err() {
                    failed.insert(batch[index].key.as_str());
                }
                answers.insert(index, answer);
            }
            left = rest;
            left.retain(|index| {
                let held_up = failed.contains(batch[*index].key.as_str());
                if held_up {
                    let reason = "an earlier event of the endpoint was not taken".to_owned();
                    answers.insert(*index, Err(PublishError::Refused(reason)));
                }
                !held_up
            });
        }
        answers.into_values().collect()
    }
}

/// Publishes a wave, then waits for the confirm of each.
async fn send(
    channel: &Channel,
    batch: &[Message],
    wave: &[usize],
) -> Vec<Result<(), PublishError>> {
    let mut confirms = Vec::with_capacity(wave.len());
    for index in wave {
        let message = &batch[*index];
        let published = channel
            .basic_publish(
                EXCHANGE.into(),
                format!("endpoint.{}", message.kind).into(),
                BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                &message.body,
                properties(message),
            )
            .await;
        confirms.push(published);
    }
    let mut answers = Vec::with_capacity(wave.len());
    for confirm in confirms {
        let confirmed = match confirm {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        answers.push(match confirmed {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Err(
                PublishError::Refused("no queue takes it: has the dispatcher been there?".into()),
            ),
            Ok(Confirmation::Nack(None)) => {
                Err(PublishError::Refused("the broker could not store it".into()))
            }
            Ok(Confirmation::NotRequested) => {
                Err(PublishError::Unavailable("the channel has no confirms".into()))
            }
            Err(error) => Err(PublishError::Unavailable(error.into())),
        });
    }
    answers
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
    }
    BasicProperties::default()
        .with_message_id(message.id.to_string().into())
        .with_content_type("application/cloudevents+json".into())
        .with_type(format!("postern.endpoint.{}", message.kind).into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}
