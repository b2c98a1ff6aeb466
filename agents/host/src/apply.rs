//! Makes the host do what a state says: resolvers, addresses, interfaces, in that order.
//!
//! Applying is idempotent and complete: it compares the state with what is there, so that the first
//! state after a start, a change, and a retry are one path. What can't be done is reported for each
//! interface and tried again; the rest is done all the same.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_datapath::{CutReason, Datapath, InterfaceSpec, Listener, Place};
use postern_model::desired::{Attachment, AttachmentKind, HostState, Interface};
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
    /// The interfaces that the datapath has, with where their addresses are.
    present: BTreeMap<NetworkInterfaceId, Present>,
    statuses: BTreeMap<NetworkInterfaceId, Status>,
}

/// An interface that was bound.
struct Present {
    interface: Interface,
    spec: InterfaceSpec,
}

impl Applier {
    /// An applier to a host where nothing is applied yet.
    pub fn new(
        datapath: Arc<Datapath>,
        addresses: Addresses,
        resolvers: Resolvers,
        metrics: Metrics,
    ) -> Self {
        let (present, statuses) = (BTreeMap::new(), BTreeMap::new());
        Self { datapath, addresses, resolvers, metrics, present, statuses }
    }

    /// Makes the host do what `state` says. Names come first: what is withdrawn must stop resolving
    /// before its address stops answering, and what is new is published only once it was seen to
    /// answer (design 6), which is a later state.
    pub async fn apply(&mut self, state: &HostState) {
        self.resolvers.apply(state).await;

        let gone: Vec<_> = self
            .statuses
            .keys()
            .filter(|id| !state.interfaces().any(|interface| interface.id == **id))
            .copied()
            .collect();
        for id in gone {
            self.remove(id).await;
        }
        self.forget_stray_addresses(state).await;

        let attachments: BTreeMap<VpcId, &Attachment> =
            state.attachments().map(|attachment| (attachment.vpc, attachment)).collect();
        for interface in state.interfaces() {
            let result = self.bind(interface, &attachments).await;
            if let Err(error) = &result
                && self.statuses.get(&interface.id).and_then(|status| status.error.as_ref())
                    != Some(error)
            {
                warn!(interface = %interface.id, address = %interface.address, error, "not bound");
            }
            let status = Status { epoch: interface.epoch, error: result.err() };
            self.statuses.insert(interface.id, status);
        }

        let failed = self.statuses.values().filter(|status| status.error.is_some()).count();
        self.metrics.interfaces_failed.set(gauge(failed));
        self.metrics.interfaces_bound.set(gauge(self.statuses.len() - failed));
        self.metrics.generation.set(state.generation);
    }

    /// Whether something could not be done, so that applying the same state again may help.
    pub fn wants_retry(&self) -> bool {
        self.statuses.values().any(|status| status.error.is_some()) || self.resolvers.wants_retry()
    }

    /// The status of every interface.
    pub fn statuses(&self) -> &BTreeMap<NetworkInterfaceId, Status> {
        &self.statuses
    }

    /// The status of every interface, for the wire.
    pub fn interface_statuses(&self) -> Vec<v1::InterfaceStatus> {
        self.statuses.iter().map(|(id, status)| to_wire(*id, status)).collect()
    }

    /// Where each resolver listens, for the wire.
    pub fn resolver_statuses(&self) -> Vec<v1::ResolverStatus> {
        let statuses = self.resolvers.statuses();
        statuses.into_iter().map(|(id, status)| resolver_to_wire(id, status)).collect()
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

    async fn bind(
        &mut self,
        interface: &Interface,
        attachments: &BTreeMap<VpcId, &Attachment>,
    ) -> Result<(), String> {
        let attachment = attachments
            .get(&interface.vpc)
            .ok_or_else(|| format!("this host has no attachment of {}", interface.vpc))?;
        let target = attachments.get(&interface.target_vpc).ok_or_else(|| {
            format!("this host has no attachment of the service's {}", interface.target_vpc)
        })?;
        if let AttachmentKind::Interface { address } = &attachment.kind {
            self.addresses
                .ensure(*address, interface.address)
                .await
                .map_err(|error| error.to_string())?;
        }
        let spec = spec(interface, attachment, target);
        if self.present.get(&interface.id).is_some_and(|present| present.spec == spec)
            && self.statuses.get(&interface.id).is_some_and(|status| status.error.is_none())
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
                let interface = interface.clone();
                self.present.insert(interface.id, Present { interface, spec });
                Ok(())
            }
            Ok(Err(failure)) => Err(chain(&failure)),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn remove(&mut self, id: NetworkInterfaceId) {
        self.statuses.remove(&id);
        let Some(present) = self.present.remove(&id) else { return };
        let datapath = Arc::clone(&self.datapath);
        let removed =
            tokio::task::spawn_blocking(move || datapath.remove(id, CutReason::Policy)).await;
        if let Err(error) = removed {
            warn!(interface = %id, %error, "the datapath did not let go of the interface");
        }
        info!(interface = %id, address = %present.interface.address, "removed");
    }

    /// Takes away each address that the agent once added and that no interface has now: those of
    /// interfaces just removed, and those of a state that a crash cut short.
    async fn forget_stray_addresses(&mut self, state: &HostState) {
        let stray: Vec<Ipv4Addr> = self
            .addresses
            .added()
            .filter(|address| !state.interfaces().any(|interface| interface.address == *address))
            .collect();
        for address in stray {
            if let Err(error) = self.addresses.remove(address).await {
                warn!(%address, %error, "the address could not be removed");
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
pub fn to_wire(id: NetworkInterfaceId, status: &Status) -> v1::InterfaceStatus {
    v1::InterfaceStatus {
        network_interface_id: id.to_string(),
        epoch: status.epoch,
        bound: status.error.is_none(),
        error: status.error.clone().unwrap_or_default(),
    }
}

fn resolver_to_wire(id: AttachmentId, status: Result<SocketAddr, String>) -> v1::ResolverStatus {
    let attachment_id = id.to_string();
    match status {
        Ok(address) => v1::ResolverStatus {
            attachment_id,
            endpoint: address.to_string(),
            error: String::new(),
        },
        Err(error) => v1::ResolverStatus { attachment_id, endpoint: String::new(), error },
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
