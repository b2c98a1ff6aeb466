//! The resolvers of the VPCs that this host reaches, one an attachment.
//!
//! A resolver listens at the VPC's base plus two (spec 3.4) where every address is the host's own, and
//! at the host's own address where several hosts serve one network, since only one of them could have
//! that one. A VPC without DNS support has none.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use postern_model::desired::{Attachment, AttachmentKind, HostState, Names};
use postern_model::id::{AttachmentId, VpcId};
use postern_runtime::admin::Admin;
use postern_zones::{
    Forward, ForwardConfig, Limits, Metrics, Server, Sockets, Upstreams, ZoneHandle, Zones,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::apply::namespace_path;
use crate::config::AgentConfig;

/// The resolvers of this host.
pub struct Resolvers {
    forward: Forward,
    metrics: Metrics,
    port: u16,
    suffix: String,
    stop: CancellationToken,
    running: BTreeMap<AttachmentId, Running>,
    failed: BTreeMap<AttachmentId, String>,
}

struct Running {
    attachment: Attachment,
    server: Server,
    zones: ZoneHandle,
    /// What the zones were made from, so that they are made anew only when it changes.
    names: Vec<Names>,
}

impl Resolvers {
    /// No resolvers yet.
    ///
    /// # Errors
    ///
    /// The other resolvers that are configured can't be asked.
    pub fn new(config: &AgentConfig, admin: &Admin) -> anyhow::Result<Self> {
        let upstreams = match (config.dns_forwarding, config.dns_upstreams.is_empty()) {
            (false, _) => Upstreams::None,
            (true, true) => Upstreams::System,
            (true, false) => Upstreams::Addresses(config.dns_upstreams.clone()),
        };
        let forward = match Forward::new(&ForwardConfig { upstreams, ..ForwardConfig::default() }) {
            Ok(forward) => forward,
            // The names of endpoints don't depend on anybody else.
            Err(error) if config.dns_upstreams.is_empty() => {
                warn!(%error, "names of others are refused: the machine names no resolver to ask");
                Forward::none()
            }
            Err(error) => return Err(error.into()),
        };
        // A wrong suffix must stop the start, not each resolver.
        Zones::builder(&config.dns_suffix)?;
        Ok(Self {
            forward,
            metrics: admin.register(Metrics::register),
            port: config.resolver_port,
            suffix: config.dns_suffix.clone(),
            stop: CancellationToken::new(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
        })
    }

    /// Starts, feeds and stops resolvers, so that they are what `state` says.
    pub async fn apply(&mut self, state: &HostState) {
        let wanted: BTreeMap<AttachmentId, &Attachment> = state
            .attachments()
            .filter(|attachment| attachment.dns_support)
            .map(|attachment| (attachment.id, attachment))
            .collect();
        let gone: Vec<AttachmentId> = self
            .running
            .iter()
            .filter(|(id, running)| wanted.get(id) != Some(&&running.attachment))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(running) = self.running.remove(&id) {
                let address = running.server.local_addr();
                // Replies on their way may take seconds; nobody here needs to wait for them.
                tokio::spawn(running.server.stop());
                info!(attachment = %id, %address, "resolver stopped");
            }
        }
        self.failed.retain(|id, _| wanted.contains_key(id));

        let mut names: BTreeMap<VpcId, Vec<Names>> = BTreeMap::new();
        for name in state.names() {
            names.entry(name.vpc).or_default().push(name.clone());
        }
        for (id, attachment) in wanted {
            let names = names.get(&attachment.vpc).cloned().unwrap_or_default();
            match self.running.get_mut(&id) {
                Some(running) if running.names == names => {}
                Some(running) => match zones(&self.suffix, &names) {
                    Ok(zones) => {
                        running.zones.swap(zones);
                        running.names = names;
                    }
                    Err(error) => warn!(attachment = %id, error, "the zones stay as they were"),
                },
                None => match self.start(attachment, names).await {
                    Ok(running) => {
                        info!(
                            attachment = %id,
                            vpc = %attachment.vpc,
                            address = %running.server.local_addr(),
                            "resolver started"
                        );
                        self.failed.remove(&id);
                        self.running.insert(id, running);
                    }
                    Err(error) => {
                        if self.failed.get(&id) != Some(&error) {
                            warn!(attachment = %id, vpc = %attachment.vpc, error, "no resolver");
                        }
                        self.failed.insert(id, error);
                    }
                },
            }
        }
    }

    async fn start(&self, attachment: &Attachment, names: Vec<Names>) -> Result<Running, String> {
        let address = match &attachment.kind {
            AttachmentKind::Interface { address } => *address,
            AttachmentKind::Loopback | AttachmentKind::Namespace { .. } => {
                attachment.cidr.resolver()
            }
        };
        let address = SocketAddr::new(IpAddr::V4(address), self.port);
        let namespace = match &attachment.kind {
            AttachmentKind::Namespace { name } => Some(namespace_path(name)),
            AttachmentKind::Loopback | AttachmentKind::Interface { .. } => None,
        };
        let opened = tokio::task::spawn_blocking(move || open(address, namespace)).await;
        let sockets = opened.map_err(|error| error.to_string())??;
        let zones = ZoneHandle::new(zones(&self.suffix, &names)?);
        let server = Server::start(
            sockets,
            zones.clone(),
            self.forward.clone(),
            Limits::default(),
            self.metrics.clone(),
            &self.stop,
        )
        .map_err(|error| error.to_string())?;
        Ok(Running { attachment: attachment.clone(), server, zones, names })
    }

    /// Whether a resolver could not be started.
    pub fn wants_retry(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Where each resolver listens, or why it doesn't.
    pub fn statuses(&self) -> Vec<(AttachmentId, Result<SocketAddr, String>)> {
        let running =
            self.running.iter().map(|(id, running)| (*id, Ok(running.server.local_addr())));
        let failed = self.failed.iter().map(|(id, error)| (*id, Err(error.clone())));
        running.chain(failed).collect()
    }

    /// Stops them all, and waits until they have.
    pub async fn stop_all(&mut self) {
        self.stop.cancel();
        for (_, running) in std::mem::take(&mut self.running) {
            running.server.stop().await;
        }
    }
}

/// The zones of these names. A record that can't be is left out, with a word in the log: it takes no
/// other name away.
fn zones(suffix: &str, names: &[Names]) -> Result<Zones, String> {
    let mut builder = Zones::builder(suffix).map_err(|refused| refused.to_string())?;
    for names in names {
        for refused in builder.names(names) {
            warn!(endpoint = %names.endpoint, %refused, "a record is left out");
        }
    }
    Ok(builder.build())
}

/// Opens the sockets, inside a namespace where there is one: they stay in it.
fn open(address: SocketAddr, namespace: Option<PathBuf>) -> Result<Sockets, String> {
    let failed = move |error: std::io::Error| format!("opening {address}: {error}");
    let Some(path) = namespace else { return Sockets::bind(address).map_err(failed) };
    // A thread of its own: one that has entered a namespace must serve nobody else.
    let opening = std::thread::spawn(move || {
        enter(&path).map_err(|error| format!("entering {}: {error}", path.display()))?;
        Sockets::bind(address).map_err(failed)
    });
    opening.join().unwrap_or_else(|_| Err("the thread that opens sockets failed".to_owned()))
}

fn enter(path: &Path) -> std::io::Result<()> {
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET).map_err(Into::into)
}
