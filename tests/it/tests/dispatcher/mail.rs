//! Deliveries by mail.

use std::time::Duration;

use postern_model::event::EventKind;
use postern_proto::v1;
use postern_testkit::smtp::{Mail, MailSink, Reception};

use crate::world::{PATIENCE, PROVIDER, Setup, World, by};

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
    let html = mail.html().unwrap();
    assert!(html.contains("the message") && html.contains("A subject"), "{html}");
    assert!(html.contains("Action=Unsubscribe&amp;SubscriptionArn="), "{html}");
    assert!(mail.header("List-Unsubscribe").unwrap().starts_with("<http://"));
    assert_eq!(mail.header("List-Unsubscribe-Post"), None, "one click needs https");
    assert_eq!(asked.header("List-Unsubscribe"), None, "a confirmation ends nothing");
}

async fn digested(world: &World, topic: &str, seconds: i32) -> v1::Subscription {
    let request = v1::SubscribeRequest {
        topic_arn: topic.to_owned(),
        protocol: v1::SubscriptionProtocol::Email.into(),
        endpoint: "someone@example.com".to_owned(),
        digest_seconds: Some(seconds),
        ..Default::default()
    };
    let answer = world.client().subscribe(by(PROVIDER, request)).await.unwrap();
    answer.into_inner().subscription.unwrap()
}

async fn confirm(world: &World, sink: &MailSink, subscription: &v1::Subscription) {
    let asked = |mail: &Mail| mail.header("Subject").is_some_and(|s| s.starts_with("Confirm your"));
    let text = sink.wait_for(PATIENCE, asked).await.unwrap().text().unwrap();
    let link = text.lines().find(|line| line.contains("Action=ConfirmSubscription")).unwrap();
    assert_eq!(world.get(link.trim()).await.0, 200);
    world.confirmed(subscription).await;
}

fn of(count: usize) -> impl Fn(&Mail) -> bool {
    let subject = format!("{count} notification");
    move |mail| mail.header("Subject").is_some_and(|s| s.starts_with(&subject))
}

#[tokio::test]
async fn what_is_published_in_a_window_is_one_mail_also_after_a_crash() {
    let sink = MailSink::start().await.unwrap();
    let mail = Some(sink.address());
    let world = World::with(Setup { mail, ..Setup::default() }).await;
    let topic = world.topic().await.topic_arn;
    let subscription = digested(&world, &topic, 600).await;
    confirm(&world, &sink, &subscription).await;
    world.publish(&topic, "the first").await;
    world.happens(EventKind::Connect, &topic).await;
    world.until("the event is decided", async || world.heard.all().len() == 1).await;
    world.clock.advance(Duration::from_secs(300));
    world.publish(&topic, "the last").await;
    assert_eq!(world.deliveries(&topic).await.len(), 1, "the confirmation");

    let (database, clock) = world.crash().await;
    let database = Some(database);
    let again = Setup { mail, database, clock: clock.clone(), ..Setup::default() };
    let world = World::with(again).await;
    clock.advance(Duration::from_secs(301));
    let digest = sink.wait_for(PATIENCE, of(3)).await.unwrap();
    assert_eq!(digest.header("Subject").unwrap(), "3 notifications from doors");
    let (text, html) = (digest.text().unwrap(), digest.html().unwrap());
    let places: Vec<Option<usize>> =
        ["the first", "VPC endpoint Connect", "the last"].map(|part| text.find(part)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    assert!(html.contains("the first") && html.contains("pendingAcceptance"), "{html}");
    assert!(digest.header("List-Unsubscribe").is_some());
    let delivery =
        world.newest(&topic, |delivery| delivery.state() == v1::DeliveryState::Delivered).await;
    assert_eq!(delivery.kind(), v1::DeliveryKind::Digest);

    // Without a window nothing waits, not even what was collected.
    world.publish(&topic, "collected").await;
    let set = v1::SetSubscriptionAttributesRequest {
        subscription_arn: subscription.subscription_arn.clone(),
        digest_seconds: Some(0),
        ..Default::default()
    };
    world.client().set_subscription_attributes(by(PROVIDER, set)).await.unwrap();
    let rest = sink.wait_for(PATIENCE, of(1)).await.unwrap();
    assert_eq!(rest.header("Subject").unwrap(), "1 notification from doors");
    world.publish(&topic, "alone").await;
    let alone = |mail: &Mail| mail.header("Subject").is_some_and(|s| s == "A subject");
    sink.wait_for(PATIENCE, alone).await.unwrap();
    assert_eq!(sink.mails().iter().filter(|mail| of(3)(mail)).count(), 1);
}

#[tokio::test]
async fn a_digest_that_is_full_does_not_wait_and_one_of_an_ended_subscription_is_not_sent() {
    let sink = MailSink::start().await.unwrap();
    let world = World::with(Setup { mail: Some(sink.address()), ..Setup::default() }).await;
    let topic = world.topic().await.topic_arn;
    let subscription = digested(&world, &topic, 600).await;
    confirm(&world, &sink, &subscription).await;
    for number in 0..101 {
        world.publish(&topic, &format!("message {number}")).await;
    }
    let full = sink.wait_for(PATIENCE, of(100)).await.unwrap();
    assert!(full.text().unwrap().contains("message 99"));
    let end = v1::UnsubscribeRequest { subscription_arn: subscription.subscription_arn };
    world.client().unsubscribe(by(PROVIDER, end)).await.unwrap();
    world.clock.advance(Duration::from_secs(601));
    // Whatever is due by now comes before what is asked for next.
    let other = world.subscribe(&topic, "other@example.com").await;
    let asked = |mail: &Mail| mail.to == ["other@example.com"];
    sink.wait_for(PATIENCE, asked).await.unwrap();
    assert!(!sink.mails().iter().any(|mail| of(1)(mail)), "{}", other.endpoint);
}

#[tokio::test]
async fn one_click_ends_a_subscription_and_the_endpoint_may_take_it_back() {
    let sink = MailSink::start().await.unwrap();
    let public = Some("https://events.example.com");
    let setup = Setup { mail: Some(sink.address()), public, ..Setup::default() };
    let world = World::with(setup).await;
    let topic = world.topic().await.topic_arn;
    let subscription = world.subscribe(&topic, "someone@example.com").await;
    confirm(&world, &sink, &subscription).await;
    world.publish(&topic, "the message").await;
    let is_message = |mail: &Mail| mail.header("Subject").is_some_and(|s| s == "A subject");
    let mail = sink.wait_for(PATIENCE, is_message).await.unwrap();
    assert_eq!(mail.header("List-Unsubscribe-Post").unwrap(), "List-Unsubscribe=One-Click");
    let header = mail.header("List-Unsubscribe").unwrap();
    let link = header.trim_start_matches('<').trim_end_matches('>');
    // A POST does nothing else.
    let (status, _) = world.ask("POST", &link.replace("=Unsubscribe", "=Confirm"), "").await;
    assert_eq!(status, 400);
    assert_eq!(world.ask("POST", link, "Content-Length: 0\r\n").await.0, 200);
    let ended = |mail: &Mail| mail.header("Subject").is_some_and(|s| s.ends_with("has ended"));
    let text = sink.wait_for(PATIENCE, ended).await.unwrap().text().unwrap();
    let back = text.lines().find(|line| line.contains("Action=ConfirmSubscription")).unwrap();
    let (status, page) = world.ask("GET", back, "Accept: text/html\r\n").await;
    assert_eq!(status, 200);
    assert!(page.contains("<p>Your subscription is confirmed.</p>"), "{page}");
    world.confirmed(&subscription).await;
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
