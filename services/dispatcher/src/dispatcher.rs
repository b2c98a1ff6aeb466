//! The dispatcher put together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use postern_proto::internal::v1::topic_access_service_server::TopicAccessServiceServer;
use postern_proto::v1::delivery_service_server::DeliveryServiceServer;
use postern_proto::v1::topic_service_server::TopicServiceServer;
use postern_runtime::admin::{Admin, Part};
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::{DeadLetters, Source};
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::{self, Stop};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use crate::api::{AccessApi, Authenticated, Authenticator, DeliveryApi, TopicApi};
use crate::app::App;
use crate::caller::Identities;
use crate::config::DispatcherConfig;
use crate::consume::Consumer;
use crate::deliver::Scheduler;
use crate::deliver::dial::{Dialer, Resolver};
use crate::deliver::email::Mailer;
use crate::deliver::message::PublicUrl;
use crate::deliver::redrive;
use crate::deliver::sign::keys::{Sealing, SigningKeys};
use crate::deliver::webhook::Webhooks;
use crate::error::Error;
use crate::fanout::Fanout;
use crate::metrics::{ConsumeMetrics, DeliveryMetrics};
use crate::outcomes::Outcomes;
use crate::store::{Store, days};
use crate::{digests, http, outcomes, sweep};

/// While the database is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How often to ask whether the database is there.
const PING: Duration = Duration::from_secs(2);

/// What the dispatcher lives among: other services, the bus, the time.
pub struct Surroundings {
    /// Knows whom API keys belong to.
    pub identities: Arc<dyn Identities>,
    /// Hears what topics said to notifications.
    pub outcomes: Arc<dyn Outcomes>,
    /// Where events come from.
    pub source: Box<dyn Source>,
    /// Takes what was given up and is to go to a queue.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Turns names of webhooks into addresses.
    pub resolver: Arc<dyn Resolver>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where metrics and readiness are shown.
    pub admin: Admin,
}

/// The dispatcher, ready to run.
pub struct Dispatcher {
    app: App,
    authenticator: Authenticator,
    scheduler: Scheduler,
    consumer: Consumer,
    source: Box<dyn Source>,
    dead_letters: Arc<dyn DeadLetters>,
    outcomes: Arc<dyn Outcomes>,
    retention: Duration,
    database: Part,
}

