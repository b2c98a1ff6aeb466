//! The dispatcher put together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use postern_proto::internal::v1::topic_access_service_server::TopicAccessServiceServer;
use postern_proto::v1::topic_service_server::TopicServiceServer;
use postern_runtime::admin::{Admin, Part};
use postern_runtime::backoff::Backoff;
use postern_runtime::bus::Source;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::{self, Stop};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::api::{AccessApi, Authenticated, Authenticator, TopicApi};
use crate::app::App;
use crate::caller::Identities;
use crate::config::DispatcherConfig;
use crate::consume::Consumer;
use crate::deliver::Scheduler;
use crate::deliver::dial::{Dialer, Resolver};
use crate::deliver::email::Mailer;
use crate::deliver::message::PublicUrl;
use crate::deliver::sign::{self, Signer};
use crate::deliver::webhook::Webhooks;
use crate::error::Error;
use crate::metrics::{ConsumeMetrics, DeliveryMetrics};
use crate::outcomes::Outcomes;
use crate::store::{Store, signing_key};
use crate::{http, outcomes, sweep};

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
        let Surroundings { identities, outcomes, source, resolver, clock, admin } = around;
        let database = admin.readiness.part("database");
        let store = Store::new(config.database_url.expose(), config.database_connections)
            .context("POSTERN_DATABASE_URL")?;
        let mut delays = AWAY.delays(crate::randomness());
        let signer = loop {
            match ready(&store, clock.as_ref()).await {
                Ok(signer) => break signer,
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
        let app = App {
            store: store.clone(),
            clock: Arc::clone(&clock),
            region: config.region.clone(),
            outbound: Arc::new(config.outbound.clone()),
            due: Arc::clone(&due),
        };
        let scheduler = Scheduler {
            store: store.clone(),
            clock: Arc::clone(&clock),
            signer,
            webhooks: Webhooks::new(dialer, config.webhook_timeout),
            mailer,
            public: PublicUrl::new(&config.public_url),
            poke: Arc::clone(&due),
            metrics: DeliveryMetrics::register(&admin),
            config: config.scheduler,
        };
        let consumer = Consumer {
            store,
            clock,
            region: config.region.to_string(),
            due,
            decided: Arc::new(Notify::new()),
            metrics: ConsumeMetrics::register(&admin),
        };
        Ok(Some(Self {
            app,
            authenticator: Authenticator::new(identities),
            scheduler,
            consumer,
            source,
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

    /// The service for the control plane: to mount on a port with mTLS.
    pub fn access_service(&self) -> TopicAccessServiceServer<AccessApi> {
        TopicAccessServiceServer::new(AccessApi::new(self.app.clone()))
    }

    /// Starts everything that runs by itself: events, deliveries, reports, the HTTP port on `http`.
    /// The parts end when `stop` is asked for.
    pub fn spawn(self, http: TcpListener, parts: &mut shutdown::Parts, stop: &Stop) {
        let Self { app, scheduler, consumer, source, outcomes, retention, database, .. } = self;
        let (store, clock) = (app.store.clone(), Arc::clone(&app.clock));
        let router = http::router(app, scheduler.signer.clone());
        let decided = Arc::clone(&consumer.decided);
        parts.spawn(shutdown::part("http", http::serve(http, router, stop.clone())));
        parts.spawn(shutdown::part("deliveries", scheduler.run(stop.clone())));
        parts.spawn(shutdown::part("events", consumer.run(source, stop.clone())));
        parts.spawn(shutdown::part(
            "outcomes",
            outcomes::run(store.clone(), Arc::clone(&clock), outcomes, decided, stop.clone()),
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
async fn ready(store: &Store, clock: &dyn Clock) -> Result<Signer, Failure> {
    store.ping().await.map_err(|error| Failure::Away(error.into()))?;
    store
        .migrate()
        .await
        .map_err(|error| Failure::Fatal(anyhow::Error::from(error).context("migrating")))?;
    match key(store, clock).await {
        Ok(signer) => Ok(signer),
        Err(error @ Error::Unavailable { .. }) => Err(Failure::Away(error.into())),
        Err(error) => Err(Failure::Fatal(error.into())),
    }
}

async fn key(store: &Store, clock: &dyn Clock) -> Result<Signer, Error> {
    let internal = |error: sign::SignError| Error::Internal(error.into());
    let mut db = store.connection().await?;
    let row = match signing_key::get(&mut db).await? {
        Some(row) => row,
        None => {
            info!("making the key that signs messages");
            let now = clock.now();
            let made = tokio::task::spawn_blocking(move || sign::generate(now))
                .await
                .map_err(|error| Error::Internal(error.into()))?
                .map_err(internal)?;
            signing_key::insert(&mut db, &made, now).await?;
            // Another replica may have been faster: what is kept counts.
            signing_key::get(&mut db)
                .await?
                .ok_or_else(|| Error::Internal(anyhow!("the signing key is gone").into()))?
        }
    };
    Signer::new(&row).map_err(internal)
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
