//! The host's identity: enrolled with the join token, kept on disk, renewed at two thirds of its life.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::Utc;
use postern_proto::agent::v1::EnrolRequest;
use postern_proto::agent::v1::enrolment_service_client::EnrolmentServiceClient;
use postern_runtime::backoff::Backoff;
use postern_runtime::config::Secret;
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::{ClientTls, Identity, IdentityHandle, SpiffeId};
use tracing::{info, warn};

use crate::config::AgentConfig;

/// The service that hosts talk to, as its certificate names it.
pub const CONTROL_PLANE: &str = "control-plane";

/// How long one enrolment may take.
const TIMEOUT: Duration = Duration::from_secs(10);

fn retries() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(10))
}

/// What the control plane's certificate must say.
pub fn control_plane() -> anyhow::Result<SpiffeId> {
    Ok(SpiffeId::service(CONTROL_PLANE)?)
}

/// The identity on disk, or a new one. Tries until it has one: the control plane may come up later
/// than its hosts. `None` when asked to stop before.
///
/// # Errors
///
/// The disk fails, or what is on it is no identity.
pub async fn identity(config: &AgentConfig, stop: &Stop) -> anyhow::Result<Option<Identity>> {
    let dir = config.state_dir.join("identity");
    if let Some(identity) = Identity::load(&dir)?
        && identity.not_after() > Utc::now()
    {
        return Ok(Some(identity));
    }
    let mut attempt = 0;
    loop {
        match enrol(config).await {
            Ok(identity) => {
                identity.save(&dir)?;
                info!(spiffe = %identity.spiffe().as_str(), "enrolled");
                return Ok(Some(identity));
            }
            Err(error) => warn!(error = format!("{error:#}"), "enrolment failed, trying again"),
        }
        let delay = retries().delay(attempt, &mut rand::rng());
        attempt = attempt.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.stopped() => return Ok(None),
        }
    }
}

async fn enrol(config: &AgentConfig) -> anyhow::Result<Identity> {
    let Some(token) = &config.join_token else {
        bail!("this host has no identity yet, and POSTERN_JOIN_TOKEN is not set");
    };
    let ca_pem = tokio::fs::read_to_string(&config.ca_file)
        .await
        .with_context(|| format!("reading {}", config.ca_file.display()))?;
    let tls = ClientTls::anonymous(&ca_pem, control_plane()?)?;
    ask(config, &tls, Some(token)).await
}

/// Keeps the identity fresh until asked to stop.
///
/// # Errors
///
/// The disk fails.
pub async fn renew(config: AgentConfig, handle: IdentityHandle, stop: Stop) -> anyhow::Result<()> {
    let dir = config.state_dir.join("identity");
    let mut attempt = 0;
    loop {
        let due = handle.current().renew_at() - Utc::now();
        let mut wait = due.to_std().unwrap_or_default();
        if attempt > 0 {
            wait = wait.max(retries().delay(attempt, &mut rand::rng()));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.stopped() => return Ok(()),
        }
        let tls = ClientTls::mutual(handle.clone(), control_plane()?);
        match ask(&config, &tls, config.join_token.as_ref()).await {
            Ok(identity) => {
                save(&identity, &dir)?;
                info!(not_after = %identity.not_after(), "identity renewed");
                handle.replace(identity);
                attempt = 0;
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), "renewal failed, trying again");
                attempt = attempt.saturating_add(1);
            }
        }
    }
}

fn save(identity: &Identity, dir: &Path) -> anyhow::Result<()> {
    identity.save(dir).context("keeping the renewed identity")
}

async fn ask(
    config: &AgentConfig,
    tls: &ClientTls,
    token: Option<&Secret>,
) -> anyhow::Result<Identity> {
    // Only the public key of the request counts: the name in it is the control plane's to give.
    let key = Identity::generate_csr(&SpiffeId::host("enrolling")?)?;
    let mut client = EnrolmentServiceClient::new(tls.channel(&config.control_plane)?);
    let mut request = tonic::Request::new(EnrolRequest {
        host_name: config.host_name.clone(),
        availability_zone_id: config.zone.to_string(),
        join_token: token.map(|token| token.expose().to_owned()).unwrap_or_default(),
        certificate_signing_request: key.csr_pem,
        service_name: String::new(),
    });
    request.set_timeout(TIMEOUT);
    let answer = tokio::time::timeout(TIMEOUT, client.enrol(request))
        .await
        .context("the control plane does not answer")?
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
        .into_inner();
    Ok(Identity::new(answer.certificate, key.key_pem, answer.authority)?)
}
