//! A dispatcher among fakes that behave: keys, a control plane that hears outcomes, a clock that is
//! moved by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postern_dispatcher::app::sha256;
use postern_dispatcher::caller::{Caller, Identities, Origin};
use postern_dispatcher::config::DispatcherConfig;
use postern_dispatcher::deliver::dial::{Resolver, SystemResolver};
use postern_dispatcher::deliver::email::{MailConfig, MailTls};
use postern_dispatcher::deliver::outbound::OutboundPolicy;
use postern_dispatcher::deliver::sign::keys::Sealing;
use postern_dispatcher::deliver::{SchedulerConfig, sign};
use postern_dispatcher::error::Cause;
use postern_dispatcher::outcomes::{Outcome, Outcomes};
use postern_dispatcher::store::{Store, days, signing_key};
use postern_dispatcher::{Dispatcher, Surroundings};
use postern_model::AccountId;
use postern_model::endpoint::EndpointState;
use postern_model::event::{Actor, CloudEvent, EndpointHappening, EventKind, Notified, Side};
use postern_model::id::EndpointId;
use postern_proto::v1::delivery_service_client::DeliveryServiceClient;
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::{FILE_DESCRIPTOR_SET, v1};
use postern_runtime::admin::Admin;
use postern_runtime::bus::{
    DeadLetters, InProcessDeadLetters, InProcessPublisher, Message, Publisher as _, Source,
    in_process,
};
use postern_runtime::clock::ManualClock;
use postern_runtime::config::Secret;
use postern_runtime::grpc::{self, Methods, RpcMetrics, ServeOptions};
use postern_runtime::shutdown::{Parts, Stop, part};
use postern_testkit::postgres::TestDatabase;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Channel;
use uuid::Uuid;

pub const PROVIDER: &str = "111122223333";
pub const CONSUMER: &str = "444455556666";
/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

const MIGRATIONS: [&str; 3] = [
    include_str!("../../../../migrations/dispatcher/0001_topics_and_deliveries.sql"),
    include_str!("../../../../migrations/dispatcher/0002_subscription_attributes.sql"),
    include_str!("../../../../migrations/dispatcher/0003_deliveries_by_day.sql"),
];

/// A database with the schema and a signing key, which is made once for all tests.
pub async fn database() -> TestDatabase {
    let key = format!("dispatcher {}", MIGRATIONS.concat());
    TestDatabase::prepared(&key, |pool| async move {
        use sqlx::ConnectOptions as _;
        let url = pool.connect_options().to_url_lossy().to_string();
        let store = Store::new(&url, 2)?;
        store.migrate().await?;
        let now = start();
        let row = tokio::task::spawn_blocking(move || sign::generate(now)).await??;
        let mut db = store.connection().await?;
        days::make(&mut db, now).await?;
        signing_key::insert(&mut db, &row).await?;
        drop(db);
        store.close().await;
        Ok(())
    })
    .await
    .unwrap()
}

