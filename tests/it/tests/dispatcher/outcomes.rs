//! What each way of answering comes to (spec 8.4).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern_dispatcher::deliver::dial::Resolver;
use postern_proto::v1;
use postern_proto::v1::DeliveryState::{DeadLettered, Delivered, Pending};
use postern_testkit::receiver::{Behaviour, Received, Receiver};

use crate::world::{PATIENCE, PROVIDER, Setup, World, by, start};

fn is_notification(request: &Received) -> bool {
    request.headers.get("x-amz-sns-message-type").is_some_and(|kind| kind == "Notification")
}

async fn subscribed(world: &World, receiver: &Receiver) -> (String, v1::Subscription) {
    let topic = world.topic().await.topic_arn;
    receiver.confirm(true);
    let subscription = world.subscribe(&topic, &receiver.url("/hook")).await;
    world.confirmed(&subscription).await;
    (topic, subscription)
}

/// What the first attempt comes to when the receiver behaves so.
async fn first_attempt(behaviour: Behaviour) -> v1::Delivery {
    let world = World::with(Setup { timeout: Duration::from_secs(1), ..Setup::default() }).await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, _) = subscribed(&world, &receiver).await;
    receiver.next("/hook", [behaviour]);
    let id = world.publish(&topic, "m").await;
    world.newest(&topic, |delivery| delivery.message_id == id && delivery.attempt_count == 1).await
}

fn waits_for(delivery: &v1::Delivery) -> i64 {
    delivery.next_attempt_time.unwrap().seconds - start().timestamp()
}

#[tokio::test]
async fn a_target_that_hangs_is_retried_after_the_time_limit() {
    let delivery = first_attempt(Behaviour::Hang).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (Pending, 0));
    assert!(delivery.last_error.contains("no answer within 1 s"), "{}", delivery.last_error);
}

#[tokio::test]
async fn a_head_that_trickles_in_is_retried_after_the_time_limit() {
    let delivery = first_attempt(Behaviour::TrickleHead(Duration::from_millis(20))).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (Pending, 0));
}

#[tokio::test]
async fn a_body_that_trickles_counts_by_its_status() {
    let delivery = first_attempt(Behaviour::Trickle(Duration::from_millis(20))).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (Delivered, 200));
}

#[tokio::test]
async fn a_huge_body_counts_by_its_status_and_is_not_read_to_its_end() {
    let delivery = first_attempt(Behaviour::HugeBody(50_000_000)).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (Delivered, 200));
    let read = delivery.attempts[0].response_bytes;
    assert!((65_536..1_000_000).contains(&read), "{read}");
    assert!(delivery.attempts[0].request_bytes > 0);
}

#[tokio::test]
async fn a_reset_and_a_server_s_error_are_retried() {
    let reset = first_attempt(Behaviour::Reset).await;
    assert_eq!((reset.state(), reset.last_status_code), (Pending, 0));
    let broken = first_attempt(Behaviour::Status(503)).await;
    assert_eq!((broken.state(), broken.last_status_code), (Pending, 503));
}

#[tokio::test]
async fn too_many_requests_are_retried_when_the_receiver_says_but_within_an_hour() {
    for (status, after, expected) in
        [(429, "100", 100..=100), (503, "999999", 3600..=3600), (408, "1", 17..=23)]
    {
        let headers = vec![("retry-after".to_owned(), after.to_owned())];
        let answer = Behaviour::Answer { status, headers, body: String::new() };
        let delivery = first_attempt(answer).await;
        assert_eq!((delivery.state(), delivery.last_status_code), (Pending, i32::from(status)));
        assert!(expected.contains(&waits_for(&delivery)), "{status}: {}", waits_for(&delivery));
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_what_a_private_address_says_is_not_shown() {
    let body = "internal secrets".to_owned();
    let refusal = Behaviour::Answer { status: 403, headers: Vec::new(), body: body.clone() };
    let delivery = first_attempt(refusal).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (DeadLettered, 403));
    let attempt = &delivery.attempts[0];
    assert_eq!(attempt.response_bytes as usize, body.len());
    assert!(attempt.response.is_empty() && !format!("{delivery:?}").contains("secrets"));
}

#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Resolver for Nowhere {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such host"))
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_retried() {
    let world = World::with(Setup { resolver: Arc::new(Nowhere), ..Setup::default() }).await;
    let topic = world.topic().await.topic_arn;
    world.subscribe(&topic, "http://hooks.example:8080/").await;
    let delivery = world.newest(&topic, |delivery| delivery.attempt_count == 1).await;
    assert_eq!((delivery.state(), delivery.last_status_code), (Pending, 0));
    assert!(delivery.last_error.contains("does not resolve"), "{}", delivery.last_error);
}

#[tokio::test]
async fn a_subscription_is_disabled_when_nothing_was_taken_for_days() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    let status = async || {
        let arn = subscription.subscription_arn.clone();
        let request = by(PROVIDER, v1::GetSubscriptionRequest { subscription_arn: arn });
        let answer = world.client().get_subscription(request).await.unwrap().into_inner();
        answer.subscription.unwrap().status.unwrap()
    };
    world.publish(&topic, "taken").await;
    world.until("a success is noted", async || status().await.last_success_time.is_some()).await;
    receiver.always("/hook", Behaviour::Status(410));
    world.publish(&topic, "first").await;
    world.until("the streak begins", async || status().await.failure_streak == 1).await;
    world.clock.advance(Duration::from_secs(121 * 3600));
    for number in 2..=10 {
        world.publish(&topic, "more").await;
        world.until("the streak grows", async || status().await.failure_streak == number).await;
        assert_eq!(status().await.disabled_time.is_some(), number == 10);
    }
    assert!(status().await.disabled_reason.contains("10 messages in a row"));
    // A disabled one gets no new messages.
    let before = receiver.received_at("/hook").len();
    world.publish(&topic, "unheard").await;
    assert_eq!(world.deliveries(&topic).await.len(), 12, "the confirmation, 1 taken, 10 given up");
    assert_eq!(receiver.received_at("/hook").len(), before);
}

#[tokio::test]
async fn a_success_ends_the_streak() {
    let world = World::new().await;
    let receiver = Receiver::start().await.unwrap();
    let (topic, subscription) = subscribed(&world, &receiver).await;
    receiver.next("/hook", [Behaviour::Status(404), Behaviour::Status(200)]);
    let streak = async || {
        let arn = subscription.subscription_arn.clone();
        let request = by(PROVIDER, v1::GetSubscriptionRequest { subscription_arn: arn });
        let answer = world.client().get_subscription(request).await.unwrap().into_inner();
        answer.subscription.unwrap().status.unwrap().failure_streak
    };
    world.publish(&topic, "refused").await;
    world.until("one was given up", async || streak().await == 1).await;
    world.publish(&topic, "taken").await;
    receiver.wait_for_all(PATIENCE, 2, is_notification).await.unwrap();
    world.until("the streak is over", async || streak().await == 0).await;
}
