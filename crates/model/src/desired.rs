//! What a host should be doing (design 5): its objects, a generation that counts the changes, and a
//! digest by which both sides know that they mean the same.
//!
//! The control plane computes it, the agent holds it on disk and obeys it. An object is replaced
//! whole, never patched: applying a change twice is the same as applying it once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{AttachmentId, EndpointId, NetworkInterfaceId, VpcId};
use crate::net::Cidr;
use crate::security::IngressRule;

/// How a host reaches a VPC (design 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentKind {
    /// The VPC lies in 127.0.0.0/8: every address is there already.
    Loopback,
    /// Addresses are added to the interface that has this one.
    Interface {
        /// An address of the host, by which the interface is found.
        address: Ipv4Addr,
    },
    /// Sockets are opened in a network namespace.
    Namespace {
        /// Its name under /run/netns, or its path.
        name: String,
    },
}

/// A VPC that a host reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The attachment.
    pub id: AttachmentId,
    /// The VPC.
    pub vpc: VpcId,
    /// The VPC's range.
    pub cidr: Cidr,
    /// Whether the VPC has a resolver.
    pub dns_support: bool,
    /// How it is reached.
    pub kind: AttachmentKind,
}

/// A port of an interface, and who answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceListener {
    /// The TCP port.
    pub port: u16,
    /// The targets.
    pub targets: Vec<SocketAddrV4>,
}

/// An endpoint's interface that a host owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// The VPC that it is in.
    pub vpc: VpcId,
    /// Its address.
    pub address: Ipv4Addr,
    /// The ownership epoch (design 7): grows each time that the interface changes hosts.
    pub epoch: i64,
    /// Whether connections are taken; when not, they are answered with a reset and flows are cut.
    pub serving: bool,
    /// Who may connect.
    pub ingress: Vec<IngressRule>,
    /// The ports.
    pub listeners: Vec<InterfaceListener>,
    /// The provider's VPC, which the targets are dialled in.
    pub target_vpc: VpcId,
    /// Whether targets get a PROXY protocol v2 header.
    pub proxy_protocol_v2: bool,
    /// After how many seconds without a byte a connection is reset.
    pub idle_timeout_seconds: u32,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordData {
    /// IPv4 addresses; with none, the name exists and leads nowhere.
    Addresses(Vec<Ipv4Addr>),
    /// Another name.
    Alias(String),
}

/// A record of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name, lower case, without a final dot.
    pub name: String,
    /// Its time to live, in seconds.
    pub ttl_seconds: u32,
    /// What it stands for.
    pub data: RecordData,
}

/// The names of one endpoint in one VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The VPC whose resolver answers them.
    pub vpc: VpcId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The records.
    pub records: Vec<Record>,
    /// The zone of the service's endpoint names, without a final dot.
    pub base_name: String,
    /// The hidden zone of the private name, without a final dot; none when it is off.
    pub private_zone: Option<String>,
}

/// An object of a host's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A VPC that the host reaches.
    Attachment(Attachment),
    /// An interface that it owns.
    Interface(Interface),
    /// Names that its resolvers answer.
    Names(Names),
}

/// Which object of a host's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// A VPC that the host reaches. In order, attachments come first: interfaces stand on them.
    Attachment(AttachmentId),
    /// An interface that it owns.
    Interface(NetworkInterfaceId),
    /// Names that its resolvers answer.
    Names(VpcId, EndpointId),
}

impl Object {
    /// The object's key.
    pub fn key(&self) -> Key {
        match self {
            Self::Attachment(attachment) => Key::Attachment(attachment.id),
            Self::Interface(interface) => Key::Interface(interface.id),
            Self::Names(names) => Key::Names(names.vpc, names.endpoint),
        }
    }
}

/// What two sides compare instead of their states: SHA-256 over the objects in the order of their
/// keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the 32 bytes; `None` when there are not 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Everything that a host should be doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostState {
    /// Counts the changes; 0 before the first.
    pub generation: i64,
    objects: BTreeMap<Key, Object>,
}

/// The form that a state has on disk and in a snapshot.
#[derive(Serialize, Deserialize)]
struct Stored {
    generation: i64,
    objects: Vec<Object>,
}

impl Serialize for HostState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let objects = self.objects.values().cloned().collect();
        Stored { generation: self.generation, objects }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { generation, objects } = Stored::deserialize(deserializer)?;
        Ok(Self::new(generation, objects))
    }
}

/// What is different from one generation to a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The generation that it starts from.
    pub from: i64,
    /// The generation that it leads to.
    pub to: i64,
    /// Objects that are new, or different.
    pub upserts: Vec<Object>,
    /// Objects that are gone.
    pub removals: Vec<Key>,
}

/// Why an offered state is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferRefused {
    /// The same number, other content: one side is wrong, and must hear of it.
    #[error("generation {0} was offered with other content than the one held")]
    ChangedInPlace(i64),
    /// Going back.
    #[error("generation {offered} was offered, {held} is held")]
    Stale {
        /// The generation held.
        held: i64,
        /// The generation offered.
        offered: i64,
    },
    /// A change that starts elsewhere.
    #[error("a change from generation {from} was offered, {held} is held")]
    Gap {
        /// The generation held.
        held: i64,
        /// Where the change starts.
        from: i64,
    },
    /// The content doesn't have the digest that came with it.
    #[error("the content of generation {0} does not have its digest")]
    Corrupt(i64),
}