pub fn start() -> chrono::DateTime<chrono::Utc> {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

/// `key-<account>` is the key of an account.
struct Keys;

#[async_trait]
impl Identities for Keys {
    async fn authenticate(&self, hash: [u8; 32]) -> Result<Option<Caller>, Cause> {
        for text in [PROVIDER, CONSUMER] {
            if hash == sha256(&format!("key-{text}")) {
                let account: AccountId = text.parse().unwrap();
                let principal = account.root_arn().into();
                let origin = Origin::default();
                return Ok(Some(Caller::Account { account, principal, origin }));
            }
        }
        Ok((hash == sha256("key-operator")).then_some(Caller::Operator))
    }
}

#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<Outcome>>>, Arc<Mutex<Vec<String>>>);

impl Heard {
    pub fn all(&self) -> Vec<Outcome> {
        self.0.lock().unwrap().clone()
    }

    /// The topics whose policies changed.
    pub fn policies(&self) -> Vec<String> {
        self.1.lock().unwrap().clone()
    }
}

#[async_trait]
impl Outcomes for Heard {
    async fn report(&self, outcome: &Outcome) -> Result<(), Cause> {
        self.0.lock().unwrap().push(outcome.clone());
        Ok(())
    }

    async fn policy_changed(&self, topic_arn: &str) -> Result<(), Cause> {
        self.1.lock().unwrap().push(topic_arn.to_owned());
        Ok(())
    }
}

/// How to set the dispatcher up; everything has a default.
pub struct Setup {
    pub allow: Vec<&'static str>,
    pub mail: Option<SocketAddr>,
    /// How the HTTP port is seen from outside, if not as it is.
    pub public: Option<&'static str>,
    pub mail_tls: MailTls,
    pub mail_account: Option<(&'static str, &'static str)>,
    /// The authorities that webhooks and the mail server are believed by, besides the machine's.
    pub ca_file: Option<PathBuf>,
    pub per_target: usize,
    pub source: Option<Box<dyn Source>>,
    pub database: Option<Arc<TestDatabase>>,
    /// A database of another server than the run's.
    pub url: Option<String>,
    pub clock: ManualClock,
    /// Hosts that may be dialled where they lead to a private network.
    pub names: Vec<&'static str>,
    pub resolver: Arc<dyn Resolver>,
    pub sealing: Sealing,
    /// For one attempt.
    pub timeout: Duration,
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            allow: vec!["127.0.0.0/8"],
            mail: None,
            public: None,
            mail_tls: MailTls::None,
            mail_account: None,
            ca_file: None,
            per_target: 32,
            source: None,
            database: None,
            url: None,
            clock: ManualClock::new(start()),
            names: Vec::new(),
            resolver: Arc::new(SystemResolver),
            sealing: Sealing::default(),
            timeout: Duration::from_secs(15),
            dead_letters: None,
        }
    }
}

