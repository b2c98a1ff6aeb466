//! Makes the host do what a state says: resolvers, addresses, interfaces, in that order.
//!
//! Applying goes by the keys of objects: all of them after a start or a snapshot, those that a change
//! is about, those that failed before. For each it compares the state with what is there, so that these
//! three are one path, and a change costs what it touches, whatever else the host holds. What stands on
//! an attachment is touched with it. What can't be done is reported for each interface and tried again;
//! the rest is done all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_datapath::{CutReason, Datapath, InterfaceSpec, Listener, Place};
use postern_model::desired::{Attachment, AttachmentKind, HostState, Interface, Key, Object};
use postern_model::id::{AttachmentId, NetworkInterfaceId, VpcId};
use postern_proto::agent::v1;
use tracing::{info, warn};

use crate::addresses::Addresses;
use crate::metrics::Metrics;
use crate::resolvers::Resolvers;

/// Whether an interface is bound, as the control plane hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The ownership epoch that this is about.
    pub epoch: i64,
    /// Why it is not bound; `None` when it is.
    pub error: Option<String>,
}

/// Applies states to this host.
pub struct Applier {
    datapath: Arc<Datapath>,
    addresses: Addresses,
    resolvers: Resolvers,
    metrics: Metrics,
    attachments: BTreeMap<AttachmentId, Attachment>,
    of_vpc: BTreeMap<VpcId, AttachmentId>,
    interfaces: BTreeMap<NetworkInterfaceId, Known>,
    /// The interfaces that lie in a VPC or dial into it.
    users: BTreeMap<VpcId, BTreeSet<NetworkInterfaceId>>,
    /// How many interfaces have an address: namespaces may have the same.
    at: BTreeMap<Ipv4Addr, usize>,
    /// Interfaces that could not be bound.
    failed: BTreeSet<NetworkInterfaceId>,
    /// Addresses that the agent added and that may be nobody's any more.
    stray: BTreeSet<Ipv4Addr>,
    /// Interfaces whose status is another one than the control plane was told last.
    news: BTreeSet<NetworkInterfaceId>,
}

/// An interface that the host should have.
struct Known {
    interface: Interface,
    /// What the datapath has of it.
    spec: Option<InterfaceSpec>,
    status: Status,
}

/// What the control plane is to be told, on the wire.
pub struct News {
    /// Interfaces, bound or not.
    pub interfaces: Vec<v1::InterfaceStatus>,
    /// Where resolvers listen.
    pub resolvers: Vec<v1::ResolverStatus>,
}

impl Applier {
    /// An applier to a host where nothing is applied yet.
    pub fn new(
        datapath: Arc<Datapath>,
        addresses: Addresses,
        resolvers: Resolvers,
        metrics: Metrics,
    ) -> Self {
        let stray = addresses.added().collect();
        Self {
            datapath,
            addresses,
            resolvers,
            metrics,
            attachments: BTreeMap::new(),
            of_vpc: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            users: BTreeMap::new(),
            at: BTreeMap::new(),
            failed: BTreeSet::new(),
            stray,
            news: BTreeSet::new(),
        }
    }

    /// Makes the host do what `state` says, all of it.
    pub async fn apply(&mut self, state: &HostState) {
        self.addresses.forget_list();
        self.stray.extend(self.addresses.added());
        let attachments = self.attachments.keys().map(|id| Key::Attachment(*id));
        let interfaces = self.interfaces.keys().map(|id| Key::Interface(*id));
        let known = attachments.chain(interfaces).chain(self.resolvers.known_names());
        let keys = state.keys().chain(known).collect();
        self.touch(state, keys).await;
    }

    /// Makes the host do what `state` says of these objects and of what stands on them.
    ///
    /// Names come first: what is withdrawn must stop resolving before its address stops answering, and
    /// what is new is published only once it was seen to answer (design 6), which is a later state.
    pub async fn touch(&mut self, state: &HostState, mut keys: BTreeSet<Key>) {
        self.add_dependents(state, &mut keys);
        self.metrics.objects_touched.inc_by(keys.len() as u64);
        self.resolvers.touch(state, &keys).await;

        let mut wanted = Vec::new();
        for key in &keys {
            match (key, state.get(key)) {
                (Key::Attachment(id), object) => self.know_attachment(*id, object),
                (Key::Interface(_), Some(Object::Interface(interface))) => wanted.push(interface),
                (Key::Interface(id), _) => self.remove(*id).await,
                (Key::Names(..), _) => {}
            }
        }
        for interface in &wanted {
            self.know(interface);
        }
        self.forget_stray_addresses().await;
        for interface in wanted {
            let result = self.bind(interface).await;
            self.note(interface, result.err());
        }

        self.metrics.interfaces_failed.set(gauge(self.failed.len()));
        self.metrics.interfaces_bound.set(gauge(self.interfaces.len() - self.failed.len()));
        self.metrics.generation.set(state.generation);
    }

    /// Tries again what could not be done.
    pub async fn retry(&mut self, state: &HostState) {
        if !self.wants_retry() {
            return;
        }
        self.addresses.forget_list();
        self.resolvers.retry(state).await;
        let keys = self.failed.iter().map(|id| Key::Interface(*id)).collect();
        self.touch(state, keys).await;
    }