impl HostState {
    /// The state of these objects.
    pub fn new(generation: i64, objects: impl IntoIterator<Item = Object>) -> Self {
        let objects = objects.into_iter().map(|object| (object.key(), object)).collect();
        Self { generation, objects }
    }

    /// The objects, attachments first.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The attachments.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.objects.values().filter_map(|object| match object {
            Object::Attachment(attachment) => Some(attachment),
            _ => None,
        })
    }

    /// The interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.objects.values().filter_map(|object| match object {
            Object::Interface(interface) => Some(interface),
            _ => None,
        })
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &Names> {
        self.objects.values().filter_map(|object| match object {
            Object::Names(names) => Some(names),
            _ => None,
        })
    }

    /// What stands for the content. The generation is no part of it.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for object in self.objects.values() {
            // Writing to memory what has no maps and no floats in it can't fail.
            let text = serde_json::to_vec(object).unwrap_or_default();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(&text);
        }
        Digest(hash.finalize().into())
    }

    /// Takes an offered snapshot in place of this state. The same again is taken too: a resend is
    /// normal after a reconnect.
    ///
    /// # Errors
    ///
    /// An older generation, other content under the same number, or a wrong digest.
    pub fn replace(&self, offered: Self, digest: Digest) -> Result<Self, OfferRefused> {
        if offered.digest() != digest {
            return Err(OfferRefused::Corrupt(offered.generation));
        }
        if offered.generation < self.generation {
            let (held, offered) = (self.generation, offered.generation);
            return Err(OfferRefused::Stale { held, offered });
        }
        if offered.generation == self.generation && digest != self.digest() {
            return Err(OfferRefused::ChangedInPlace(offered.generation));
        }
        Ok(offered)
    }

    /// Whether an offered change follows from this state.
    ///
    /// # Errors
    ///
    /// A change that starts from another generation, or leads back.
    pub fn judge(&self, change: &Change) -> Result<(), OfferRefused> {
        if change.from != self.generation {
            return Err(OfferRefused::Gap { held: self.generation, from: change.from });
        }
        if change.to < change.from {
            return Err(OfferRefused::Stale { held: self.generation, offered: change.to });
        }
        Ok(())
    }

    /// Makes this the state after an offered change. Costs what the change is large, whatever the
    /// state holds.
    ///
    /// # Errors
    ///
    /// Those of [`HostState::judge`]; the state is then as it was.
    pub fn take(&mut self, change: Change) -> Result<(), OfferRefused> {
        self.judge(&change)?;
        self.generation = change.to;
        for key in &change.removals {
            self.objects.remove(key);
        }
        for object in change.upserts {
            self.objects.insert(object.key(), object);
        }
        Ok(())
    }

    /// The keys of the objects, attachments first.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.objects.keys().copied()
    }
}

impl Change {
    /// The objects that it is about, each once, attachments first.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.upserts.iter().map(Object::key).chain(self.removals.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(digit: char, dns_support: bool) -> Object {
        Object::Attachment(Attachment {
            id: format!("hatt-0000000000000000{digit}").parse().unwrap(),
            vpc: "vpc-00000000000000001".parse().unwrap(),
            cidr: "10.0.0.0/16".parse().unwrap(),
            dns_support,
            kind: AttachmentKind::Loopback,
        })
    }

    #[test]
    fn the_order_in_which_objects_come_does_not_change_the_digest() {
        let one = HostState::new(1, [attachment('1', true), attachment('2', true)]);
        let other = HostState::new(2, [attachment('2', true), attachment('1', true)]);
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.digest(), HostState::new(1, [attachment('1', true)]).digest());
    }

    #[test]
    fn a_change_leads_to_the_same_state_as_the_snapshot_after_it() {
        let before = HostState::new(1, [attachment('1', true), attachment('2', true)]);
        let change = Change {
            from: 1,
            to: 3,
            upserts: vec![attachment('2', false), attachment('3', true)],
            removals: vec![attachment('1', true).key()],
        };
        let after = HostState::new(3, [attachment('2', false), attachment('3', true)]);
        let mut state = before;
        let keys: Vec<_> = change.keys().into_iter().collect();
        assert_eq!(keys, ['1', '2', '3'].map(|digit| attachment(digit, true).key()));
        assert_eq!(state.take(change), Ok(()));
        assert_eq!(state, after);
    }

    #[test]
    fn what_does_not_follow_from_the_state_held_is_refused() {
        let held = HostState::new(5, [attachment('1', true)]);
        let older = HostState::new(4, []);
        let in_place = HostState::new(5, []);
        let digest = older.digest();
        assert_eq!(
            held.replace(older.clone(), digest),
            Err(OfferRefused::Stale { held: 5, offered: 4 })
        );
        assert_eq!(held.replace(in_place, digest), Err(OfferRefused::ChangedInPlace(5)));
        assert_eq!(
            held.replace(HostState::new(6, []), held.digest()),
            Err(OfferRefused::Corrupt(6))
        );
        assert_eq!(held.replace(held.clone(), held.digest()), Ok(held.clone()));
        let gap = Change { from: 4, to: 6, upserts: vec![], removals: vec![] };
        let mut state = held.clone();
        assert_eq!(state.take(gap), Err(OfferRefused::Gap { held: 5, from: 4 }));
        assert_eq!(state, held);
    }

    #[test]
    fn a_state_on_disk_reads_back() {
        let state = HostState::new(7, [attachment('1', true), attachment('2', false)]);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<HostState>(&text).unwrap(), state);
    }
}
