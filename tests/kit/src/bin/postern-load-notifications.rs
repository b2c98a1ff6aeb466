//! Measures notifications from the outbox to the webhook, with all of the system between them.
//!
//!     postern-load-notifications throughput [events=10000] [fan-out=1]
//!     postern-load-notifications latency    [seconds=20] [rate=100] [targets=1] [hanging=0]
//!     postern-load-notifications drain      [deliveries=1000000]
//!
//! `throughput` puts events into the outbox at once and counts what arrives. `latency` publishes at a
//! rate, and counts from the request to the first byte at the receiver: of `targets` receivers `hanging`
//! never answer. `drain` puts deliveries into the queue and shows the dispatcher's memory while they go.
//! It starts a Postgres and a RabbitMQ of its own unless the tests' variables name some.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use postern_proto::v1;
use postern_testkit::deployment::{Deployment, World};
use sqlx::PgPool;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep};

/// What a message begins its time with.
const SENT: &[u8] = b"sent=";

#[derive(Default)]
struct Sink {
    taken: AtomicU64,
    latencies: Mutex<Vec<u64>>,
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

impl Sink {
    async fn listen(self: &Arc<Self>, hangs: bool) -> Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let sink = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    let _ = sink.serve(stream, hangs).await;
                });
            }
        });
        Ok(port)
    }

    async fn serve(&self, stream: TcpStream, hangs: bool) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        let (mut line, mut body) = (String::new(), Vec::new());
        loop {
            let mut length = 0;
            loop {
                line.clear();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                match line.trim_end() {
                    "" => break,
                    text => {
                        if let Some(("content-length", value)) = text.split_once(": ") {
                            length = value.parse()?;
                        }
                    }
                }
            }
            let arrived = micros();
            body.resize(length, 0);
            stream.read_exact(&mut body).await?;
            if hangs {
                std::future::pending::<()>().await;
            }
            if let Some(at) = body.windows(SENT.len()).position(|window| window == SENT) {
                let digits =
                    body.iter().skip(at + SENT.len()).take_while(|byte| byte.is_ascii_digit());
                let sent = digits.fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
                let mut all = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(arrived.saturating_sub(sent));
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
        }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Seconds of a core that a process has used, and its memory in MiB.
fn used(directory: &Path, name: &str) -> Result<(f64, f64)> {
    let pid = std::fs::read_to_string(directory.join(format!("{name}.pid")))?;
    let pid = pid.trim();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("a process's state")?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    Ok(((ticks(11) + ticks(12)) / 100.0, kib.unwrap_or_default() / 1024.0))
}

struct Stage {
    deployment: Deployment,
    pool: PgPool,
    topic_arn: String,
    owner: postern_testkit::deployment::Client,
    sink: Arc<Sink>,
}

impl Stage {
    /// A topic with a notification of a service, and as many subscriptions as there are ports.
    async fn set(targets: usize, hanging: usize, subscriptions: usize) -> Result<Self> {
        let deployment = Deployment::start().await;
        let world = World::of(&deployment);
        let owner = world.account("provider").await;
        let vpc = world.vpc(&owner).await;
        let service = world.service(&owner, &vpc).create().await;
        let hook = world.hook(&service).await;
        world.endpoint(&vpc, &service).create().await;
        let pool = deployment.pool().await;
        // What made the topic goes; what counts is subscribed in its place, confirmed already.
        sqlx::query("UPDATE dispatcher.subscription SET state = 'ended', ended_at = now()")
            .execute(&pool)
            .await?;
        let sink = Arc::new(Sink::default());
        for number in 0..subscriptions.max(targets) {
            let port = sink.listen(number % targets < hanging).await?;
            sqlx::query(
                "INSERT INTO dispatcher.subscription (id, topic_id, owner_id, principal, protocol, \
                 endpoint, target, state, raw, created_at, confirmed_at, webhook_secret) \
                 SELECT gen_random_uuid(), topic_id, owner_id, principal, protocol, $1, $2, \
                 'confirmed', false, now(), now(), webhook_secret FROM dispatcher.subscription LIMIT 1",
            )
            .bind(format!("http://127.0.0.1:{port}/"))
            .bind(format!("127.0.0.1:{port}"))
            .execute(&pool)
            .await?;
        }
        let (topic_arn, owner) = (hook.topic_arn.clone(), owner.client);
        Ok(Self { deployment, pool, topic_arn, owner, sink })
    }

    fn used(&self) -> Result<BTreeMap<&'static str, (f64, f64)>> {
        ["control-plane", "dispatcher"]
            .into_iter()
            .map(|name| Ok((name, used(self.deployment.directory(), name)?)))
            .collect()
    }

    fn say_used(&self, before: &BTreeMap<&'static str, (f64, f64)>, deliveries: u64) -> Result<()> {
        for (name, (seconds, mib)) in self.used()? {
            let spent = seconds - before.get(name).map_or(0.0, |before| before.0);
            let each = spent * 1e6 / deliveries.max(1) as f64;
            println!("  {name}: {spent:.2} s of a core, {each:.0} µs a delivery, {mib:.0} MiB");
        }
        Ok(())
    }

    async fn arrives(&self, count: u64) -> Result<()> {
        let (mut last, mut since) = (0, Instant::now());
        while self.sink.taken() < count {
            sleep(Duration::from_millis(5)).await;
            if self.sink.taken() > last {
                (last, since) = (self.sink.taken(), Instant::now());
            } else if since.elapsed() > Duration::from_secs(60) {
                bail!("{last} of {count} came, and none for a minute");
            }
        }
        Ok(())
    }
}

