//! The control plane as a process is put together: its start, its ports, its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern_control_plane::Error;
use postern_control_plane::app::{PublishDecision, TopicAccess};
use postern_control_plane::config::Config;
use postern_control_plane::run::{Bus, Parts, run};
use postern_proto::internal::v1::AuthenticateRequest;
use postern_proto::internal::v1::identity_service_client::IdentityServiceClient;
use postern_proto::v1::ListAccountsRequest;
use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_runtime::admin::Admin;
use postern_runtime::bus::in_process;
use postern_runtime::clock::SystemClock;
use postern_runtime::config::Vars;
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::{Authority, ClientTls, IdentityHandle, SpiffeId};
use postern_testkit::postgres::TestDatabase;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request};

const PATIENCE: Duration = Duration::from_secs(30);
const OPERATOR: &str = "the key of the operator";

struct NoTopics;

#[async_trait]
impl TopicAccess for NoTopics {
    async fn check_publish(&self, _: &str, _: &str, _: &str) -> Result<PublishDecision, Error> {
        Ok(PublishDecision::NoSuchTopic)
    }
}

fn config(database: &str, directory: &str) -> Config {
    let vars = Vars::from_pairs([
        ("POSTERN_DATABASE_URL", database),
        ("POSTERN_AMQP_URL", "amqp://127.0.0.1:1"),
        ("POSTERN_OPERATOR_KEY", OPERATOR),
        ("POSTERN_JOIN_TOKEN", "the token to join with"),
        ("POSTERN_DISPATCHER_INTERNAL_ADDRESS", "127.0.0.1:1"),
        ("POSTERN_LISTEN", "127.0.0.1:0"),
        ("POSTERN_AGENT_LISTEN", "127.0.0.1:0"),
        ("POSTERN_ADMIN_LISTEN", "127.0.0.1:0"),
        ("POSTERN_CA_DIR", directory),
        ("POSTERN_DRAIN_SECONDS", "5"),
    ]);
    Config::load(&vars).unwrap()
}

fn directory() -> String {
    let name = format!("postern-it-{}", sqlx::types::Uuid::new_v4());
    std::env::temp_dir().join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn it_serves_its_ports_with_a_bus_of_its_own_and_stops_when_asked() {
    let database = TestDatabase::empty().await.unwrap();
    let directory = directory();
    let (publisher, _source) = in_process(100);
    let (serving, served) = oneshot::channel();
    let admin = Admin::new("test");
    let stop = Stop::new();
    let parts = Parts {
        admin: Some(admin.clone()),
        bus: Some(Bus { publisher: Arc::new(publisher), forgets: true }),
        topics: Some(Arc::new(NoTopics)),
        serving: Some(serving),
        ..Parts::default()
    };
    let running = tokio::spawn(run(config(&database.url(), &directory), parts, stop.clone()));
    let addresses = timeout(PATIENCE, served).await.unwrap().unwrap();
    assert_eq!(addresses.admin, None, "the admin pages were handed in");

    let url = format!("http://{}", addresses.api);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut accounts = AccountServiceClient::new(channel);
    let anonymous = accounts.list_accounts(ListAccountsRequest::default()).await;
    assert_eq!(anonymous.unwrap_err().code(), Code::Unauthenticated);
    let mut request = Request::new(ListAccountsRequest::default());
    let key = format!("Bearer {OPERATOR}").parse().unwrap();
    request.metadata_mut().insert("authorization", key);
    accounts.list_accounts(request).await.unwrap();

    // The agents' port proves who it is by the authority in the directory, and wants services to.
    let clock = Arc::new(SystemClock);
    let authority = Authority::load_or_create(directory.as_ref(), clock).unwrap();
    let server = SpiffeId::service("control-plane").unwrap();
    for (name, code) in [("dispatcher", Code::Unauthenticated), ("", Code::PermissionDenied)] {
        let tls = match SpiffeId::service(name) {
            Ok(me) => {
                let own = authority.issue_identity(&me, &[], PATIENCE).unwrap();
                ClientTls::mutual(IdentityHandle::new(own), server.clone())
            }
            Err(_) => ClientTls::anonymous(authority.ca_pem(), server.clone()).unwrap(),
        };
        let channel = tls.channel(&addresses.agents.to_string()).unwrap();
        let request = AuthenticateRequest { api_key_sha256: vec![0; 32].into() };
        let answer = IdentityServiceClient::new(channel).authenticate(request).await;
        assert_eq!(answer.unwrap_err().code(), code, "{name:?}");
    }
    timeout(PATIENCE, async {
        while !admin.readiness.is_ready() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it is ready");

    stop.stop();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn it_waits_for_a_database_that_is_away_and_says_so() {
    let directory = directory();
    let admin = Admin::new("test");
    let stop = Stop::new();
    let parts = Parts { admin: Some(admin.clone()), ..Parts::default() };
    let config = config("postgres://nobody@127.0.0.1:1/nothing", &directory);
    let running = tokio::spawn(run(config, parts, stop.clone()));
    timeout(PATIENCE, async {
        while !admin.readiness.faults().get("database").is_some_and(|why| why.contains("not there"))
        {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the readiness says that the database is away");
    assert!(!running.is_finished());
    stop.stop();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}
