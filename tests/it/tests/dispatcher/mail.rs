//! Deliveries by mail.

use std::time::Duration;

use postern_proto::v1;
use postern_testkit::smtp::{MailSink, Reception};

use crate::world::{PATIENCE, Setup, World};

#[tokio::test]
async fn a_mail_address_confirms_by_its_link_and_gets_messages() {
    let sink = MailSink::start().await.unwrap();
    let world = World::with(Setup { mail: Some(sink.address()), ..Setup::default() }).await;
    let topic = world.topic().await.topic_arn;
    let subscription = world.subscribe(&topic, "someone@example.com").await;
    let asked = sink.wait_for(PATIENCE, |_| true).await.unwrap();
    assert_eq!(asked.to, ["someone@example.com"]);
    let text = asked.text().unwrap();
    let link = text.lines().find(|line| line.contains("Action=ConfirmSubscription")).unwrap();
    assert_eq!(world.get(link.trim()).await.0, 200);
    world.confirmed(&subscription).await;

    world.publish(&topic, "the message").await;
    let is_message = |mail: &postern_testkit::smtp::Mail| {
        mail.header("Subject").is_some_and(|s| s == "A subject")
    };
    let mail = sink.wait_for(PATIENCE, is_message).await.unwrap();
    let text = mail.text().unwrap();
    assert!(text.starts_with("the message"), "{text}");
    assert!(text.contains("Action=Unsubscribe&SubscriptionArn="), "{text}");
}

#[tokio::test]
async fn a_mail_that_is_refused_for_now_is_retried_and_one_refused_for_good_is_not() {
    let sink = MailSink::start().await.unwrap();
    sink.next([Reception::Later]);
    let world = World::with(Setup { mail: Some(sink.address()), ..Setup::default() }).await;
    let topic = world.topic().await.topic_arn;
    world.subscribe(&topic, "someone@example.com").await;
    let waits = world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
    assert_eq!((waits.state(), waits.last_status_code), (v1::DeliveryState::Pending, 451));
    world.clock.advance(Duration::from_secs(12));
    world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;

    sink.next([Reception::Never]);
    world.subscribe(&topic, "nobody@example.com").await;
    let dead =
        world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::DeadLettered).await;
    assert_eq!((dead.attempt_count, dead.last_status_code), (1, 550));
}