    /// Whether something could not be done, so that trying again may help.
    pub fn wants_retry(&self) -> bool {
        !self.failed.is_empty() || !self.stray.is_empty() || self.resolvers.wants_retry()
    }

    /// The status of everything, which the control plane is told.
    pub fn tell_all(&mut self) -> News {
        self.news = self.interfaces.keys().copied().collect();
        let resolvers = self.resolvers.ids();
        self.resolvers.take_news();
        News { interfaces: self.take_news(), resolvers: self.resolvers_to_wire(resolvers) }
    }

    /// The status of the interfaces among `keys` that are there, and what else is news.
    pub fn tell(&mut self, keys: &BTreeSet<Key>) -> News {
        for key in keys {
            if let Key::Interface(id) = key {
                self.news.insert(*id);
            }
        }
        let resolvers = self.resolvers.take_news();
        News { interfaces: self.take_news(), resolvers: self.resolvers_to_wire(resolvers) }
    }

    /// Interfaces whose status changed since they were last told.
    pub fn take_news(&mut self) -> Vec<v1::InterfaceStatus> {
        let news = std::mem::take(&mut self.news);
        let known = news.iter().filter_map(|id| Some((id, self.interfaces.get(id)?)));
        known.map(|(id, known)| to_wire(*id, &known.status)).collect()
    }

    /// Takes back what was not told after all.
    pub fn untold(&mut self, interfaces: &[v1::InterfaceStatus]) {
        for one in interfaces {
            if let Ok(id) = one.network_interface_id.parse::<NetworkInterfaceId>() {
                self.news.insert(id);
            }
        }
    }

    fn resolvers_to_wire(&self, ids: BTreeSet<AttachmentId>) -> Vec<v1::ResolverStatus> {
        ids.into_iter().map(|id| resolver_to_wire(id, self.resolvers.status(id))).collect()
    }

    /// Ends everything: no connection is taken any more, those open have until `drain` to finish. The
    /// addresses stay, so that a restart finds them; they go with the interfaces.
    pub async fn shut_down(&mut self, drain: Duration) {
        self.resolvers.stop_all().await;
        let datapath = Arc::clone(&self.datapath);
        match tokio::task::spawn_blocking(move || datapath.shutdown(drain)).await {
            Ok(cut) if cut > 0 => info!(cut, "connections were still open at the drain deadline"),
            Ok(_) => {}
            Err(error) => warn!(%error, "the datapath did not shut down"),
        }
    }

    /// With an attachment, the interfaces that stand on it are touched.
    fn add_dependents(&self, state: &HostState, keys: &mut BTreeSet<Key>) {
        let mut vpcs = BTreeSet::new();
        for key in &*keys {
            if let Key::Attachment(id) = key {
                vpcs.extend(self.attachments.get(id).map(|attachment| attachment.vpc));
                if let Some(Object::Attachment(attachment)) = state.get(key) {
                    vpcs.insert(attachment.vpc);
                }
            }
        }
        for id in vpcs.iter().filter_map(|vpc| self.users.get(vpc)).flatten() {
            keys.insert(Key::Interface(*id));
        }
    }

    fn know_attachment(&mut self, id: AttachmentId, object: Option<&Object>) {
        if let Some(before) = self.attachments.remove(&id)
            && self.of_vpc.get(&before.vpc) == Some(&id)
        {
            self.of_vpc.remove(&before.vpc);
        }
        if let Some(Object::Attachment(attachment)) = object {
            self.of_vpc.insert(attachment.vpc, id);
            self.attachments.insert(id, attachment.clone());
        }
    }

    fn attachment(&self, vpc: VpcId) -> Option<&Attachment> {
        self.attachments.get(self.of_vpc.get(&vpc)?)
    }

    /// Takes an interface in, as it should be; whether it is bound is seen later.
    fn know(&mut self, interface: &Interface) {
        let before = self.forget(interface.id);
        for vpc in [interface.vpc, interface.target_vpc] {
            self.users.entry(vpc).or_default().insert(interface.id);
        }
        *self.at.entry(interface.address).or_default() += 1;
        let known = match before {
            Some(before) => Known { interface: interface.clone(), ..before },
            None => Known {
                interface: interface.clone(),
                spec: None,
                status: Status { epoch: interface.epoch, error: None },
            },
        };
        self.interfaces.insert(interface.id, known);
    }

