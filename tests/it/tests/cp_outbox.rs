//! The outbox relay: at least once, in order per endpoint, one at a time, whatever the bus does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern_control_plane::store::Store;
use postern_control_plane::tasks::amqp::AmqpPublisher;
use postern_control_plane::tasks::relay::{LEASE, Relay, RelayMetrics};
use postern_dispatcher::consume::amqp::AmqpSource;
use postern_it::cp::Cp;
use postern_model::id::EndpointId;
use postern_runtime::admin::Admin;
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{Message, PublishError, Publisher, Source as _};
use postern_runtime::config::Secret;
use postern_runtime::shutdown::Stop;
use postern_testkit::rabbitmq::{Node, Vhost};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::PgPool;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// Writes an event, as the use cases do in their transactions.
async fn append(pool: &PgPool, endpoint: EndpointId, sequence: i64) {
    let insert =
        "INSERT INTO outbox (id, endpoint_id, sequence, kind, body, trace_context, created_at)
                  VALUES ($1, $2, $3, 'Accept', $4, $5, now() - make_interval(secs => $6))";
    let context = BTreeMap::from([(
        "traceparent".to_owned(),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    )]);
    sqlx::query(insert)
        .bind(uuid_of(endpoint, sequence))
        .bind(endpoint.to_string())
        .bind(sequence)
        .bind(sqlx::types::Json(serde_json::json!({ "sequence": sequence })))
        .bind(sqlx::types::Json(context))
        // Transactions that began earlier may have had to wait: times are in no order.
        .bind(f64::from(rand::rng().random_range(0..5)))
        .execute(pool)
        .await
        .unwrap();
}

fn uuid_of(endpoint: EndpointId, sequence: i64) -> sqlx::types::Uuid {
    let digits = &endpoint.digits()[..12];
    format!("00000000-0000-4000-8{sequence:03x}-{digits}").parse().unwrap()
}

fn endpoint() -> EndpointId {
    EndpointId::generate(&mut rand::rng())
}

fn sequence(message: &Message) -> i64 {
    serde_json::from_slice::<serde_json::Value>(&message.body).unwrap()["sequence"]
        .as_i64()
        .unwrap()
}

fn relay(store: &Store, publisher: Arc<dyn Publisher>) -> Relay {
    let metrics = RelayMetrics::register(&mut Default::default());
    let soon = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    Relay::new(store.clone(), publisher, metrics).backoff(soon)
}

async fn left(pool: &PgPool) -> i64 {
    let select = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    sqlx::query_scalar(select).fetch_one(pool).await.unwrap()
}

/// A bus that fails at random, before a message is taken and after it was.
struct Flaky {
    random: Mutex<StdRng>,
    taken: Mutex<Vec<Message>>,
}

#[async_trait]
impl Publisher for Flaky {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        let (mut random, mut taken) = (self.random.lock().unwrap(), self.taken.lock().unwrap());
        let mut failed = BTreeSet::new();
        let mut answers = Vec::new();
        for message in batch {
            let refused = || Err(PublishError::Refused("at random".to_owned()));
            answers.push(if failed.contains(&message.key) {
                refused()
            } else {
                match random.random_range(0..10) {
                    0..=5 => {
                        taken.push(message.clone());
                        Ok(())
                    }
                    // Taken, but the confirm is lost.
                    6 => {
                        taken.push(message.clone());
                        failed.insert(message.key.clone());
                        Err(PublishError::Unavailable("no confirm".into()))
                    }
                    _ => {
                        failed.insert(message.key.clone());
                        refused()
                    }
                }
            });
        }
        answers
    }
}

#[tokio::test]
async fn every_event_arrives_in_its_endpoints_order_and_once_in_effect() {
    let cp = Cp::start().await;
    let endpoints: Vec<_> = (0..20).map(|_| endpoint()).collect();
    for sequence in 1..=10 {
        for endpoint in &endpoints {
            append(&cp.pool, *endpoint, sequence).await;
        }
    }
    let random = Mutex::new(StdRng::seed_from_u64(7));
    let bus = Arc::new(Flaky { random, taken: Mutex::default() });
    let mut relay = relay(&cp.app.store, bus.clone());
    timeout(PATIENCE, async {
        while left(&cp.pool).await > 0 {
            relay.pass().await.unwrap();
        }
    })
    .await
    .expect("the outbox is emptied");
    // What a receiver does: repeats of an id are dropped.
    let (mut seen, mut orders) = (BTreeSet::new(), BTreeMap::<String, Vec<i64>>::new());
    for message in bus.taken.lock().unwrap().iter() {
        if seen.insert(message.id) {
            orders.entry(message.key.clone()).or_default().push(sequence(message));
        }
    }
    assert_eq!(orders.len(), endpoints.len());
    for (endpoint, order) in orders {
        assert_eq!(order, (1..=10).collect::<Vec<_>>(), "{endpoint}");
    }
}