impl Dispatcher {
    /// Brings the schema up to date, and makes the signing key when there is none. Waits while the
    /// database is away; `None` when asked to stop before it came.
    ///
    /// # Errors
    /// When the configuration is of no use, or a migration fails.
    pub async fn prepare(
        config: &DispatcherConfig,
        around: Surroundings,
        stop: &Stop,
    ) -> anyhow::Result<Option<Self>> {
        let Surroundings { identities, outcomes, source, dead_letters, resolver, clock, admin } =
            around;
        let database = admin.readiness.part("database");
        let store = Store::new(config.database_url.expose(), config.database_connections)
            .context("POSTERN_DATABASE_URL")?;
        let mut delays = AWAY.delays(crate::randomness());
        let keys = loop {
            match ready(&store, &config.sealing, clock.as_ref()).await {
                Ok(keys) => break keys,
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Away(error)) => {
                    warn!(error = format!("{error:#}"), "the database is away, trying again");
                    database.not_ready(format!("{error:#}"));
                }
            }
            tokio::select! {
                () = sleep(delays.next().unwrap_or(AWAY.max)) => {}
                () = stop.stopped() => return Ok(None),
            }
        };
        database.ready();
        let tls = client_tls(config.outbound_ca_file.as_deref())?;
        let dialer = Dialer::new(config.outbound.clone(), resolver, Arc::new(tls));
        let mailer = config.mail.as_ref().map(Mailer::new).transpose()?;
        let due = Arc::new(Notify::new());
        let decided = Arc::new(Notify::new());
        let fanout = Fanout::default();
        let app = App {
            store: store.clone(),
            clock: Arc::clone(&clock),
            region: config.region.clone(),
            outbound: Arc::new(config.outbound.clone()),
            due: Arc::clone(&due),
            decided: Arc::clone(&decided),
            fanout: fanout.clone(),
        };
        let scheduler = Scheduler {
            store: store.clone(),
            clock: Arc::clone(&clock),
            keys,
            webhooks: Webhooks::new(dialer, config.webhook_timeout),
            mailer,
            public: PublicUrl::new(&config.public_url),
            poke: Arc::clone(&due),
            redrive: Arc::new(Notify::new()),
            metrics: DeliveryMetrics::register(&admin),
            config: config.scheduler,
        };
        let consumer = Consumer {
            store,
            clock,
            region: config.region.to_string(),
            due,
            decided,
            fanout,
            metrics: ConsumeMetrics::register(&admin),
        };
        Ok(Some(Self {
            app,
            authenticator: Authenticator::new(identities),
            scheduler,
            consumer,
            source,
            dead_letters,
            outcomes,
            retention: config.retention,
            database,
        }))
    }

    /// The use cases, for whoever shares the process.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The public service, behind its authenticator: to mount on any gRPC port.
    pub fn topic_service(&self) -> Authenticated<TopicServiceServer<TopicApi>> {
        let service = TopicServiceServer::new(TopicApi::new(self.app.clone()));
        Authenticated::new(service, self.authenticator.clone())
    }

    /// The public service of deliveries, behind its authenticator.
    pub fn delivery_service(&self) -> Authenticated<DeliveryServiceServer<DeliveryApi>> {
        let service = DeliveryServiceServer::new(DeliveryApi::new(self.app.clone()));
        Authenticated::new(service, self.authenticator.clone())
    }

    /// The service for the control plane: to mount on a port with mTLS.
    pub fn access_service(&self) -> TopicAccessServiceServer<AccessApi> {
        TopicAccessServiceServer::new(AccessApi::new(self.app.clone()))
    }

    /// Starts everything that runs by itself: events, deliveries, reports, the HTTP port on `http`.
    /// The parts end when `stop` is asked for.
    pub fn spawn(self, http: TcpListener, parts: &mut shutdown::Parts, stop: &Stop) {
        let Self {
            app,
            scheduler,
            consumer,
            source,
            dead_letters,
            outcomes,
            retention,
            database,
            ..
        } = self;
        let (store, clock) = (app.store.clone(), Arc::clone(&app.clock));
        let (due, fanout) = (Arc::clone(&app.due), app.fanout.clone());
        let router = http::router(app, scheduler.keys.clone());
        parts.spawn(shutdown::part("signing key", scheduler.keys.clone().follow(stop.clone())));
        let letters = Arc::clone(&scheduler.redrive);
        parts.spawn(shutdown::part(
            "redrive",
            redrive::run(store.clone(), dead_letters, letters, stop.clone()),
        ));
        let decided = Arc::clone(&consumer.decided);
        parts.spawn(shutdown::part("http", http::serve(http, router, stop.clone())));
        parts.spawn(shutdown::part("deliveries", scheduler.run(stop.clone())));
        parts.spawn(shutdown::part("events", consumer.run(source, stop.clone())));
        parts.spawn(shutdown::part(
            "outcomes",
            outcomes::run(store.clone(), Arc::clone(&clock), outcomes, decided, stop.clone()),
        ));
        parts.spawn(shutdown::part(
            "digests",
            digests::run(store.clone(), Arc::clone(&clock), fanout, due, stop.clone()),
        ));
        parts.spawn(shutdown::part(
            "sweep",
            sweep::run(store.clone(), clock, retention, stop.clone()),
        ));
        parts.spawn(shutdown::part("database", watch(store, database, stop.clone())));
    }
}

enum Failure {
    /// The same may succeed later.
    Away(anyhow::Error),
    /// It never will.
    Fatal(anyhow::Error),
}

/// Makes the database ready, and finds the key in it.
async fn ready(
    store: &Store,
    sealing: &Sealing,
    clock: &dyn Clock,
) -> Result<SigningKeys, Failure> {
    store.ping().await.map_err(|error| Failure::Away(error.into()))?;
    store
        .migrate()
        .await
        .map_err(|error| Failure::Fatal(anyhow::Error::from(error).context("migrating")))?;
    let made = async {
        let mut db = store.connection().await?;
        days::make(&mut db, clock.now()).await?;
        drop(db);
        SigningKeys::obtain(store, sealing.clone(), clock.now()).await
    };
    made.await.map_err(|error| match error {
        error @ Error::Unavailable { .. } => Failure::Away(error.into()),
        error => Failure::Fatal(error.into()),
    })
}

async fn watch(store: Store, database: Part, stop: Stop) -> anyhow::Result<()> {
    while !stop.is_stopping() {
        match store.ping().await {
            Ok(()) => database.ready(),
            Err(error) => database.not_ready(error.to_string()),
        }
        tokio::select! {
            () = sleep(PING) => {}
            () = stop.stopped() => {}
        }
    }
    Ok(())
}

/// What webhooks trust: the machine's authorities, and those of the file.
fn client_tls(extra: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        warn!(%error, "an authority of the machine cannot be read");
    }
    let (_, ignored) = roots.add_parsable_certificates(native.certs);
    if ignored > 0 {
        warn!(ignored, "authorities of the machine that cannot be used");
    }
    if let Some(path) = extra {
        let context = || format!("POSTERN_OUTBOUND_CA_FILE, {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
            roots.add(certificate.with_context(context)?).with_context(context)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
