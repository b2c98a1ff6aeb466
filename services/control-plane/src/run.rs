//! The control plane put together: from its configuration to its end.
//!
//! [`prepare`] makes everything that needs no database; [`ControlPlane::run`] opens the ports, waits
//! for the database for as long as it takes, and serves until it is asked to stop. A process that
//! composes more than the control plane hands in [`Parts`] of its own, and takes the [`App`] from
//! between the two.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use postern_proto::FILE_DESCRIPTOR_SET;
use postern_proto::internal::v1::identity_service_server::IdentityServiceServer;
use postern_proto::internal::v1::notification_outcome_service_server::NotificationOutcomeServiceServer;
use postern_runtime::admin::{self, Admin, Part};
use postern_runtime::bus::Publisher;
use postern_runtime::clock::{Clock, SystemClock};
use postern_runtime::grpc::{self, Limits, Methods, RpcMetrics, ServeOptions};
use postern_runtime::shutdown::{self, Stop, part, signal, supervise};
use postern_runtime::tls::{
    Authority, ClientAuth, IdentityHandle, ServerTls, SpiffeId, install_provider,
};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tonic::service::Routes;
use tracing::{info, warn};

use crate::api;
use crate::api::auth::Authenticator;
use crate::api::identity::Identity;
use crate::api::outcomes::Outcomes;
use crate::app::{App, TopicAccess};
use crate::config::{Config, FleetConfig};
use crate::fleet::{CERTIFICATE_LIFETIME, Fleet, FleetMetrics};
use crate::pokes::Pokes;
use crate::store::{Store, relay};
use crate::tasks::amqp::AmqpPublisher;
use crate::tasks::reconcile::{ReconcileMetrics, Reconciler};
use crate::tasks::relay::{Relay, RelayMetrics};
use crate::tasks::{database, poke_bridge};
use crate::topics::RemoteTopics;

/// A bus that forgets with its process has the events of this time published again at the start.
const AGAIN: Duration = Duration::from_secs(3600);
/// After a failed renewal of our own certificate.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// A bus in place of the message broker of the configuration.
#[derive(Clone)]
pub struct Bus {
    /// Takes the events.
    pub publisher: Arc<dyn Publisher>,
    /// Whether it forgets what it took when the process ends, as the in-process one does.
    pub forgets: bool,
}

/// What more the public port serves.
#[derive(Default)]
pub struct Public {
    /// Services, which authenticate their callers themselves.
    pub routes: Routes,
    /// Their full names, for reflection and health.
    pub names: Vec<&'static str>,
}

/// What a process that composes the control plane with others hands in; by default, nothing.
#[derive(Default)]
pub struct Parts {
    /// The admin pages; then their port is the composing process's business, and ours stays closed.
    pub admin: Option<Admin>,
    /// The meters of gRPC servers, which a process registers once.
    pub rpc: Option<RpcMetrics>,
    /// The bus.
    pub bus: Option<Bus>,
    /// The topics, in place of the dispatcher over the network.
    pub topics: Option<Arc<dyn TopicAccess>>,
    /// The time.
    pub clock: Option<Arc<dyn Clock>>,
    /// What more the public port serves.
    pub public: Option<Public>,
    /// Told, once the ports are open and the database is there.
    pub serving: Option<tokio::sync::oneshot::Sender<Addresses>>,
}

/// Where the control plane listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The public API.
    pub api: SocketAddr,
    /// Agents and other services.
    pub agents: SocketAddr,
    /// Health and metrics; `None` when the admin pages were handed in.
    pub admin: Option<SocketAddr>,
}

/// The control plane, made and not yet started.
pub struct ControlPlane {
    /// The use cases.
    pub app: App,
    /// Who callers are.
    pub authenticator: Authenticator,
    /// The authority that issues every identity.
    pub authority: Arc<Authority>,
    /// The control plane's own identity, as clients of its agent port see it.
    pub identity: IdentityHandle,
    config: Config,
    admin: Admin,
    own_admin: bool,
    rpc: RpcMetrics,
    bus: Bus,
    amqp: Option<Arc<AmqpPublisher>>,
    public: Option<Public>,
    serving: Option<tokio::sync::oneshot::Sender<Addresses>>,
}

/// Runs the control plane until `stop` is asked for, a signal comes, or a part of it fails.
///
/// # Errors
///
/// What can't be mended by waiting: a port that is taken, files that can't be read, a schema of a
/// later version.
pub async fn run(config: Config, parts: Parts, stop: Stop) -> anyhow::Result<()> {
    prepare(config, parts).await?.run(stop).await
}

