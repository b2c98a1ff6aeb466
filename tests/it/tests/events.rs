//! Events as a public interface: their schemas, their examples, and what a queue of one's own gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use postern_control_plane::app::connections::Decision;
use postern_control_plane::tasks::amqp::AmqpPublisher;
use postern_control_plane::tasks::relay::{Relay, RelayMetrics};
use postern_dispatcher::consume::amqp::{EXCHANGE, declare};
use postern_it::cp::doors::Doors;
use postern_it::schema::faults;
use postern_model::event::{CloudEvent, EventKind};
use postern_runtime::admin::Admin;
use postern_runtime::config::Secret;
use postern_testkit::rabbitmq::Vhost;
use serde_json::Value;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/events/v1").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn schema(kind: &str) -> Value {
    file(&format!("{}.schema.json", kind.to_lowercase()))
}

#[test]
fn every_event_has_a_schema_and_an_example_that_reads_and_writes_the_same() {
    for kind in EventKind::ALL {
        let schema = schema(kind.as_str());
        let example = file(&format!("{}.example.json", kind.as_str().to_lowercase()));
        assert_eq!(faults(&schema, &example), Vec::<String>::new(), "{kind}");
        assert_eq!(schema["$id"], example["dataschema"], "{kind}");
        let event: CloudEvent = serde_json::from_value(example.clone()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), example, "{kind}");
        // The schema can tell: another kind is refused, and so is what is not documented.
        for other in EventKind::ALL.into_iter().filter(|other| *other != kind) {
            assert!(!faults(&self::schema(other.as_str()), &example).is_empty());
        }
        let mut more = example;
        more["data"]["secret"] = Value::Bool(true);
        assert_eq!(faults(&schema, &more), ["$.data.secret is not documented"]);
    }
}

/// As docs/events.md says: a queue of one's own, bound to the exchange by a pattern.
async fn bind(channel: &lapin::Channel, queue: &str, pattern: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, arguments).await.unwrap();
    let options = QueueBindOptions::default();
    let none = FieldTable::default();
    channel.queue_bind(queue.into(), EXCHANGE.into(), pattern.into(), options, none).await.unwrap();
}

#[tokio::test]
async fn a_queue_of_ones_own_gets_every_event_as_its_schema_says() {
    let vhost = Vhost::claim().await.unwrap();
    let connection =
        Connection::connect(&vhost.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    declare(&channel).await.unwrap();
    bind(&channel, "audit.all", "endpoint.*").await;
    bind(&channel, "audit.rejected", "endpoint.Reject").await;

    let (deciding, automatic) = (Doors::deciding().await, Doors::automatic().await);
    let endpoint = deciding.endpoint().await.id;
    deciding.decide(endpoint, Decision::Accept).await;
    deciding.decide(endpoint, Decision::Reject).await;
    deciding.delete(endpoint).await;
    let by_itself = automatic.endpoint().await.id;
    automatic.delete(by_itself).await;
    let part = Admin::new("test").readiness.part("bus");
    let publisher = Arc::new(AmqpPublisher::new(&Secret::new(vhost.url.clone()), part).unwrap());
    for doors in [&deciding, &automatic] {
        let metrics = RelayMetrics::register(&mut Default::default());
        let store = doors.cp.app.store.clone();
        let report = Relay::new(store, publisher.clone(), metrics).pass().await.unwrap();
        assert!(report.published > 0 && report.failed == 0, "{report:?}");
    }

    let none = FieldTable::default;
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume("audit.all".into(), "".into(), options, none()).await;
    let mut came = consume.unwrap();
    let mut seen = Vec::new();
    for _ in 0..7 {
        let delivery = timeout(PATIENCE, came.next()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        let kind = event["data"]["event"].as_str().unwrap().to_owned();
        assert_eq!(faults(&schema(&kind), &event), Vec::<String>::new());
        assert_eq!(delivery.routing_key.as_str(), format!("endpoint.{kind}"));
        let properties = &delivery.properties;
        let text = |text: &Option<lapin::types::ShortString>| text.clone().unwrap().to_string();
        assert_eq!(text(properties.message_id()), event["id"]);
        assert_eq!(text(properties.kind()), event["type"]);
        assert_eq!(text(properties.content_type()), "application/cloudevents+json");
        assert_eq!(*properties.delivery_mode(), Some(2));
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let subject = event["subject"].as_str().unwrap().to_owned();
        seen.push((subject, event["data"]["sequence"].as_i64().unwrap(), kind));
    }
    let of = |endpoint: String| -> Vec<(i64, &str)> {
        let mine = seen.iter().filter(|(subject, _, _)| *subject == endpoint);
        mine.map(|(_, sequence, kind)| (*sequence, kind.as_str())).collect()
    };
    let life = [(1, "Connect"), (2, "Accept"), (3, "Reject"), (4, "Delete")];
    assert_eq!(of(endpoint.to_string()), life);
    assert_eq!(of(by_itself.to_string()), [(1, "Connect"), (2, "Accept"), (3, "Delete")]);

    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume("audit.rejected".into(), "".into(), options, none()).await;
    let mut came = consume.unwrap();
    let delivery = timeout(PATIENCE, came.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(delivery.routing_key.as_str(), "endpoint.Reject");
}
