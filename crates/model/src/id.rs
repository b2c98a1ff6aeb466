//! Resource ids (spec 3.1): typed inside, prefixed outside, parsed once at the edge.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use rand::RngCore;

/// How many hex digits a generated id has.
const GENERATED: usize = 17;
/// How many hex digits the ids of old accounts have; accepted, never generated (spec 3.1).
const OLD: usize = 8;

/// What an [`Id`] is the id of.
pub trait Kind {
    /// What the text starts with, hyphen included.
    const PREFIX: &'static str;
    /// The word for people, in messages.
    const NOUN: &'static str;
}

/// A resource id such as `vpce-0a1b2c3d4e5f60718`: the kind's prefix, then 17 (or 8) lowercase hex
/// digits. The kind is a type, so that a service's id cannot be passed where an endpoint's is due.
pub struct Id<K> {
    // Invariant: 8 or 17 of 0-9 and a-f; `from_str` and `generate` are the only ways in.
    digits: [u8; GENERATED],
    length: u8,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Id<K> {
    /// A new id from 68 random bits.
    pub fn generate(random: &mut impl RngCore) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; GENERATED];
        random.fill_bytes(&mut bytes);
        let digits = bytes.map(|byte| HEX[usize::from(byte & 0x0f)]);
        Self { digits, length: GENERATED as u8, kind: PhantomData }
    }

    /// The hex digits without the prefix.
    pub fn digits(&self) -> &str {
        // Invariant: the digits are ASCII.
        std::str::from_utf8(&self.digits[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the id of a {noun}: expected {prefix} and 8 or 17 lowercase hex digits")]
pub struct MalformedId {
    text: String,
    noun: &'static str,
    prefix: &'static str,
}

impl<K: Kind> FromStr for Id<K> {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let malformed = || MalformedId {
            text: text.chars().take(64).collect(),
            noun: K::NOUN,
            prefix: K::PREFIX,
        };
        let hex = text.strip_prefix(K::PREFIX).ok_or_else(malformed)?.as_bytes();
        let well_formed = (hex.len() == GENERATED || hex.len() == OLD)
            && hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(malformed());
        }
        let mut digits = [0; GENERATED];
        digits[..hex.len()].copy_from_slice(hex);
        Ok(Self { digits, length: hex.len() as u8, kind: PhantomData })
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::PREFIX)?;
        f.write_str(self.digits())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Id<K> {}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.digits == other.digits && self.length == other.length
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Unused digits are zero bytes, so that this is the order of the texts.
        self.digits.cmp(&other.digits)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digits.hash(state);
    }
}

impl<K: Kind> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The kinds of id that there are; every one is registered here.
pub mod kind {
    macro_rules! kinds {
        ($($name:ident, $alias:ident, $prefix:literal, $noun:literal;)*) => {
            $(
                #[doc = concat!("Marks the id of a ", $noun, ".")]
                #[derive(Debug)]
                pub enum $name {}

                impl super::Kind for $name {
                    const PREFIX: &'static str = $prefix;
                    const NOUN: &'static str = $noun;
                }
            )*
            /// The ids themselves, by name.
            pub mod alias {
                $(
                    #[doc = concat!("The id of a ", $noun, ": `", $prefix, "` and hex digits.")]
                    pub type $alias = super::super::Id<super::$name>;
                )*
            }
        };
    }

    kinds! {
        ApiKey, ApiKeyId, "key-", "API key";
        Attachment, AttachmentId, "hatt-", "host attachment";
        Connection, ConnectionId, "vpce-con-", "VPC endpoint connection";
        Endpoint, EndpointId, "vpce-", "VPC endpoint";
        Host, HostId, "host-", "host";
        NetworkInterface, NetworkInterfaceId, "eni-", "network interface";
        Notification, NotificationId, "vpce-nfn-", "connection notification";
        SecurityGroup, SecurityGroupId, "sg-", "security group";
        SecurityGroupRule, SecurityGroupRuleId, "sgr-", "security group rule";
        Service, ServiceId, "vpce-svc-", "endpoint service";
        ServicePermission, ServicePermissionId, "vpce-svc-perm-", "service permission";
        Subnet, SubnetId, "subnet-", "subnet";
        Vpc, VpcId, "vpc-", "VPC";
    }
}

pub use kind::alias::*;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_is_its_prefix_and_seventeen_digits_and_reads_back() {
        let id = EndpointId::generate(&mut rand::rng());
        let text = id.to_string();
        assert_eq!(text.len(), "vpce-".len() + 17);
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn an_id_of_an_old_account_is_accepted() {
        assert_eq!("vpc-0ab12cd3".parse::<VpcId>().unwrap().to_string(), "vpc-0ab12cd3");
    }

    #[test]
    fn what_is_no_id_of_the_kind_is_refused() {
        for text in ["", "vpce-", "vpce-XYZ", "vpce-0a1b2c3d4e5f6071", "vpce-svc-0a1b2c3d4e5f60718"]
        {
            assert!(text.parse::<EndpointId>().is_err(), "{text}");
        }
        assert!("vpce-0A1B2C3D4E5F60718".parse::<EndpointId>().is_err(), "upper case");
        assert!("vpce-0a1b2c3d4e5f60718".parse::<ServiceId>().is_err(), "other kind");
    }
}
