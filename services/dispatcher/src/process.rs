//! The dispatcher as a process of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use postern_proto::FILE_DESCRIPTOR_SET;
use postern_runtime::admin::{self, Admin};
use postern_runtime::clock::{Clock, SystemClock};
use postern_runtime::grpc::{self, Methods, RpcMetrics, ServeOptions};
use postern_runtime::shutdown::{self, Parts, Stop, part, supervise};
use postern_runtime::tls::{self, ClientAuth, IdentityHandle, ServerTls};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tracing::info;

use crate::config::{MigrateConfig, ProcessConfig};
use crate::consume::amqp::AmqpSource;
use crate::deliver::dial::SystemResolver;
use crate::deliver::redrive::amqp::AmqpDeadLetters;
use crate::deliver::sign::keys;
use crate::dispatcher::{Dispatcher, Surroundings};
use crate::identity;
use crate::remote::RemoteControlPlane;
use crate::store::Store;

/// Brings the schema up to date.
///
/// # Errors
/// When the database is away or a migration fails.
pub async fn migrate(config: MigrateConfig) -> anyhow::Result<()> {
    let store = Store::new(config.database_url.expose(), 2).context("POSTERN_DATABASE_URL")?;
    store.migrate().await.context("migrating")?;
    store.close().await;
    info!("the schema is up to date");
    Ok(())
}

/// Makes a new key that signs messages. The certificate of the one before stays public.
///
/// # Errors
/// When the database is away.
pub async fn rotate_signing_key(config: MigrateConfig) -> anyhow::Result<()> {
    let store = Store::new(config.database_url.expose(), 2).context("POSTERN_DATABASE_URL")?;
    let certificate = keys::rotate(&store, &config.sealing, SystemClock.now()).await?;
    store.close().await;
    info!(certificate, "another key signs messages from now on");
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Runs until a signal comes or a part fails.
///
/// # Errors
/// When it cannot start, or a part ended by itself.
pub async fn run(config: ProcessConfig) -> anyhow::Result<()> {
    tls::install_provider();
    let stop = Stop::new();
    let mut parts = Parts::new();
    let drain = config.drain;
    // The signals count from the start on, which may wait for others to come up.
    let started = tokio::select! {
        started = start(config, &mut parts, &stop) => started,
        () = shutdown::signal() => {
            stop.stop();
            Ok(())
        }
    };
    if let Err(error) = started {
        stop.stop();
        // What has started already must end before the process does; the first error is the one.
        let _ = supervise(parts, stop, drain).await;
        return Err(error);
    }
    Ok(supervise(parts, stop, drain).await?)
}

async fn start(config: ProcessConfig, parts: &mut Parts, stop: &Stop) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let admin = Admin::new("postern-dispatcher");
    // Every port first: a port that is taken is noticed before anything is waited for.
    let admin_listener = bind(config.admin_listen).await?;
    let public_listener = bind(config.listen).await?;
    let internal_listener = bind(config.internal_listen).await?;
    let http_listener = bind(config.http_listen).await?;
    let (shown, stopped) = (admin.clone(), stop.stop.clone());
    parts.spawn(part(
        "admin",
        async move { Ok(admin::serve(admin_listener, shown, stopped).await?) },
    ));

    let enrolled = admin.readiness.part("identity");
    let identity = identity::obtain(&config.enrolment, clock.as_ref(), stop).await?;
    let Some(identity) = identity else { return Ok(()) };
    let handle = IdentityHandle::new(identity);
    enrolled.ready();
    let renewing =
        identity::renew(config.enrolment.clone(), handle.clone(), Arc::clone(&clock), stop.clone());
    parts.spawn(part("identity", async move {
        let renewed = renewing.await;
        drop(enrolled);
        renewed
    }));

    let remote = RemoteControlPlane::new(&config.enrolment.control_plane, handle.clone())
        .context("POSTERN_CONTROL_PLANE")?;
    let around = Surroundings {
        identities: Arc::new(remote.clone()),
        outcomes: Arc::new(remote),
        dead_letters: Arc::new(AmqpDeadLetters::new(config.amqp_url.clone())),
        source: Box::new(AmqpSource::new(config.amqp_url).shown_in(admin.readiness.part("broker"))),
        resolver: Arc::new(SystemResolver),
        clock,
        admin: admin.clone(),
    };
    let prepared = Dispatcher::prepare(&config.dispatcher, around, stop).await?;
    let Some(dispatcher) = prepared else { return Ok(()) };

    let methods = Methods::from_descriptor_set(FILE_DESCRIPTOR_SET)?;
    let metrics = admin.register(RpcMetrics::register);
    let mut options = ServeOptions::new(metrics.clone(), methods.clone());
    if let Some((certificate, key)) = &config.tls {
        options = options.tls(ServerTls::from_pem_files(certificate, key)?);
    }
    let (topics, deliveries) = (dispatcher.topic_service(), dispatcher.delivery_service());
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("postern.v1.TopicService", tonic_health::ServingStatus::Serving)
        .await;
    health
        .set_service_status("postern.v1.DeliveryService", tonic_health::ServingStatus::Serving)
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes = Routes::new(topics)
        .add_service(deliveries)
        .add_service(health_service)
        .add_service(reflection);
    let serving = grpc::serve(public_listener, routes, options, stop.clone());
    parts.spawn(part("public API", async move { Ok(serving.await?) }));

    let options =
        ServeOptions::new(metrics, methods).tls(ServerTls::mutual(handle, ClientAuth::Required));
    let routes = Routes::new(dispatcher.access_service());
    let serving = grpc::serve(internal_listener, routes, options, stop.clone());
    parts.spawn(part("internal API", async move { Ok(serving.await?) }));

    dispatcher.spawn(http_listener, parts, stop);
    info!("started");
    Ok(())
}
