//! The dispatcher's identity towards other services: enrolled with the join token, kept on disk,
//! renewed at two thirds of its life.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use postern_proto::agent::v1::EnrolRequest;
use postern_proto::agent::v1::enrolment_service_client::EnrolmentServiceClient;
use postern_runtime::backoff::Backoff;
use postern_runtime::clock::Clock;
use postern_runtime::config::Secret;
use postern_runtime::shutdown::Stop;
use postern_runtime::tls::{ClientTls, Identity, IdentityHandle, SpiffeId};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// The control plane, as its certificate names it.
pub const CONTROL_PLANE: &str = "control-plane";
/// The dispatcher, as its certificate names it.
pub const DISPATCHER: &str = "dispatcher";

/// For one enrolment.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRIES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// How to enrol.
#[derive(Clone, Debug)]
pub struct EnrolmentConfig {
    /// The control plane's internal port, `host:port`.
    pub control_plane: String,
    /// The certificate of the control plane's authority, PEM: whom to trust before the first
    /// identity is there.
    pub ca_file: PathBuf,
    /// What entitles to an identity.
    pub join_token: Option<Secret>,
    /// Where the identity is kept.
    pub dir: PathBuf,
}

/// The identity on disk, or a new one. Tries until it has one: the control plane may come up later.
/// `None` when asked to stop before.
///
/// # Errors
/// When the disk fails, or what is on it is no identity.
pub async fn obtain(
    config: &EnrolmentConfig,
    clock: &dyn Clock,
    stop: &Stop,
) -> anyhow::Result<Option<Identity>> {
    if let Some(identity) = Identity::load(&config.dir)?
        && identity.not_after() > clock.now()
    {
        return Ok(Some(identity));
    }
    let mut delays = RETRIES.delays(crate::randomness());
    loop {
        match first(config).await {
            Ok(identity) => {
                identity.save(&config.dir)?;
                info!(spiffe = %identity.spiffe(), "enrolled");
                return Ok(Some(identity));
            }
            Err(error) => warn!(error = format!("{error:#}"), "enrolment failed, trying again"),
        }
        tokio::select! {
            () = sleep(delays.next().unwrap_or(RETRIES.max)) => {}
            () = stop.stopped() => return Ok(None),
        }
    }
}

async fn first(config: &EnrolmentConfig) -> anyhow::Result<Identity> {
    if config.join_token.is_none() {
        bail!("there is no identity yet, and POSTERN_JOIN_TOKEN is not set");
    }
    let ca_pem = tokio::fs::read_to_string(&config.ca_file)
        .await
        .with_context(|| format!("reading {}", config.ca_file.display()))?;
    ask(config, &ClientTls::anonymous(&ca_pem, SpiffeId::service(CONTROL_PLANE)?)?).await
}

/// Keeps the identity fresh until asked to stop.
///
/// # Errors
/// When the disk fails.
pub async fn renew(
    config: EnrolmentConfig,
    handle: IdentityHandle,
    clock: std::sync::Arc<dyn Clock>,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut delays = RETRIES.delays(crate::randomness());
    let mut failed = Duration::ZERO;
    loop {
        let due = handle.current().renew_at() - clock.now();
        tokio::select! {
            () = sleep(due.to_std().unwrap_or_default().max(failed)) => {}
            () = stop.stopped() => return Ok(()),
        }
        let tls = ClientTls::mutual(handle.clone(), SpiffeId::service(CONTROL_PLANE)?);
        match ask(&config, &tls).await {
            Ok(identity) => {
                identity.save(&config.dir).context("keeping the renewed identity")?;
                info!(not_after = %identity.not_after(), "identity renewed");
                handle.replace(identity);
                delays.reset();
                failed = Duration::ZERO;
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), "renewal failed, trying again");
                failed = delays.next().unwrap_or(RETRIES.max);
            }
        }
    }
}

async fn ask(config: &EnrolmentConfig, tls: &ClientTls) -> anyhow::Result<Identity> {
    let key = Identity::generate_csr(&SpiffeId::service(DISPATCHER)?)?;
    let mut client = EnrolmentServiceClient::new(tls.channel(&config.control_plane)?);
    let token = config.join_token.as_ref().map(|token| token.expose().to_owned());
    let mut request = tonic::Request::new(EnrolRequest {
        host_name: String::new(),
        availability_zone_id: String::new(),
        join_token: token.unwrap_or_default(),
        certificate_signing_request: key.csr_pem,
        service_name: DISPATCHER.to_owned(),
    });
    request.set_timeout(PATIENCE);
    let answer = timeout(PATIENCE, client.enrol(request))
        .await
        .context("the control plane does not answer")?
        .map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()))?
        .into_inner();
    Ok(Identity::new(answer.certificate, key.key_pem, answer.authority)?)
}