async fn throughput(events: u64, fan_out: usize) -> Result<()> {
    let stage = Stage::set(fan_out, 0, fan_out).await?;
    sleep(Duration::from_secs(3)).await;
    let before = stage.used()?;
    let began = Instant::now();
    // Copies of one that really happened, each of an endpoint of its own.
    sqlx::query(
        "WITH pattern AS (SELECT * FROM control_plane.outbox WHERE kind = 'Connect' LIMIT 1), \
         copies AS (SELECT gen_random_uuid() AS id, 'vpce-' || lpad(to_hex(number), 17, '0') AS endpoint \
         FROM generate_series(1, $1) AS number) \
         INSERT INTO control_plane.outbox (id, endpoint_id, sequence, kind, body) \
         SELECT copies.id, copies.endpoint, 1, pattern.kind, jsonb_set(jsonb_set(jsonb_set(pattern.body, \
         '{id}', to_jsonb(copies.id::text)), '{subject}', to_jsonb(copies.endpoint)), \
         '{data,vpcEndpointId}', to_jsonb(copies.endpoint)) FROM pattern, copies",
    )
    .bind(i64::try_from(events)?)
    .execute(&stage.pool)
    .await?;
    let due = events * fan_out as u64;
    stage.arrives(due).await?;
    let took = began.elapsed().as_secs_f64();
    println!("{events} events to {fan_out} subscriptions each: {took:.2} s");
    println!("  {:.0} events/s, {:.0} deliveries/s", events as f64 / took, due as f64 / took);
    stage.say_used(&before, due)?;
    sleep(Duration::from_secs(1)).await;
    println!("  {} arrived more than once", stage.sink.taken() - due);
    Ok(())
}

async fn latency(seconds: u64, rate: u64, targets: usize, hanging: usize) -> Result<()> {
    let stage = Stage::set(targets, hanging, targets).await?;
    let before = stage.used()?;
    let mut tick = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    let mut topics = stage.owner.topics();
    for _ in 0..seconds * rate {
        tick.tick().await;
        let request = v1::PublishRequest {
            topic_arn: stage.topic_arn.clone(),
            message: format!("sent={}", micros()),
            ..Default::default()
        };
        topics.publish(request).await?;
    }
    let due = seconds * rate * (targets - hanging) as u64;
    stage.arrives(due).await?;
    let mut all = stage.sink.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone();
    all.sort_unstable();
    let at = |part: usize| all.get(all.len() * part / 1000).copied().unwrap_or(0) as f64 / 1000.0;
    println!("{rate}/s to {targets} targets of which {hanging} hang, from request to first byte:");
    println!("  p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms", at(500), at(990), at(999));
    stage.say_used(&before, due)
}

async fn drain(deliveries: u64) -> Result<()> {
    let stage = Stage::set(1, 0, 1).await?;
    sqlx::query(
        "WITH published AS (INSERT INTO dispatcher.message (id, topic_id, kind, body, attributes, \
         published_by, trace, published_at) SELECT gen_random_uuid(), topic_id, 'Notification', \
         'queued', '{}', 'load', '{}', now() FROM dispatcher.subscription \
         CROSS JOIN generate_series(1, $1) WHERE state = 'confirmed' \
         RETURNING id, topic_id, published_at) \
         INSERT INTO dispatcher.delivery (id, message_id, topic_id, subscription_id, target, \
         next_attempt_at, created_at) SELECT gen_random_uuid(), published.id, published.topic_id, \
         subscription.id, subscription.target, published.published_at, published.published_at \
         FROM published JOIN dispatcher.subscription USING (topic_id) WHERE state = 'confirmed'",
    )
    .bind(i64::try_from(deliveries)?)
    .execute(&stage.pool)
    .await?;
    let (before, began) = (stage.used()?, Instant::now());
    let mut shown = 0;
    while stage.sink.taken() < deliveries {
        sleep(Duration::from_secs(1)).await;
        let tenth = stage.sink.taken() * 10 / deliveries;
        if tenth > shown {
            shown = tenth;
            let (_, mib) = used(stage.deployment.directory(), "dispatcher")?;
            let took = began.elapsed().as_secs();
            println!("  {} taken after {took} s, {mib:.0} MiB", stage.sink.taken());
        }
    }
    stage.say_used(&before, deliveries)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, default: u64| {
        arguments
            .iter()
            .find_map(|text| text.strip_prefix(name)?.strip_prefix('='))
            .map_or(Ok(default), str::parse)
            .with_context(|| format!("{name} is a number"))
    };
    let size =
        |name: &str, default: u64| Ok::<_, anyhow::Error>(usize::try_from(value(name, default)?)?);
    match arguments.first().map(String::as_str) {
        Some("throughput") => throughput(value("events", 10_000)?, size("fan-out", 1)?).await,
        Some("latency") => {
            let (targets, hanging) = (size("targets", 1)?, size("hanging", 0)?);
            latency(value("seconds", 20)?, value("rate", 100)?, targets, hanging).await
        }
        Some("drain") => drain(value("deliveries", 1_000_000)?).await,
        _ => {
            bail!("usage: postern-load-notifications throughput | latency | drain [name=value...]")
        }
    }
}
