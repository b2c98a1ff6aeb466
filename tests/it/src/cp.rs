//! A control plane for a test: the use cases over a database of its own, and the gRPC edge on request.

pub mod doors;
mod seed;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::DateTime;
use postern_control_plane::Error;
use postern_control_plane::api::{self, auth::Authenticator};
use postern_control_plane::app::accounts::CreateAccount;
use postern_control_plane::app::api_keys::CreateApiKey;
use postern_control_plane::app::subnets::CreateSubnet;
use postern_control_plane::app::vpcs::CreateVpc;
use postern_control_plane::app::{App, PublishDecision, Quotas, Settings, TopicAccess};
use postern_control_plane::caller::Caller;
use postern_control_plane::pokes::Pokes;
use postern_control_plane::store::subnets::SubnetRow;
use postern_control_plane::store::vpcs::VpcRow;
use postern_control_plane::store::{MIGRATOR, Store};
use postern_model::id::VpcId;
use postern_model::zone::Region;
use postern_model::{AccountId, Code, Refusal};
use postern_runtime::clock::ManualClock;
use postern_runtime::config::Secret;
use postern_testkit::postgres::TestDatabase;
use sqlx::{ConnectOptions as _, PgPool};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status};
use tonic_health::server::HealthReporter;

/// The operator's key in tests.
pub const OPERATOR_KEY: &str = "the operator's key";

/// A control plane over a database of its own.
pub struct Cp {
    /// The use cases.
    pub app: App,
    /// The time, which stands still.
    pub clock: ManualClock,
    /// The database, for looking at what the use cases did.
    pub pool: PgPool,
    // Last, so that everything else lets go of it first.
    _database: TestDatabase,
}

/// Lets every topic take every notification.
struct AnyTopic;

#[async_trait]
impl TopicAccess for AnyTopic {
    async fn check_publish(&self, _: &str, _: &str, _: &str) -> Result<PublishDecision, Error> {
        Ok(PublishDecision::Allowed)
    }
}

/// A database with the control plane's schema.
pub async fn database() -> TestDatabase {
    let checksums = MIGRATOR.iter().flat_map(|migration| migration.checksum.iter().copied());
    let key = format!("control-plane {:?}", checksums.collect::<Vec<_>>());
    let migrate = |pool: PgPool| async move {
        let url = pool.connect_options().to_url_lossy();
        let store = Store::open(url.as_str(), 2)?;
        store.migrate().await?;
        store.pool().close().await;
        Ok(())
    };
    TestDatabase::prepared(&key, migrate).await.expect("a database")
}

/// The settings of tests: three zones, and AWS's quotas.
pub fn settings() -> Settings {
    let region: Region = "us-east-1".parse().unwrap();
    Settings {
        zones: (1..=3).map(|number| region.zone_id(number)).collect(),
        region,
        dns_suffix: "vpce.amazonaws.com".to_owned(),
        quotas: Quotas::default(),
        times: Default::default(),
    }
}

impl Cp {
    /// One with the settings of [`settings`].
    pub async fn start() -> Self {
        Self::with(settings()).await
    }

    /// One with these settings.
    pub async fn with(settings: Settings) -> Self {
        let database = database().await;
        let store = Store::open(&database.url(), 16).expect("the test database's URL is one");
        let clock = ManualClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let pool = store.pool().clone();
        let app = App {
            store,
            settings: Arc::new(settings),
            clock: Arc::new(clock.clone()),
            pokes: Pokes::default(),
            topics: Arc::new(AnyTopic),
        };
        Self { app, clock, pool, _database: database }
    }

    /// A new account, as a caller.
    pub async fn account(&self, name: &str) -> Caller {
        let command = CreateAccount { name: name.to_owned(), id: None };
        let account = self.app.create_account(&Caller::Operator, command).await.unwrap().id;
        Caller::Account { account, principal: account.root_arn() }
    }

    /// A new API key of an account.
    pub async fn key(&self, caller: &Caller) -> Key {
        let account = caller.account().unwrap();
        let command = CreateApiKey { account, description: String::new() };
        let created = self.app.create_api_key(&Caller::Operator, command).await.unwrap();
        Key(created.secret.expose().to_owned())
    }

    /// A VPC of the caller's.
    pub async fn vpc(&self, caller: &Caller, cidr: &str) -> VpcRow {
        let (cidr, name) = (cidr.parse().unwrap(), String::new());
        let command = CreateVpc { cidr, name, dns_hostnames: false };
        self.app.create_vpc(caller, command).await.unwrap()
    }

    /// A subnet of the caller's, in a zone by its id.
    pub async fn subnet(&self, caller: &Caller, vpc: VpcId, cidr: &str, zone: &str) -> SubnetRow {
        let (cidr, zone) = (cidr.parse().unwrap(), zone.parse().unwrap());
        self.app.create_subnet(caller, CreateSubnet { vpc, cidr, zone }).await.unwrap()
    }

    /// Serves the public API on a free port.
    pub async fn serve(&self) -> Served {
        let operator = Secret::new(OPERATOR_KEY);
        let authenticator = Authenticator::new(self.app.clone(), &operator);
        let routes = api::routes(&self.app, &authenticator, HealthReporter::new()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let incoming = TcpListenerStream::new(listener);
        let serving = Server::builder().add_routes(routes).serve_with_incoming(incoming);
        let task = tokio::spawn(async move { serving.await.unwrap() });
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Served { channel, task }
    }

    /// The account of a caller.
    pub fn id_of(&self, caller: &Caller) -> AccountId {
        caller.account().unwrap()
    }
}

/// The public API on a port, until it is dropped.
pub struct Served {
    /// A connection to it.
    pub channel: Channel,
    task: JoinHandle<()>,
}

impl Served {
    /// The connection with an API key on every request.
    pub fn as_(&self, key: &Key) -> InterceptedService<Channel, Key> {
        InterceptedService::new(self.channel.clone(), key.clone())
    }

    /// The connection with the operator's key on every request.
    pub fn operator(&self) -> InterceptedService<Channel, Key> {
        self.as_(&Key(OPERATOR_KEY.to_owned()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An API key, put on each request.
#[derive(Clone, Debug)]
pub struct Key(pub String);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// Why a use case refused.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// The code with which a use case refused.
pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    refusal(result).code
}

/// All items of a list, page by page, each of at most `size`; every page but the last must be full,
/// and no item may come twice.
pub async fn pages<T, K, F>(
    size: i32,
    key: impl Fn(&T) -> K,
    mut ask: impl FnMut(i32, String) -> F,
) -> Vec<T>
where
    K: Ord,
    F: Future<Output = (Vec<T>, String)>,
{
    let (mut all, mut token) = (Vec::new(), String::new());
    let mut seen = BTreeSet::new();
    loop {
        let (items, next) = ask(size, token).await;
        assert!(items.len() <= size as usize, "a page is too long");
        for item in items {
            assert!(seen.insert(key(&item)), "an item came twice");
            all.push(item);
        }
        if next.is_empty() {
            return all;
        }
        assert_eq!(all.len() % size as usize, 0, "a page that is not the last is not full");
        token = next;
    }
}
