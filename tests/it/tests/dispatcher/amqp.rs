//! Events from a real broker.

use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use postern_dispatcher::consume::amqp::{AmqpSource, DEAD_LETTER_QUEUE, EXCHANGE, declare};
use postern_model::event::EventKind;
use postern_model::id::EndpointId;
use postern_runtime::bus::Message;
use postern_runtime::config::Secret;
use postern_testkit::rabbitmq::Vhost;
use postern_testkit::receiver::Receiver;

use crate::world::{PATIENCE, Setup, World, event, message};

async fn publish(channel: &lapin::Channel, message: &Message) {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        let value = AMQPValue::LongString(value.as_str().into());
        headers.insert(name.as_str().into(), value);
    }
    let properties = BasicProperties::default()
        .with_message_id(message.id.to_string().into())
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(2)
        .with_headers(headers);
    channel
        .basic_publish(
            EXCHANGE.into(),
            format!("endpoint.{}", message.kind).into(),
            BasicPublishOptions::default(),
            &message.body,
            properties,
        )
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test]
async fn events_of_the_broker_arrive_once_and_malformed_ones_end_in_the_dead_letter_queue() {
    let vhost = Vhost::claim().await.unwrap();
    let connection =
        Connection::connect(&vhost.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    declare(&channel).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let source = Box::new(AmqpSource::new(Secret::new(vhost.url.clone())));
    let world = World::with(Setup { source: Some(source), ..Setup::default() }).await;
    let receiver = Receiver::start().await.unwrap();
    receiver.confirm(true);
    let topic = world.topic().await.topic_arn;
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;

    let first = event(EventKind::Connect, EndpointId::generate(&mut rand::rng()), &topic);
    publish(&channel, &message(&first)).await;
    publish(&channel, &message(&first)).await;
    let mut broken = message(&first);
    broken.id = uuid::Uuid::new_v4();
    broken.body = "no event".into();
    publish(&channel, &broken).await;
    let last = event(EventKind::Accept, EndpointId::generate(&mut rand::rng()), &topic);
    publish(&channel, &message(&last)).await;

    let of_last = last.id.to_string();
    receiver.wait_for(PATIENCE, |request| request.body.contains(&of_last)).await.unwrap();
    let of_first = first.id.to_string();
    let copies = receiver.received().into_iter().filter(|one| one.body.contains(&of_first));
    assert_eq!(copies.count(), 1);

    let deadline = tokio::time::Instant::now() + PATIENCE;
    let dead = loop {
        let got = channel
            .basic_get(DEAD_LETTER_QUEUE.into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap();
        if let Some(got) = got {
            break got;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing was put aside");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let id = dead.delivery.properties.message_id().clone().unwrap();
    assert_eq!(id.as_str(), broken.id.to_string());
}
