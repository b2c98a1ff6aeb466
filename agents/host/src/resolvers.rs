//! The resolvers of the VPCs that this host reaches, one an attachment.
//!
//! A resolver listens at the VPC's base plus two (spec 3.4) where every address is the host's own, and
//! at the host's own address where several hosts serve one network, since only one of them could have
//! that one. A VPC without DNS support has none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use postern_model::desired::{Attachment, AttachmentKind, HostState, Key, Names, Object};
use postern_model::id::{AttachmentId, EndpointId, VpcId};
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
    /// The attachment of each VPC with a resolver.
    of_vpc: BTreeMap<VpcId, AttachmentId>,
    names: BTreeMap<VpcId, BTreeMap<EndpointId, Names>>,
    /// Those whose status is another one than was last taken ([`Resolvers::take_news`]).
    news: BTreeSet<AttachmentId>,
}

struct Running {
    attachment: Attachment,
    server: Server,
    zones: ZoneHandle,
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
            metrics: admin.register(|registry| {
                Metrics::register(registry.sub_registry_with_prefix("postern_agent_dns"))
            }),
            port: config.resolver_port,
            suffix: config.dns_suffix.clone(),
            stop: CancellationToken::new(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            of_vpc: BTreeMap::new(),
            names: BTreeMap::new(),
            news: BTreeSet::new(),
        })
    }

    /// Starts, feeds and stops resolvers, so that they are what `state` says of these objects. The
    /// zones of a VPC are made anew when one of its names changes: they are as many as its endpoints,
    /// which a quota bounds, however many VPCs the host reaches.
    pub async fn touch(&mut self, state: &HostState, keys: &BTreeSet<Key>) {
        let mut stale = BTreeSet::new();
        for key in keys {
            if let Key::Names(vpc, endpoint) = *key {
                let of_vpc = self.names.entry(vpc).or_default();
                let changed = match state.get(key) {
                    Some(Object::Names(names)) => {
                        of_vpc.insert(endpoint, names.clone()).as_ref() != Some(names)
                    }
                    _ => of_vpc.remove(&endpoint).is_some(),
                };
                if of_vpc.is_empty() {
                    self.names.remove(&vpc);
                }
                if changed {
                    stale.insert(vpc);
                }
            }
        }
        let attachments = keys.iter().filter_map(|key| match key {
            Key::Attachment(id) => Some((*id, state.get(key))),
            _ => None,
        });
        // What goes is first: what comes may want its port.
        let (mut gone, mut wanted) = (Vec::new(), Vec::new());
        for (id, object) in attachments {
            match object {
                Some(Object::Attachment(attachment)) if attachment.dns_support => {
                    let running = self.running.get(&id);
                    if running.is_none_or(|running| running.attachment != *attachment) {
                        gone.push(id);
                        wanted.push(attachment.clone());
                    }
                }
                _ => gone.push(id),
            }
        }
        for id in gone {
            self.stop(id);
        }
        for vpc in stale {
            self.feed(vpc);
        }
        for attachment in wanted {
            self.attach(attachment).await;
        }
    }

    /// Tries again to start what could not be started.
    pub async fn retry(&mut self, state: &HostState) {
        let failed: Vec<_> = self.failed.keys().copied().collect();
        for id in failed {
            if let Some(Object::Attachment(attachment)) = state.get(&Key::Attachment(id)) {
                self.attach(attachment.clone()).await;
            }
        }
    }

    fn stop(&mut self, id: AttachmentId) {
        self.of_vpc.retain(|_, of| *of != id);
        if self.failed.remove(&id).is_some() {
            self.news.insert(id);
        }
        if let Some(running) = self.running.remove(&id) {
            let address = running.server.local_addr();
            // Replies on their way may take seconds; nobody here needs to wait for them.
            tokio::spawn(running.server.stop());
            self.news.insert(id);
            info!(attachment = %id, %address, "resolver stopped");
        }
    }

    /// Gives the resolver of a VPC its names as they are now.
    fn feed(&self, vpc: VpcId) {
        let Some(id) = self.of_vpc.get(&vpc) else { return };
        let Some(running) = self.running.get(id) else { return };
        match self.zones(vpc) {
            Ok(zones) => drop(running.zones.swap(zones)),
            Err(error) => warn!(attachment = %id, error, "the zones stay as they were"),
        }
    }

    async fn attach(&mut self, attachment: Attachment) {
        let (id, vpc) = (attachment.id, attachment.vpc);
        self.of_vpc.insert(vpc, id);
        match self.start(attachment).await {
            Ok(running) => {
                let address = running.server.local_addr();
                info!(attachment = %id, %vpc, %address, "resolver started");
                self.failed.remove(&id);
                self.running.insert(id, running);
                self.news.insert(id);
            }
            Err(error) => {
                if self.failed.get(&id) != Some(&error) {
                    warn!(attachment = %id, %vpc, error, "no resolver");
                    self.news.insert(id);
                }
                self.failed.insert(id, error);
            }
        }
    }

    /// The zones of a VPC's names. A record that can't be is left out, with a word in the log: it
    /// takes no other name away.
    fn zones(&self, vpc: VpcId) -> Result<Zones, String> {
        let mut builder = Zones::builder(&self.suffix).map_err(|refused| refused.to_string())?;
        for names in self.names.get(&vpc).into_iter().flat_map(BTreeMap::values) {
            for refused in builder.names(names) {
                warn!(endpoint = %names.endpoint, %refused, "a record is left out");
            }
        }
        Ok(builder.build())
    }

    async fn start(&self, attachment: Attachment) -> Result<Running, String> {
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
        let zones = ZoneHandle::new(self.zones(attachment.vpc)?);
        let server = Server::start(
            sockets,
            zones.clone(),
            self.forward.clone(),
            Limits::default(),
            self.metrics.clone(),
            &self.stop,
        )
        .map_err(|error| error.to_string())?;
        Ok(Running { attachment, server, zones })
    }

    /// Whether a resolver could not be started.
    pub fn wants_retry(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Every attachment with a resolver that runs or should, and every one that has news.
    pub fn ids(&self) -> BTreeSet<AttachmentId> {
        self.running.keys().chain(self.failed.keys()).chain(&self.news).copied().collect()
    }

    /// Those whose status changed since this was last asked.
    pub fn take_news(&mut self) -> BTreeSet<AttachmentId> {
        std::mem::take(&mut self.news)
    }

    /// Where a resolver listens, or why it doesn't; `None` where there is none.
    pub fn status(&self, id: AttachmentId) -> Option<Result<SocketAddr, String>> {
        let running = self.running.get(&id).map(|running| Ok(running.server.local_addr()));
        running.or_else(|| self.failed.get(&id).map(|error| Err(error.clone())))
    }

    /// The VPCs and endpoints that names are known of.
    pub fn known_names(&self) -> impl Iterator<Item = Key> {
        self.names
            .iter()
            .flat_map(|(vpc, names)| names.keys().map(|endpoint| Key::Names(*vpc, *endpoint)))
    }

    /// Stops them all, and waits until they have.
    pub async fn stop_all(&mut self) {
        self.stop.cancel();
        for (_, running) in std::mem::take(&mut self.running) {
            running.server.stop().await;
        }
    }
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