    fn forget(&mut self, id: NetworkInterfaceId) -> Option<Known> {
        let known = self.interfaces.remove(&id)?;
        let Interface { vpc, target_vpc, address, .. } = &known.interface;
        for vpc in [vpc, target_vpc] {
            if let Some(users) = self.users.get_mut(vpc) {
                users.remove(&id);
                if users.is_empty() {
                    self.users.remove(vpc);
                }
            }
        }
        if let Some(count) = self.at.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                self.at.remove(address);
            }
        }
        if self.addresses.has_added(*address) {
            self.stray.insert(*address);
        }
        Some(known)
    }

    fn note(&mut self, interface: &Interface, error: Option<String>) {
        let id = interface.id;
        let Some(known) = self.interfaces.get_mut(&id) else { return };
        match &error {
            Some(error) => {
                if known.status.error.as_ref() != Some(error) {
                    warn!(interface = %id, address = %interface.address, error, "not bound");
                }
                self.failed.insert(id);
            }
            None => {
                self.failed.remove(&id);
            }
        }
        let status = Status { epoch: interface.epoch, error };
        if known.status != status {
            known.status = status;
            self.news.insert(id);
        }
    }

    async fn bind(&mut self, interface: &Interface) -> Result<(), String> {
        let attachment = self
            .attachment(interface.vpc)
            .ok_or_else(|| format!("this host has no attachment of {}", interface.vpc))?;
        let target = self.attachment(interface.target_vpc).ok_or_else(|| {
            format!("this host has no attachment of the service's {}", interface.target_vpc)
        })?;
        let spec = spec(interface, attachment, target);
        if let AttachmentKind::Interface { address } = attachment.kind {
            self.addresses
                .ensure(address, interface.address)
                .await
                .map_err(|error| error.to_string())?;
        }
        let known = self.interfaces.get(&interface.id);
        if known
            .is_some_and(|known| known.spec.as_ref() == Some(&spec) && known.status.error.is_none())
        {
            return Ok(());
        }
        let datapath = Arc::clone(&self.datapath);
        let applied = {
            let spec = spec.clone();
            tokio::task::spawn_blocking(move || datapath.apply(spec)).await
        };
        match applied {
            Ok(Ok(bound)) => {
                info!(
                    interface = %interface.id,
                    endpoint = %interface.endpoint,
                    address = %bound.address,
                    ports = ?bound.ports,
                    serving = interface.serving,
                    "bound"
                );
                if let Some(known) = self.interfaces.get_mut(&interface.id) {
                    known.spec = Some(spec);
                }
                Ok(())
            }
            Ok(Err(failure)) => Err(chain(&failure)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn remove(&mut self, id: NetworkInterfaceId) {
        self.failed.remove(&id);
        self.news.remove(&id);
        let Some(known) = self.forget(id) else { return };
        if known.spec.is_none() {
            return;
        }
        let datapath = Arc::clone(&self.datapath);
        let removed =
            tokio::task::spawn_blocking(move || datapath.remove(id, CutReason::Policy)).await;
        if let Err(error) = removed {
            warn!(interface = %id, %error, "the datapath did not let go of the interface");
        }
        info!(interface = %id, address = %known.interface.address, "removed");
    }

    /// Takes away each address that the agent once added and that no interface has now: those of
    /// interfaces just removed, and those of a state that a crash cut short.
    async fn forget_stray_addresses(&mut self) {
        for address in std::mem::take(&mut self.stray) {
            if self.at.contains_key(&address) {
                continue;
            }
            if let Err(error) = self.addresses.remove(address).await {
                warn!(%address, %error, "the address could not be removed");
                self.stray.insert(address);
            }
        }
    }
}

fn spec(interface: &Interface, attachment: &Attachment, target: &Attachment) -> InterfaceSpec {
    InterfaceSpec {
        id: interface.id,
        endpoint_id: interface.endpoint,
        address: interface.address,
        place: place(&attachment.kind),
        listeners: interface
            .listeners
            .iter()
            .map(|listener| Listener { port: listener.port, targets: listener.targets.clone() })
            .collect(),
        ingress: interface.ingress.clone(),
        serving: interface.serving,
        idle_timeout: Duration::from_secs(u64::from(interface.idle_timeout_seconds)),
        proxy_protocol: interface.proxy_protocol_v2,
        target_place: place(&target.kind),
        target_source: match &target.kind {
            AttachmentKind::Interface { address } => Some(*address),
            AttachmentKind::Loopback | AttachmentKind::Namespace { .. } => None,
        },
    }
}

fn place(kind: &AttachmentKind) -> Place {
    match kind {
        AttachmentKind::Loopback | AttachmentKind::Interface { .. } => Place::Host,
        AttachmentKind::Namespace { name } => Place::Namespace(namespace_path(name)),
    }
}

/// The path of a namespace given by name, as `ip netns` has it, or by path.
pub fn namespace_path(name: &str) -> PathBuf {
    if name.contains('/') { PathBuf::from(name) } else { PathBuf::from("/run/netns").join(name) }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// An interface's status for the wire.
fn to_wire(id: NetworkInterfaceId, status: &Status) -> v1::InterfaceStatus {
    v1::InterfaceStatus {
        network_interface_id: id.to_string(),
        epoch: status.epoch,
        bound: status.error.is_none(),
        error: status.error.clone().unwrap_or_default(),
    }
}

fn resolver_to_wire(
    id: AttachmentId,
    status: Option<Result<SocketAddr, String>>,
) -> v1::ResolverStatus {
    let attachment_id = id.to_string();
    let (endpoint, error) = match status {
        Some(Ok(address)) => (address.to_string(), String::new()),
        Some(Err(error)) => (String::new(), error),
        None => (String::new(), String::new()),
    };
    v1::ResolverStatus { attachment_id, endpoint, error }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
