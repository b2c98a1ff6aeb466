//! The whole system as its users run it: the three programs as processes, with a database, a broker, a
//! mail sink, and VPCs in 127.0.0.0/8.
//!
//! A [`Deployment`] is the processes: each can be killed, stopped and started by name, and what they log
//! is shown when the test that owns them fails. A [`Client`] calls the API. [`World`] builds what
//! tests need with everything valid by default, so that a test names only what it is about.
//!
//! Every network and every process has addresses in a [`Block`] that no other test holds, at fixed
//! ports: what the system picks for outgoing connections (from 127.0.0.1) is never in the way of a
//! process that starts again.

// Tests are the only users: what fails here fails the test that asked, where it asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod block;
mod client;
mod dns;
mod events;
mod link;
mod process;
mod tcp;
mod world;

pub use block::Block;
pub use client::{Client, Door};
pub use dns::{Answer, resolve};
pub use events::{Event, Hook, verify};
pub use link::{Endpoint, NewEndpoint, NewService, Service};
pub use process::{Process, program};
pub use tcp::{Echo, Held, connect, echoes, refuses, times_out};
pub use world::{Account, Vpc, World, until};

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::leash::Leash;
use crate::netns::Namespace;
use crate::postgres::{PrivatePostgres, TestDatabase};
use crate::rabbitmq::{Node, Vhost};
use crate::smtp::MailSink;

/// What is waited for comes in less than this, or the test fails. Beside a compiler things take a
/// while, and a lease that a killed process held has to run out first.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The port of the VPCs' resolvers.
pub const RESOLVER_PORT: u16 = 8053;

/// The operator's key.
pub const OPERATOR_KEY: &str = "the operator's key in the tests";

/// What hosts and services join with.
pub const JOIN_TOKEN: &str = "the join token of the tests";