/// Makes the control plane from its configuration.
///
/// # Errors
///
/// A setting that turns out wrong in use: a URL that is none, a directory that can't be written.
pub async fn prepare(config: Config, parts: Parts) -> anyhow::Result<ControlPlane> {
    install_provider();
    let Parts { admin, rpc, bus, topics, clock, public, serving } = parts;
    let own_admin = admin.is_none();
    let admin = admin.unwrap_or_else(|| Admin::new("postern-control-plane"));
    let rpc = rpc.unwrap_or_else(|| admin.register(RpcMetrics::register));
    let clock: Arc<dyn Clock> = clock.unwrap_or_else(|| Arc::new(SystemClock));
    let store = Store::open(config.database.url.expose(), config.database.connections)
        // The error of the parser repeats the URL, which has a password in it.
        .map_err(|_| anyhow!("POSTERN_DATABASE_URL is not a PostgreSQL URL"))?;

    let (fleet, ca_clock) = (config.fleet.clone(), Arc::clone(&clock));
    let authority = tokio::task::spawn_blocking(move || open_authority(&fleet, ca_clock)).await??;
    let authority = Arc::new(authority);
    let me = SpiffeId::service("control-plane")?;
    let own = authority
        .issue_identity(&me, &config.fleet.server_names, CERTIFICATE_LIFETIME)
        .context("issuing our own certificate (POSTERN_SERVER_NAMES)")?;
    let identity = IdentityHandle::new(own);

    let topics: Arc<dyn TopicAccess> = match (topics, &config.dispatcher) {
        (Some(topics), _) => topics,
        (None, Some(address)) => Arc::new(
            RemoteTopics::new(address, identity.clone())
                .context("POSTERN_DISPATCHER_INTERNAL_ADDRESS")?,
        ),
        (None, None) => return Err(anyhow!("no dispatcher is configured")),
    };
    let (bus, amqp) = match (bus, &config.amqp_url) {
        (Some(bus), _) => (bus, None),
        (None, Some(url)) => {
            let publisher = AmqpPublisher::new(url, admin.readiness.part("bus"))
                .map_err(|reason| anyhow!("POSTERN_AMQP_URL {reason}"))?;
            let publisher = Arc::new(publisher);
            (Bus { publisher: publisher.clone(), forgets: false }, Some(publisher))
        }
        (None, None) => return Err(anyhow!("no message broker is configured")),
    };
    let settings = Arc::new(config.settings.clone());
    let app = App { store, settings, clock, pokes: Pokes::default(), topics };
    let authenticator = Authenticator::new(app.clone(), &config.operator_key);
    Ok(ControlPlane {
        app,
        authenticator,
        authority,
        identity,
        config,
        admin,
        own_admin,
        rpc,
        bus,
        amqp,
        public,
        serving,
    })
}

impl ControlPlane {
    /// Adds to what the public port serves. The names of services are for reflection and health.
    #[must_use]
    pub fn with_public(mut self, public: Public) -> Self {
        self.public = Some(public);
        self
    }

    /// Serves until `stop` is asked for, a signal comes, or a part fails.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub async fn run(mut self, stop: Stop) -> anyhow::Result<()> {
        let listen = &self.config.listen;
        let api = bind(listen.api, "POSTERN_LISTEN").await?;
        let agents = bind(listen.agents, "POSTERN_AGENT_LISTEN").await?;
        let mut parts = shutdown::Parts::new();
        let mut addresses =
            Addresses { api: api.local_addr()?, agents: agents.local_addr()?, admin: None };
        if self.own_admin {
            let listener = bind(listen.admin, "POSTERN_ADMIN_LISTEN").await?;
            addresses.admin = Some(listener.local_addr()?);
            let served = admin::serve(listener, self.admin.clone(), stop.stop.clone());
            parts.spawn(part("admin", async move { Ok(served.await?) }));
        }