/// A bus that never takes the events of one endpoint.
struct Against {
    key: String,
    taken: Mutex<Vec<(String, i64)>>,
    away: AtomicBool,
}

#[async_trait]
impl Publisher for Against {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        let answer = |message: &Message| {
            if self.away.load(Ordering::Relaxed) {
                return Err(PublishError::Unavailable("away".into()));
            }
            if message.key == self.key {
                return Err(PublishError::Refused("not this one".to_owned()));
            }
            self.taken.lock().unwrap().push((message.key.clone(), sequence(message)));
            Ok(())
        };
        batch.iter().map(answer).collect()
    }
}

#[tokio::test]
async fn an_event_that_is_not_taken_holds_up_its_own_endpoint_and_no_other() {
    let cp = Cp::start().await;
    let (bad, good) = (endpoint(), endpoint());
    for sequence in 1..=300 {
        append(&cp.pool, bad, sequence).await;
    }
    append(&cp.pool, good, 1).await;
    let bus = Arc::new(Against {
        key: bad.to_string(),
        taken: Mutex::default(),
        away: AtomicBool::new(false),
    });
    let mut relay = relay(&cp.app.store, bus.clone())
        .backoff(Backoff::new(Duration::from_secs(60), Duration::from_secs(60)));
    let first = relay.pass().await.unwrap();
    assert!(first.leads && first.failed > 0, "{first:?}");
    let second = relay.pass().await.unwrap();
    assert_eq!((second.failed, second.depth), (0, 300), "{second:?}");
    assert_eq!(*bus.taken.lock().unwrap(), [(good.to_string(), 1)]);
}

#[tokio::test]
async fn while_the_bus_is_away_events_wait_and_are_counted() {
    let cp = Cp::start().await;
    append(&cp.pool, endpoint(), 1).await;
    let bus = Arc::new(Against {
        key: String::new(),
        taken: Mutex::default(),
        away: AtomicBool::new(true),
    });
    let mut relay = relay(&cp.app.store, bus.clone());
    let report = relay.pass().await.unwrap();
    assert_eq!((report.away, report.published, report.depth), (true, 0, 1), "{report:?}");
    bus.away.store(false, Ordering::Relaxed);
    let report = relay.pass().await.unwrap();
    assert_eq!((report.away, report.published, report.depth), (false, 1, 0), "{report:?}");
}

/// A bus during whose work the lease of its relay is taken by another.
struct Slow {
    pool: PgPool,
    other: tokio::sync::Mutex<Relay>,
}

#[async_trait]
impl Publisher for Slow {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        sqlx::query("UPDATE lease SET expires_at = now()").execute(&self.pool).await.unwrap();
        let report = self.other.lock().await.pass().await.unwrap();
        assert!(report.leads && report.published == batch.len() as u64);
        batch.iter().map(|_| Ok(())).collect()
    }
}

#[tokio::test]
async fn one_relays_at_a_time_and_who_lost_the_lease_marks_nothing() {
    let cp = Cp::start().await;
    let bus = || {
        let key = String::new();
        Arc::new(Against { key, taken: Mutex::default(), away: AtomicBool::new(false) })
    };
    let (mut one, mut two) = (relay(&cp.app.store, bus()), relay(&cp.app.store, bus()));
    assert!(one.pass().await.unwrap().leads);
    assert!(!two.pass().await.unwrap().leads);
    assert!(one.pass().await.unwrap().leads);
    one.give_back().await.unwrap();
    assert!(two.pass().await.unwrap().leads);
    two.give_back().await.unwrap();

    append(&cp.pool, endpoint(), 1).await;
    let slow = Slow { pool: cp.pool.clone(), other: tokio::sync::Mutex::new(two) };
    let mut asleep = relay(&cp.app.store, Arc::new(slow));
    let report = asleep.pass().await.unwrap();
    assert_eq!(report.published, 0, "the other has marked it: {report:?}");
    assert!(!asleep.pass().await.unwrap().leads);
    assert_eq!(left(&cp.pool).await, 0);
}

/// A bus that takes its time, until the lease of its relay was extended thrice, or for ever.
struct Tough {
    pool: PgPool,
    other: tokio::sync::Mutex<Relay>,
    ends: bool,
}

