//! `postern dev`: control plane, dispatcher and one agent in one process, with a Postgres of its own.
//!
//! They are the same parts as in a deployment, put together without the message broker and without
//! the sockets between the services: the bus is in the process, the control plane asks the dispatcher
//! by a call. Agent and control plane talk over mTLS, as they do everywhere. VPCs lie in 127.0.0.0/8,
//! so that no privilege is needed. Everything that must be found again is under one directory.

mod glue;
mod seed;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use postern_agent::AgentConfig;
use postern_control_plane::config::Config;
use postern_control_plane::run::{Bus, Parts, Public, prepare};
use postern_dispatcher::config::DispatcherConfig;
use postern_dispatcher::deliver::dial::SystemResolver;
use postern_dispatcher::{Dispatcher, Surroundings};
use postern_local::{Cluster, Options};
use postern_runtime::admin::{self, Admin};
use postern_runtime::bus::{InProcessDeadLetters, in_process};
use postern_runtime::clock::SystemClock;
use postern_runtime::config::{Secret, Vars};
use postern_runtime::shutdown::{self, Stop, part, signal, supervise};
use postern_runtime::telemetry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::service::Routes;

use crate::demo::say;
use crate::exit::Failure;
use crate::output::no_color;
use glue::{DirectIdentities, DirectOutcomes, LateTopics};
use seed::Secrets;

/// Events that may be on their way in the process at once; the outbox holds the others.
const BUS: usize = 1024;

/// How everything is run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Ports, on 127.0.0.1 unless --listen says otherwise:
  50051  gRPC API: control plane and topics        8090  certificate and links of messages
  50052  agents (mTLS)                             9100  health, readiness, metrics
  8053   resolver of each VPC, at its base plus two

Every setting of the parts that is not mentioned here can be given by its environment variable, such
as POSTERN_SMTP_HOST or POSTERN_QUOTA_ENDPOINTS_PER_VPC.")]
pub struct DevOptions {
    /// A database to use in place of the private one.
    #[arg(long, env = "POSTERN_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Where the state is kept between runs.
    #[arg(long, default_value = ".postern")]
    pub state: PathBuf,
    /// The directory of Postgres's programs [default: wherever they are on this machine].
    #[arg(long)]
    pub postgres_bin: Option<PathBuf>,
    /// The address that the ports are opened at.
    #[arg(long, default_value = "127.0.0.1")]
    pub listen: Ipv4Addr,
    /// The port of the gRPC API.
    #[arg(long, default_value_t = 50051)]
    pub api_port: u16,
    /// The port that agents connect to.
    #[arg(long, default_value_t = 50052)]
    pub agent_port: u16,
    /// The port of the certificate and of the links in messages.
    #[arg(long, default_value_t = 8090)]
    pub http_port: u16,
    /// The port of the admin pages.
    #[arg(long, default_value_t = 9100)]
    pub admin_port: u16,
    /// The port of the VPCs' resolvers.
    #[arg(long, default_value_t = 8053)]
    pub resolver_port: u16,
}

/// Runs everything until interrupted.
pub async fn run(options: DevOptions) -> Result<(), Failure> {
    // What is said to people goes to standard output; the log beside it is for when something is odd.
    let vars = Vars::from_fn(|name| match name {
        "POSTERN_LOG" => Some(std::env::var(name).unwrap_or_else(|_| "warn".to_owned())),
        name => std::env::var(name).ok(),
    });
    let mut faults = postern_runtime::config::Faults::new();
    let settings = telemetry::Settings::load(&vars, &mut faults);
    faults.check().map_err(|faults| Failure::Usage(faults.to_string()))?;
    let telemetry = telemetry::init_with("postern-dev", &settings)
        .map_err(|faults| Failure::Usage(faults.to_string()))?;
    let result = serve(options).await;
    telemetry.shutdown().await;
    result
}