pub struct World {
    pub clock: ManualClock,
    pub heard: Heard,
    pub bus: InProcessPublisher,
    pub letters: InProcessDeadLetters,
    pub http: SocketAddr,
    pub database: Option<Arc<TestDatabase>>,
    client: TopicServiceClient<Channel>,
    deliveries: DeliveryServiceClient<Channel>,
    parts: Parts,
    stop: Stop,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let Setup {
            allow,
            mail,
            mail_tls,
            mail_account,
            ca_file,
            public,
            per_target,
            source,
            database: given,
            url,
            clock,
            names,
            resolver,
            sealing,
            timeout,
            dead_letters,
        } = setup;
        postern_runtime::tls::install_provider();
        let database = match (given, &url) {
            (Some(database), _) => Some(database),
            (None, Some(_)) => None,
            (None, None) => Some(Arc::new(database().await)),
        };
        let url = url.or_else(|| database.as_ref().map(|database| database.url())).unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_address = http.local_addr().unwrap();
        let config = DispatcherConfig {
            database_url: Secret::new(url),
            database_connections: 8,
            region: "us-east-1".parse().unwrap(),
            public_url: match public {
                Some(url) => url.to_owned(),
                None => format!("http://{http_address}"),
            },
            outbound: OutboundPolicy {
                allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
                ports: Vec::new(),
                names: names.iter().map(|name| name.parse().unwrap()).collect(),
            },
            outbound_ca_file: ca_file.clone(),
            webhook_timeout: timeout,
            mail: mail.map(|address| MailConfig {
                host: address.ip().to_string(),
                port: address.port(),
                tls: mail_tls,
                ca_file,
                credentials: mail_account
                    .map(|(user, password)| (user.to_owned(), Secret::new(password))),
                from: "doors@example.com".parse().unwrap(),
            }),
            scheduler: SchedulerConfig {
                per_target,
                poll: Duration::from_millis(50),
                ..SchedulerConfig::default()
            },
            retention: Duration::from_secs(14 * 24 * 3600),
            sealing,
        };
        let (bus, in_process) = in_process(1000);
        let (heard, letters) = (Heard::default(), InProcessDeadLetters::default());
        let admin = Admin::new("test");
        let around = Surroundings {
            identities: Arc::new(Keys),
            outcomes: Arc::new(heard.clone()),
            source: source.unwrap_or(Box::new(in_process)),
            dead_letters: dead_letters.unwrap_or_else(|| Arc::new(letters.clone())),
            resolver,
            clock: Arc::new(clock.clone()),
            admin: admin.clone(),
        };
        let stop = Stop::new();
        let dispatcher = Dispatcher::prepare(&config, around, &stop).await.unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let methods = Methods::from_descriptor_set(FILE_DESCRIPTOR_SET).unwrap();
        let options = ServeOptions::new(admin.register(RpcMetrics::register), methods);
        let routes =
            Routes::new(dispatcher.topic_service()).add_service(dispatcher.delivery_service());
        let mut parts = Parts::new();
        let serving = grpc::serve(listener, routes, options, stop.clone());
        parts.spawn(part("api", async move { Ok(serving.await?) }));
        dispatcher.spawn(http, &mut parts, &stop);
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let deliveries = DeliveryServiceClient::new(channel.clone());
        let client = TopicServiceClient::new(channel);
        let http = http_address;
        Self { clock, heard, bus, letters, http, database, client, deliveries, parts, stop }
    }

    pub fn client(&self) -> TopicServiceClient<Channel> {
        self.client.clone()
    }

    pub fn inspector(&self) -> DeliveryServiceClient<Channel> {
        self.deliveries.clone()
    }

    /// The database, to look at the tables themselves.
    pub async fn store(&self) -> Store {
        Store::new(&self.database.as_ref().unwrap().url(), 2).unwrap()
    }

    /// Cuts everything at once, as a crash does: nothing is given back or finished.
    pub async fn crash(mut self) -> (Arc<TestDatabase>, ManualClock) {
        self.parts.shutdown().await;
        (self.database.clone().unwrap(), self.clock.clone())
    }

    /// Makes the topic `doors` of the provider, whose policy lets the events in.
    pub async fn topic(&self) -> v1::Topic {
        let policy = r#"{"Statement": [{"Effect": "Allow",
            "Principal": {"Service": "vpce.amazonaws.com"}, "Action": "SNS:Publish",
            "Resource": "arn:aws:sns:us-east-1:111122223333:doors",
            "Condition": {"StringEquals": {"aws:SourceAccount": "111122223333"}}}]}"#;
        let request = v1::CreateTopicRequest {
            name: "doors".to_owned(),
            policy: Some(policy.to_owned()),
            ..Default::default()
        };
        self.client().create_topic(by(PROVIDER, request)).await.unwrap().into_inner().topic.unwrap()
    }

    pub async fn subscribe(&self, topic: &str, endpoint: &str) -> v1::Subscription {
        let protocol = match endpoint.split(':').next() {
            Some("http") => v1::SubscriptionProtocol::Http,
            Some("https") => v1::SubscriptionProtocol::Https,
            _ => v1::SubscriptionProtocol::Email,
        };
        let request = v1::SubscribeRequest {
            topic_arn: topic.to_owned(),
            protocol: protocol.into(),
            endpoint: endpoint.to_owned(),
            ..Default::default()
        };
        let answer = self.client().subscribe(by(PROVIDER, request)).await.unwrap();
        answer.into_inner().subscription.unwrap()
    }

    /// Waits until the subscription is confirmed.
    pub async fn confirmed(&self, subscription: &v1::Subscription) {
        let arn = subscription.subscription_arn.clone();
        self.until("the subscription is confirmed", async || {
            let request = v1::GetSubscriptionRequest { subscription_arn: arn.clone() };
            let answer = self.client().get_subscription(by(PROVIDER, request)).await.unwrap();
            answer.into_inner().subscription.unwrap().state() == v1::SubscriptionState::Confirmed
        })
        .await;
    }

    pub async fn deliveries(&self, topic: &str) -> Vec<v1::Delivery> {
        let request =
            v1::ListDeliveriesRequest { topic_arn: topic.to_owned(), ..Default::default() };
        self.inspector()
            .list_deliveries(by(PROVIDER, request))
            .await
            .unwrap()
            .into_inner()
            .deliveries
    }

    /// Waits until the newest delivery of the topic is as wanted, and returns it with its attempts.
    pub async fn newest(
        &self,
        topic: &str,
        wanted: impl Fn(&v1::Delivery) -> bool,
    ) -> v1::Delivery {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let newest = self.deliveries(topic).await.into_iter().next();
            if let Some(delivery) = newest.as_ref().filter(|delivery| wanted(delivery)) {
                let delivery_id = delivery.delivery_id.clone();
                let request = by(PROVIDER, v1::GetDeliveryRequest { delivery_id });
                let answer = self.inspector().get_delivery(request).await.unwrap();
                return answer.into_inner().delivery.unwrap();
            }
            assert!(tokio::time::Instant::now() < deadline, "the newest delivery is {newest:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn publish(&self, topic: &str, message: &str) -> String {
        let request = v1::PublishRequest {
            topic_arn: topic.to_owned(),
            message: message.to_owned(),
            subject: "A subject".to_owned(),
            ..Default::default()
        };
        self.client().publish(by(PROVIDER, request)).await.unwrap().into_inner().message_id
    }

    /// Puts an event of a new endpoint on the bus.
    pub async fn happens(&self, kind: EventKind, topic: &str) -> CloudEvent {
        let event = event(kind, EndpointId::generate(&mut rand::rng()), topic);
        self.send(message(&event)).await;
        event
    }

    pub async fn send(&self, message: Message) {
        for answer in self.bus.publish(&[message]).await {
            answer.unwrap();
        }
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the dispatcher's HTTP port: the status and the body.
    pub async fn get(&self, url: &str) -> (u16, String) {
        self.ask("GET", url, "").await
    }

    /// The same, with another method, and headers that each end with a line break.
    pub async fn ask(&self, method: &str, url: &str, headers: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let path =
            url.splitn(4, '/').nth(3).map_or_else(|| url.to_owned(), |path| format!("/{path}"));
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.kill();
    }
}

/// A request with the key of an account.
pub fn by<T>(account: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value = format!("Bearer key-{account}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

pub fn event(kind: EventKind, endpoint: EndpointId, topic: &str) -> CloudEvent {
    let happening = EndpointHappening {
        event: kind,
        time: start(),
        region: "us-east-1".parse().unwrap(),
        service_id: "vpce-svc-0a1b2c3d4e5f60718".parse().unwrap(),
        service_name: "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718".to_owned(),
        service_owner: PROVIDER.parse().unwrap(),
        vpc_endpoint_id: endpoint,
        vpc_endpoint_owner: CONSUMER.parse().unwrap(),
        vpc_endpoint_state: EndpointState::PendingAcceptance,
        previous_state: None,
        acceptance_required: true,
        actor: Actor { side: Side::Consumer, account: Some(CONSUMER.parse().unwrap()) },
        sequence: 1,
        notifications: vec![Notified {
            notification_id: "vpce-nfn-0a1b2c3d4e5f60718".parse().unwrap(),
            topic_arn: topic.to_owned(),
            owner_account: PROVIDER.parse().unwrap(),
            source_arn: "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/\
                         vpce-svc-0a1b2c3d4e5f60718"
                .to_owned(),
        }],
    };
    CloudEvent::new(Uuid::new_v4(), happening)
}

pub fn message(event: &CloudEvent) -> Message {
    Message {
        id: event.id,
        kind: event.data.event.to_string(),
        key: event.subject.clone(),
        headers: BTreeMap::from([(
            "traceparent".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        )]),
        body: serde_json::to_vec(event).unwrap().into(),
    }
}