/// Ends what is written down in the directory `$1`, a file for each process, and removes it.
const END: &str = r#"
    for file in "$1"/*.pid; do
        [ -e "$file" ] && kill -KILL "$(cat "$file")"
    done
    rm -rf "$1"
"#;

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `postern-control-plane`.
    ControlPlane,
    /// `postern-dispatcher`.
    Dispatcher,
    /// `postern-agent`, on the host of this number, from 1: in the zone of that number.
    Agent(usize),
}

/// What a deployment is made of, where it is not what it usually is.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many agents; each is in a zone of its own.
    pub agents: usize,
    /// Whether the database server is one of its own, to be stopped.
    pub own_postgres: bool,
    /// Whether the broker is one of its own, to be stopped.
    pub own_rabbitmq: bool,
    /// Where the control plane serves hosts that are beyond a network of their own.
    pub agents_at: Option<Ipv4Addr>,
    /// After how long a silent host loses its interfaces, in seconds.
    pub host_lease: u64,
    /// The collector that the processes send traces and metrics to.
    pub collector: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            agents: 1,
            own_postgres: false,
            own_rabbitmq: false,
            agents_at: None,
            host_lease: 15,
            collector: None,
        }
    }
}

enum Database {
    Shared(TestDatabase),
    Own(PrivatePostgres),
}

/// Three or more processes, and what they need. All of it goes when this is dropped.
pub struct Deployment {
    processes: Vec<(Program, Process)>,
    /// The database's URL, the superuser's.
    pub database_url: String,
    /// Takes the mails.
    pub mails: MailSink,
    directory: PathBuf,
    home: Block,
    fleet: SocketAddr,
    collector: Option<SocketAddr>,
    // After the processes: they let go of these first.
    database: Database,
    broker: Option<Node>,
    _leash: Leash,
}

impl Deployment {
    /// Starts one and waits until every process is ready.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Starts one like this.
    pub async fn with(setup: Setup) -> Self {
        let directory = tempfile::Builder::new().prefix("postern-deployment-").tempdir().unwrap();
        let directory = directory.keep();
        let leash = Leash::new(END, [&directory]).unwrap();
        let database = async {
            if setup.own_postgres {
                let own = PrivatePostgres::start().await.expect("a PostgreSQL");
                own.cluster.ensure_database("postern").await.expect("a database");
                (own.url("postern"), Database::Own(own))
            } else {
                let shared = TestDatabase::empty().await.expect("a database");
                (shared.url(), Database::Shared(shared))
            }
        };
        let broker = async {
            if setup.own_rabbitmq {
                let node = Node::private().await.expect("a RabbitMQ");
                (node.url(), Some(node))
            } else {
                (Vhost::claim().await.expect("a virtual host").url, None)
            }
        };
        let ((database_url, database), (amqp_url, broker)) = tokio::join!(database, broker);
        let mails = MailSink::start().await.expect("a mail sink");
        let home = Block::claim();
        let fleet = SocketAddr::from((setup.agents_at.unwrap_or(home.at(1)), 50052));
        let mut this = Self {
            processes: Vec::new(),
            database_url,
            mails,
            directory,
            home,
            fleet,
            collector: setup.collector,
            database,
            broker,
            _leash: leash,
        };
        this.add_control_plane(&amqp_url, setup.host_lease);
        this.add_dispatcher(&amqp_url);
        for number in 1..=setup.agents {
            let agent = this.agent(number, this.address());
            this.processes.push((Program::Agent(number), agent));
        }
        for (_, process) in &mut this.processes {
            process.start();
        }
        for program in this.programs() {
            this.ready(program).await;
        }
        this
    }

    /// The address that everything of it listens on.
    pub fn address(&self) -> Ipv4Addr {
        self.home.at(1)
    }

    fn at(&self, port: u16) -> String {
        SocketAddr::from((self.address(), port)).to_string()
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where an agent keeps its state.
    pub fn agent_state(&self, number: usize) -> PathBuf {
        self.directory.join(format!("agent-{number}"))
    }

    /// Its database server, where that is its own.
    pub fn postgres(&mut self) -> &mut PrivatePostgres {
        match &mut self.database {
            Database::Own(own) => own,
            Database::Shared(shared) => panic!("{shared:?} is everybody's"),
        }
    }

    /// Its broker, where that is its own.
    pub fn rabbitmq(&mut self) -> &mut Node {
        self.broker.as_mut().expect("the broker is everybody's")
    }

    /// A client with this key.
    pub fn client(&self, key: &str) -> Client {
        Client::new(&self.at(50051), &self.at(50061), key)
    }

    /// The operator.
    pub fn operator(&self) -> Client {
        self.client(OPERATOR_KEY)
    }

    /// A database pool, to look at what is kept.
    pub async fn pool(&self) -> sqlx::PgPool {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(2);
        options.connect(&self.database_url).await.expect("the database")
    }

    /// Each of its programs, and what it calls itself in traces.
    pub fn names(&self) -> Vec<(Program, &'static str)> {
        let name = |program| match program {
            Program::ControlPlane => "postern-control-plane",
            Program::Dispatcher => "postern-dispatcher",
            Program::Agent(_) => "postern-agent",
        };
        self.programs().into_iter().map(|program| (program, name(program))).collect()
    }

    fn programs(&self) -> Vec<Program> {
        self.processes.iter().map(|(program, _)| *program).collect()
    }

    /// One of its processes.
    pub fn process(&mut self, program: Program) -> &mut Process {
        let mut all = self.processes.iter_mut();
        let found = all.find(|(name, _)| *name == program);
        &mut found.unwrap_or_else(|| panic!("there is no {program:?}")).1
    }

    /// Starts it and waits until it is ready.
    pub async fn restart(&mut self, program: Program) {
        self.process(program).start();
        self.ready(program).await;
    }

    /// Waits until a process says that it can do its work.
    pub async fn ready(&mut self, program: Program) {
        self.process(program).ready(PATIENCE).await;
    }

    fn add_control_plane(&mut self, amqp_url: &str, host_lease: u64) {
        let settings = [
            ("POSTERN_DATABASE_URL", self.database_url.clone()),
            ("POSTERN_DATABASE_CONNECTIONS", "8".to_owned()),
            ("POSTERN_AMQP_URL", amqp_url.to_owned()),
            ("POSTERN_OPERATOR_KEY", OPERATOR_KEY.to_owned()),
            ("POSTERN_JOIN_TOKEN", JOIN_TOKEN.to_owned()),
            ("POSTERN_DISPATCHER_INTERNAL_ADDRESS", self.at(50062)),
            ("POSTERN_CA_DIR", self.directory.join("ca").display().to_string()),
            ("POSTERN_CA_PUBLISH_DIR", self.directory.join("published").display().to_string()),
            ("POSTERN_LISTEN", self.at(50051)),
            ("POSTERN_AGENT_LISTEN", self.fleet.to_string()),
            ("POSTERN_HOST_LEASE_SECONDS", host_lease.to_string()),
            ("POSTERN_QUOTA_ENDPOINTS_PER_VPC", "200".to_owned()),
            ("POSTERN_DRAIN_SECONDS", "2".to_owned()),
        ];
        self.add(Program::ControlPlane, "postern-control-plane", "control-plane", 9101, &settings);
    }

    fn add_dispatcher(&mut self, amqp_url: &str) {
        let state = self.directory.join("dispatcher");
        let settings = [
            ("POSTERN_DATABASE_URL", self.database_url.clone()),
            ("POSTERN_DATABASE_CONNECTIONS", "8".to_owned()),
            ("POSTERN_AMQP_URL", amqp_url.to_owned()),
            ("POSTERN_CONTROL_PLANE", self.fleet.to_string()),
            ("POSTERN_CA_FILE", self.ca_file()),
            ("POSTERN_JOIN_TOKEN", JOIN_TOKEN.to_owned()),
            ("POSTERN_STATE_DIR", state.display().to_string()),
            ("POSTERN_LISTEN", self.at(50061)),
            ("POSTERN_INTERNAL_LISTEN", self.at(50062)),
            ("POSTERN_HTTP_LISTEN", self.at(8090)),
            ("POSTERN_PUBLIC_URL", format!("http://{}", self.at(8090))),
            ("POSTERN_OUTBOUND_ALLOW", "127.0.0.0/8".to_owned()),
            ("POSTERN_SMTP_HOST", self.mails.address().ip().to_string()),
            ("POSTERN_SMTP_PORT", self.mails.address().port().to_string()),
            ("POSTERN_SMTP_TLS", "none".to_owned()),
            ("POSTERN_SMTP_FROM", "postern@example.com".to_owned()),
            ("POSTERN_DRAIN_SECONDS", "2".to_owned()),
        ];
        self.add(Program::Dispatcher, "postern-dispatcher", "dispatcher", 9102, &settings);
    }

    /// Starts the agent of this number inside a network namespace, where it has the address `admin`,
    /// and waits until it is ready.
    pub async fn start_agent_inside(
        &mut self,
        number: usize,
        namespace: &Namespace,
        admin: Ipv4Addr,
    ) {
        let mut agent = self.agent(number, admin).inside(namespace);
        agent.start();
        self.processes.push((Program::Agent(number), agent));
        self.ready(Program::Agent(number)).await;
    }

    fn agent(&self, number: usize, admin: Ipv4Addr) -> Process {
        let name = format!("agent-{number}");
        let settings = [
            ("POSTERN_CONTROL_PLANE", self.fleet.to_string()),
            ("POSTERN_CA_FILE", self.ca_file()),
            ("POSTERN_JOIN_TOKEN", JOIN_TOKEN.to_owned()),
            ("POSTERN_HOST_NAME", name.clone()),
            ("POSTERN_ZONE", format!("use1-az{number}")),
            ("POSTERN_STATE_DIR", self.agent_state(number).display().to_string()),
            ("POSTERN_RESOLVER_PORT", RESOLVER_PORT.to_string()),
            ("POSTERN_DNS_FORWARDING", "off".to_owned()),
            ("POSTERN_WORKERS", "2".to_owned()),
            ("POSTERN_REPORT_SECONDS", "1".to_owned()),
            ("POSTERN_DRAIN_SECONDS", "2".to_owned()),
        ];
        let admin = SocketAddr::from((admin, 9102 + u16::try_from(number).unwrap()));
        Process::new(
            "postern-agent",
            &name,
            &self.directory,
            admin,
            &self.with_telemetry(&settings),
        )
    }

    /// These settings, and where telemetry goes, at once rather than every few seconds.
    fn with_telemetry(&self, settings: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
        let mut all = settings.to_vec();
        if let Some(collector) = self.collector {
            all.extend([
                ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
                ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
                ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
            ]);
        }
        all
    }

    fn ca_file(&self) -> String {
        self.directory.join("published/ca.pem").display().to_string()
    }

    fn add(
        &mut self,
        program: Program,
        executable: &str,
        name: &str,
        admin_port: u16,
        settings: &[(&'static str, String)],
    ) {
        let admin = SocketAddr::from((self.address(), admin_port));
        let settings = self.with_telemetry(settings);
        let process = Process::new(executable, name, &self.directory, admin, &settings);
        self.processes.push((program, process));
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for (_, process) in &mut self.processes {
            process.kill();
        }
        if std::thread::panicking() {
            for (_, process) in &self.processes {
                eprintln!("{}", process.last_words(60));
            }
        }
    }
}