async fn serve(options: DevOptions) -> Result<(), Failure> {
    std::fs::create_dir_all(&options.state)
        .with_context(|| format!("making {}", options.state.display()))?;
    let state = std::fs::canonicalize(&options.state)
        .with_context(|| format!("opening {}", options.state.display()))?;
    let secrets = Secrets::load_or_create(&state)?;

    let mut cluster = None;
    let database_url = match &options.database_url {
        Some(url) => url.clone(),
        None => {
            say("Starting Postgres...\n");
            let started = Cluster::start(Options {
                bin_dir: options.postgres_bin.clone(),
                ..Options::durable(state.join("postgres"))
            })
            .await
            .context("starting the private Postgres")?;
            started.ensure_database("postern").await.context("making the database")?;
            cluster.insert(started).url("postern")
        }
    };

    let result = compose(&options, &state, &secrets, &database_url).await;
    if let Some(mut cluster) = cluster {
        cluster.stop().await.context("stopping the private Postgres")?;
    }
    result?;
    say("Stopped.\n");
    Ok(())
}

async fn compose(
    options: &DevOptions,
    state: &Path,
    secrets: &Secrets,
    database_url: &str,
) -> Result<(), Failure> {
    let stop = Stop::new();
    let at = |port: u16| SocketAddr::from((options.listen, port)).to_string();
    let given = [
        ("POSTERN_DATABASE_URL", database_url.to_owned()),
        ("POSTERN_LISTEN", at(options.api_port)),
        ("POSTERN_AGENT_LISTEN", at(options.agent_port)),
        ("POSTERN_OPERATOR_KEY", secrets.operator_key.clone()),
        ("POSTERN_JOIN_TOKEN", secrets.join_token.clone()),
        ("POSTERN_CA_DIR", state.join("ca").display().to_string()),
        ("POSTERN_CA_FILE", state.join("ca/ca.pem").display().to_string()),
        ("POSTERN_STATE_DIR", state.join("agent").display().to_string()),
        ("POSTERN_CONTROL_PLANE", format!("127.0.0.1:{}", options.agent_port)),
        ("POSTERN_HOST_NAME", "dev".to_owned()),
        ("POSTERN_PUBLIC_URL", format!("http://127.0.0.1:{}", options.http_port)),
        ("POSTERN_RESOLVER_PORT", options.resolver_port.to_string()),
        // The bus and the topics are handed in: nothing is dialled at these.
        ("POSTERN_AMQP_URL", "amqp://in-process".to_owned()),
        ("POSTERN_DISPATCHER_INTERNAL_ADDRESS", "in-process:0".to_owned()),
    ];
    // What a developer's machine needs to be useful, unless told otherwise.
    let usual = [
        ("POSTERN_ZONE", "use1-az1"),
        ("POSTERN_OUTBOUND_ALLOW", "127.0.0.0/8"),
        ("POSTERN_DRAIN_SECONDS", "5"),
    ];
    let vars = Vars::from_fn(move |name| {
        let given = given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone());
        given.or_else(|| std::env::var(name).ok()).or_else(|| {
            usual.iter().find(|(usual, _)| *usual == name).map(|(_, value)| (*value).to_owned())
        })
    });
    let usage = |faults: postern_runtime::config::Faults| Failure::Usage(faults.to_string());
    let mut config = Config::load(&vars).map_err(usage)?;
    config.amqp_url = None;
    config.dispatcher = None;
    let dispatcher_config = DispatcherConfig::load(&vars).map_err(usage)?;
    let agent_config = AgentConfig::load(&vars).map_err(usage)?;
    let drain = config.drain;

    let admin = Admin::new("postern-dev");
    let admin_listener = bind(options.listen, options.admin_port, "--admin-port").await?;
    let http_listener = bind(options.listen, options.http_port, "--http-port").await?;
    let (publisher, source) = in_process(BUS);
    let topics = LateTopics::default();
    let (serving, served) = oneshot::channel();
    let control_plane = prepare(
        config,
        Parts {
            admin: Some(admin.clone()),
            bus: Some(Bus { publisher: Arc::new(publisher), forgets: true }),
            topics: Some(Arc::new(topics.clone())),
            serving: Some(serving),
            ..Parts::default()
        },
    )
    .await?;

    let around = Surroundings {
        identities: Arc::new(DirectIdentities::new(control_plane.authenticator.clone())),
        outcomes: Arc::new(DirectOutcomes::new(control_plane.app.clone())),
        source: Box::new(source),
        dead_letters: Arc::new(InProcessDeadLetters::default()),
        resolver: Arc::new(SystemResolver),
        clock: Arc::new(SystemClock),
        admin: admin.clone(),
    };
    let prepared = tokio::select! {
        prepared = Dispatcher::prepare(&dispatcher_config, around, &stop) => prepared?,
        () = signal() => None,
    };
    let Some(dispatcher) = prepared else { return Ok(()) };
    topics.set(dispatcher.app().clone());
    let control_plane = control_plane.with_public(Public {
        routes: Routes::new(dispatcher.topic_service()).add_service(dispatcher.delivery_service()),
        names: vec!["postern.v1.TopicService", "postern.v1.DeliveryService"],
    });

    let mut parts = shutdown::Parts::new();
    let (shown, ending) = (admin.clone(), stop.kill.clone());
    parts.spawn(part(
        "admin",
        async move { Ok(admin::serve(admin_listener, shown, ending).await?) },
    ));
    dispatcher.spawn(http_listener, &mut parts, &stop);
    let running = control_plane.run(stop.clone());
    parts.spawn(part("control plane", running));
    let (agent_admin, agent_stop) = (admin.clone(), stop.clone());
    parts.spawn(part("agent", async move {
        postern_agent::run(agent_config, &agent_admin, agent_stop).await
    }));

    let (announced, announcing) = (options.clone(), stop.clone());
    let (state, secrets) = (state.to_owned(), secrets.clone());
    parts.spawn(part("announcement", async move {
        tokio::select! {
            announced = announce(&announced, &state, &secrets, served) => announced?,
            () = announcing.stopped() => return Ok(()),
        }
        announcing.stopped().await;
        Ok(())
    }));
    supervise(parts, stop, drain).await.map_err(|error| Failure::Other(error.into()))
}