        let database = self.admin.readiness.part("database");
        let migrate = self.config.database.migrate;
        let ready = tokio::select! {
            ready = database::ready(&self.app.store, migrate, &database, &stop) => {
                ready.context("preparing the database")?
            }
            () = signal() => false,
        };
        if ready {
            self.start(&mut parts, api, agents, database, &stop).await?;
            if let Some(serving) = self.serving.take() {
                // Whoever composed us may have lost interest.
                let _ = serving.send(addresses);
            }
            info!(api = %addresses.api, agents = %addresses.agents, "the control plane is serving");
        } else {
            stop.stop();
        }
        supervise(parts, stop, self.config.drain).await?;
        Ok(())
    }

    /// Starts everything that needs the database.
    async fn start(
        &mut self,
        parts: &mut shutdown::Parts,
        api: TcpListener,
        agents: TcpListener,
        database: Part,
        stop: &Stop,
    ) -> anyhow::Result<()> {
        let store = self.app.store.clone();
        let under = |part: &str| format!("postern_control_plane_{part}");
        let fleet_metrics = self.admin.register(|registry| {
            FleetMetrics::register(registry.sub_registry_with_prefix(under("fleet")))
        });
        let relay_metrics = self.admin.register(|registry| {
            RelayMetrics::register(registry.sub_registry_with_prefix(under("outbox")))
        });
        let reconcile_metrics = self.admin.register(|registry| {
            ReconcileMetrics::register(registry.sub_registry_with_prefix(under("reconcile")))
        });
        let fleet = Fleet::new(
            self.app.clone(),
            self.config.naming.clone(),
            Arc::clone(&self.authority),
            self.config.fleet.join_token.clone(),
            fleet_metrics,
            stop.clone(),
        );
        let methods = Methods::from_descriptor_set(FILE_DESCRIPTOR_SET)?;
        let limits =
            Limits { unary_timeout: self.config.listen.unary_timeout, ..Limits::default() };
        let options = ServeOptions::new(self.rpc.clone(), methods).limits(limits);

        let mut public = options.clone();
        if let Some((certificate, key)) = &self.config.listen.api_tls {
            let tls = ServerTls::from_pem_files(certificate, key)
                .context("POSTERN_API_TLS_CERT, POSTERN_API_TLS_KEY")?;
            public = public.tls(tls);
        }
        let routes = self.public_routes().await?;
        let served = grpc::serve(api, routes, public, stop.clone());
        parts.spawn(part("api", async move { Ok(served.await?) }));
        // A watch never ends by itself: it would hold the port open until it is cut.
        let (pokes, stopping) = (self.app.pokes.clone(), stop.clone());
        let watches = async move {
            stopping.stopped().await;
            pokes.end();
        };
        parts.spawn(until("watches", watches));

        // Optional: who enrols has no certificate yet. Every other handler looks at who it is.
        let tls = ServerTls::mutual(self.identity.clone(), ClientAuth::Optional);
        let outcomes = Outcomes::new(self.app.clone());
        let routes = fleet
            .routes()
            .add_service(IdentityServiceServer::new(Identity::new(self.authenticator.clone())))
            .add_service(NotificationOutcomeServiceServer::new(outcomes));
        let served = grpc::serve(agents, routes, options.tls(tls), stop.clone());
        parts.spawn(part("agents", async move {
            served.await?;
            fleet.ended().await;
            Ok(())
        }));

        if self.bus.forgets {
            let mut db = store.pool().acquire().await?;
            let again = relay::again(&mut db, AGAIN).await?;
            info!(again, "events of the last hour are published again: the bus had forgotten them");
        }
        let relay = Relay::new(store.clone(), Arc::clone(&self.bus.publisher), relay_metrics)
            .lease(self.config.relay_lease);
        parts.spawn(until("relay", relay.run(self.app.pokes.clone(), stop.clone())));
        if let Some(amqp) = self.amqp.take() {
            let stop = stop.clone();
            parts.spawn(until("amqp", async move { amqp.keep(stop).await }));
        }
        let reconciler =
            Reconciler::new(self.app.clone(), self.config.fleet.host_lease, reconcile_metrics);
        parts.spawn(until("reconciler", reconciler.run(stop.clone())));
        let bridge = poke_bridge::run(store.clone(), self.app.pokes.clone(), stop.clone());
        parts.spawn(until("poke bridge", bridge));
        parts.spawn(until("database", database::watch(store, database, stop.clone())));
        parts.spawn(until("identity", self.renew(stop.clone())));
        Ok(())
    }

    async fn public_routes(&mut self) -> anyhow::Result<Routes> {
        let mut names = api::SERVICES.to_vec();
        let mut routes = api::services(&self.app, &self.authenticator);
        if let Some(public) = self.public.take() {
            names.extend(public.names);
            // Both answer for methods that don't exist: one is enough.
            let more = public.routes.into_axum_router().reset_fallback();
            routes = Routes::from(routes.into_axum_router().merge(more));
        }
        let (health, _) = tonic_health::server::health_reporter();
        for name in &names {
            health.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
        }
        Ok(api::with_open_services(routes, &names, health)?)
    }

    /// Replaces our own certificate before it ends.
    fn renew(&self, stop: Stop) -> impl Future<Output = ()> + Send + use<> {
        let (identity, authority) = (self.identity.clone(), Arc::clone(&self.authority));
        let (clock, names) = (Arc::clone(&self.app.clock), self.config.fleet.server_names.clone());
        async move {
            loop {
                let current = identity.current();
                let left = (current.renew_at() - clock.now()).to_std().unwrap_or_default();
                tokio::select! {
                    () = stop.stopped() => return,
                    () = sleep(left) => {}
                }
                match authority.issue_identity(current.spiffe(), &names, CERTIFICATE_LIFETIME) {
                    Ok(next) => {
                        info!(until = %next.not_after(), "renewed our own certificate");
                        identity.replace(next);
                    }
                    Err(error) => {
                        warn!(%error, "our own certificate could not be renewed");
                        tokio::select! {
                            () = stop.stopped() => return,
                            () = sleep(RENEWAL_PAUSE) => {}
                        }
                    }
                }
            }
        }
    }
}

/// Opens the authority, and shows its certificate where others look for it.
fn open_authority(fleet: &FleetConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Authority> {
    let authority = Authority::load_or_create(&fleet.ca_dir, clock)
        .context("opening the certificate authority (POSTERN_CA_DIR)")?;
    if let Some(directory) = &fleet.ca_publish_dir {
        authority
            .publish(directory)
            .context("publishing the authority's certificate (POSTERN_CA_PUBLISH_DIR)")?;
    }
    Ok(authority)
}

/// A part that ends when it is asked to stop, and never fails.
async fn until(name: &'static str, run: impl Future<Output = ()> + Send) -> shutdown::Ended {
    part(name, async {
        run.await;
        Ok(())
    })
    .await
}

async fn bind(address: SocketAddr, setting: &'static str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening at {address} ({setting})"))
}