impl Tough {
    async fn expires(&self) -> chrono::DateTime<chrono::Utc> {
        sqlx::query_scalar("SELECT expires_at FROM lease WHERE name = $1")
            .bind(LEASE)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

#[async_trait]
impl Publisher for Tough {
    async fn publish(&self, batch: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut other = self.other.lock().await;
        if !self.ends {
            sqlx::query("UPDATE lease SET expires_at = now()").execute(&self.pool).await.unwrap();
            assert!(other.pass().await.unwrap().leads);
            return std::future::pending().await;
        }
        let mut last = self.expires().await;
        let mut extended = 0;
        while extended < 3 {
            assert!(!other.pass().await.unwrap().leads, "the lease ran out under the work");
            let now = self.expires().await;
            extended += usize::from(now > last);
            last = now;
        }
        batch.iter().map(|_| Ok(())).collect()
    }
}

#[tokio::test]
async fn a_short_lease_outlasts_a_slow_bus_and_a_lost_one_ends_the_work() {
    let cp = Cp::start().await;
    let lasting = Duration::from_millis(1500);
    let bus = || {
        let key = String::new();
        Arc::new(Against { key, taken: Mutex::default(), away: AtomicBool::new(false) })
    };
    let tough = |ends| {
        let other = tokio::sync::Mutex::new(relay(&cp.app.store, bus()).lease(lasting));
        let bus = Arc::new(Tough { pool: cp.pool.clone(), other, ends });
        relay(&cp.app.store, bus).lease(lasting)
    };
    append(&cp.pool, endpoint(), 1).await;
    let mut one = tough(true);
    let report = one.pass().await.unwrap();
    assert_eq!((report.leads, report.published), (true, 1), "{report:?}");
    one.give_back().await.unwrap();

    append(&cp.pool, endpoint(), 1).await;
    let report = timeout(PATIENCE, tough(false).pass()).await.expect("it is left").unwrap();
    assert_eq!((report.leads, report.published), (false, 0), "{report:?}");
    assert_eq!(left(&cp.pool).await, 0, "the other has published it");
}

fn amqp(url: &str) -> Arc<AmqpPublisher> {
    let part = Admin::new("test").readiness.part("bus");
    Arc::new(AmqpPublisher::new(&Secret::new(url), part).unwrap())
}

/// The next messages that a dispatcher would get.
async fn receive(source: &mut AmqpSource, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match timeout(PATIENCE, source.next()).await.expect("a delivery in time") {
            Ok(delivery) => {
                messages.push(delivery.message.clone());
                delivery.ack().await.unwrap();
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    messages
}

#[tokio::test]
async fn an_event_without_a_queue_waits_until_the_dispatcher_has_one() {
    let vhost = Vhost::claim().await.unwrap();
    let cp = Cp::start().await;
    let endpoint = endpoint();
    for sequence in 1..=3 {
        append(&cp.pool, endpoint, sequence).await;
    }
    let mut relay = relay(&cp.app.store, amqp(&vhost.url));
    let report = relay.pass().await.unwrap();
    assert_eq!((report.away, report.published, report.depth), (false, 0, 3), "{report:?}");

    let mut source = AmqpSource::new(Secret::new(vhost.url.clone()));
    // The first look declares the queue; there is nothing in it yet.
    let _ = timeout(Duration::from_secs(5), source.next()).await;
    timeout(PATIENCE, async {
        while left(&cp.pool).await > 0 {
            relay.pass().await.unwrap();
        }
    })
    .await
    .expect("the outbox is emptied");
    let messages = receive(&mut source, 3).await;
    assert_eq!(messages.iter().map(sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let message = &messages[0];
    assert_eq!(message.id, uuid_of(endpoint, 1));
    assert_eq!(message.kind, "Accept");
    // The trace goes on: the same trace, by whatever span.
    let parent = &message.headers["traceparent"];
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
}

#[tokio::test]
async fn events_of_an_outage_of_the_broker_arrive_after_it_in_order() {
    let mut node = Node::private().await.unwrap();
    let cp = Cp::start().await;
    let endpoint = endpoint();
    let mut source = AmqpSource::new(Secret::new(node.url()));
    let _ = timeout(Duration::from_secs(5), source.next()).await;
    let publisher = amqp(&node.url());
    let stop = Stop::new();
    let running = {
        let (relay, pokes) = (relay(&cp.app.store, publisher.clone()), cp.app.pokes.clone());
        tokio::spawn(relay.run(pokes, stop.clone()))
    };
    append(&cp.pool, endpoint, 1).await;
    let mut got = receive(&mut source, 1).await;
    node.kill().await.unwrap();
    for sequence in 2..=5 {
        append(&cp.pool, endpoint, sequence).await;
    }
    assert_eq!(left(&cp.pool).await, 4);
    node.start().await.unwrap();
    let mut seen = BTreeSet::from([got[0].id]);
    timeout(PATIENCE, async {
        while got.len() < 5 {
            for message in receive(&mut source, 1).await {
                if seen.insert(message.id) {
                    got.push(message);
                }
            }
        }
    })
    .await
    .expect("every event arrives");
    assert_eq!(got.iter().map(sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    stop.stop();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}
