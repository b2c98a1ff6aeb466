//! The agent as one thing to run, alone in its process or composed with the other parts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use postern_datapath::Datapath;
use postern_runtime::admin::Admin;
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::IdentityHandle;
use tracing::info;
use uuid::Uuid;

use crate::addresses::Addresses;
use crate::apply::Applier;
use crate::config::AgentConfig;
use crate::enrol;
use crate::held::Held;
use crate::metrics::Metrics;
use crate::resolvers::Resolvers;
use crate::session::Session;

/// Runs the agent until asked to stop: applies the state on disk, so that endpoints work before
/// anybody answers, then follows the control plane.
///
/// # Errors
///
/// The disk or the machine doesn't allow it to start. Once it runs, nothing ends it but `stop`.
pub async fn run(config: AgentConfig, admin: &Admin, stop: Stop) -> anyhow::Result<()> {
    let ready = admin.readiness.part("state");
    let held = Held::new(&config.state_dir)
        .with_context(|| format!("opening {}", config.state_dir.display()))?;
    let state = held.load().context("reading the state on disk")?;

    let metrics = admin.register(Metrics::register);
    let datapath = Arc::new(
        Datapath::start(postern_datapath::Config {
            workers: config.workers,
            metrics: admin.register(postern_datapath::Metrics::register),
            ..postern_datapath::Config::default()
        })
        .context("starting the forwarder")?,
    );
    let addresses = Addresses::new(config.state_dir.join("addresses.json"))?;
    let resolvers = Resolvers::new(&config, admin)?;
    let mut applier = Applier::new(Arc::clone(&datapath), addresses, resolvers, metrics.clone());
    applier.apply(&state).await;
    info!(generation = state.generation, "the state on disk is in effect");
    ready.ready();

    let Some(identity) = enrol::identity(&config, &stop).await? else {
        applier.shut_down(Duration::ZERO).await;
        return Ok(());
    };
    let identity = IdentityHandle::new(identity);
    let renewal = tokio::spawn(enrol::renew(config.clone(), identity.clone(), stop.clone()));
    let boot_id = Uuid::new_v4();
    let session = Session { config, identity, held, state, applier, datapath, metrics, boot_id };
    session.run(stop).await?;
    renewal.await.context("renewing the identity")?
}
