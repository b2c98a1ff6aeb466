//! The agent as one thing to run, alone in its process or composed with the other parts.

use std::collections::HashMap;
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
/// It is ready when it is enrolled and a state of the control plane's is in effect: the first that it
/// was sent, or the one on disk. With the control plane away it goes on with that, and is ready: traffic
/// doesn't need the control plane (design 5). How far behind it is, its metrics say.
///
/// # Errors
///
/// The disk or the machine doesn't allow it to start. Once it runs, nothing ends it but `stop`.
pub async fn run(config: AgentConfig, admin: &Admin, stop: Stop) -> anyhow::Result<()> {
    let (enrolled, in_effect) = (admin.readiness.part("identity"), admin.readiness.part("state"));
    enrolled.not_ready("the host is not enrolled yet");
    in_effect.not_ready("the control plane has not sent a state yet");
    let (held, state) = Held::open(&config.state_dir)
        .with_context(|| format!("opening the state in {}", config.state_dir.display()))?;

    let metrics = admin.register(Metrics::register);
    let datapath = Arc::new(
        Datapath::start(postern_datapath::Config {
            workers: config.workers,
            metrics: admin.register(|registry| {
                let registry = registry.sub_registry_with_prefix("postern_agent_forward");
                postern_datapath::Metrics::register(registry)
            }),
            ..postern_datapath::Config::default()
        })
        .context("starting the forwarder")?,
    );
    let addresses = Addresses::new(&config.state_dir)?;
    let resolvers = Resolvers::new(&config, admin)?;
    let mut applier = Applier::new(Arc::clone(&datapath), addresses, resolvers, metrics.clone());
    applier.apply(&state).await;
    info!(generation = state.generation, "the state on disk is in effect");
    if state.generation > 0 {
        in_effect.ready();
    }

    let Some(identity) = enrol::identity(&config, &stop).await? else {
        applier.shut_down(Duration::ZERO).await;
        return Ok(());
    };
    enrolled.ready();
    let identity = IdentityHandle::new(identity);
    let renewal = tokio::spawn(enrol::renew(config.clone(), identity.clone(), stop.clone()));
    let boot_id = Uuid::new_v4();
    let session = Session {
        config,
        identity,
        held,
        state,
        applier,
        datapath,
        metrics,
        boot_id,
        in_effect,
        usage: HashMap::new(),
    };
    session.run(stop).await?;
    renewal.await.context("renewing the identity")?
}