async fn bind(address: Ipv4Addr, port: u16, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind((address, port))
        .await
        .with_context(|| format!("listening at {address}:{port} (another one: {option})"))
}

/// Once everything is there: makes the accounts that people start with, and says where everything is.
async fn announce(
    options: &DevOptions,
    state: &Path,
    secrets: &Secrets,
    served: oneshot::Receiver<postern_control_plane::run::Addresses>,
) -> anyhow::Result<()> {
    let Ok(addresses) = served.await else { return Ok(()) };
    let address = format!("http://{}", addresses.api);
    let seeded = seed::accounts(&address, &Secret::new(secrets.operator_key.clone()), state)
        .await
        .map_err(|failure| anyhow::anyhow!("{}", failure.sentence()))?;
    let bold = std::io::stdout().is_terminal() && !no_color();
    let (bold, off) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    let admin = SocketAddr::from((options.listen, options.admin_port));
    let http = SocketAddr::from((options.listen, options.http_port));
    say(&format!(
        "
{bold}Postern is ready.{off}

  gRPC API      {address}
  resolver      {resolver} (of the consumer's VPC {consumer_vpc}; each VPC's is at its base plus two)
  admin pages   http://{admin}/  (/healthz /readyz /metrics)
  messages      http://{http}/  (certificate, confirmation and unsubscribe links)
  state         {state}

  provider      account {provider}  API key {provider_key}
  consumer      account {consumer}  API key {consumer_key}
  operator      API key {operator_key}

These are profiles too: postern --profile consumer endpoint list
See it work: postern demo
Ctrl-C stops.
",
        resolver = seeded.resolver,
        consumer_vpc = seeded.consumer_vpc,
        state = state.display(),
        provider = seeded.provider.account,
        provider_key = seeded.provider.key,
        consumer = seeded.consumer.account,
        consumer_key = seeded.consumer.key,
        operator_key = secrets.operator_key,
    ));
    Ok(())
}
