//! The shapes of names (spec 3.1, 3.2, 3.4): what an endpoint is called in DNS, what a service is
//! called in the API, and what a provider may choose as a private name.
//!
//! All names are lower case and without a final dot.

use std::fmt;
use std::str::FromStr;

use rand::RngCore;

use crate::id::{EndpointId, ServiceId};
use crate::zone::{Region, ZoneName};

/// How long a name may be, in characters. A name on the wire has at most 255 bytes (RFC 1035, 2.3.4):
/// a length before each label and the root at the end leave 253 for the text.
pub const NAME_MAX: usize = 253;
/// How long a label may be, in characters (RFC 1035, 2.3.4).
pub const LABEL_MAX: usize = 63;
/// The time to live of the records of endpoints, in seconds (spec 3.3).
pub const TTL_SECONDS: u32 = 60;

/// The top-level names that mean something else to resolvers, so that nobody could look a private
/// name up below them: this machine (RFC 6761), the local link (RFC 6762), nothing (RFC 6761), Tor
/// (RFC 7686), and infrastructure with the reverse zones in-addr.arpa and ip6.arpa (RFC 3172).
///
/// `internal` and `test` are not among them: the first is set aside for private use, which is what a
/// private name is, and resolvers treat neither specially.
const SPECIAL_USE: [&str; 5] = ["localhost", "local", "invalid", "onion", "arpa"];

/// How names of services begin. They are identifiers that existing tools compare, not DNS names: a
/// deployment with a suffix of its own keeps them (design 14).
const SERVICE_PREFIX: &str = "com.amazonaws.";
const ENDPOINT_SERVICE_PREFIX: &str = "com.amazonaws.vpce.";

/// The ends of the generated names of this deployment: AWS's unless configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffixes {
    // Invariant: a host name of at least two labels.
    endpoints: String,
}

impl Default for Suffixes {
    fn default() -> Self {
        Self { endpoints: "vpce.amazonaws.com".to_owned() }
    }
}

impl FromStr for Suffixes {
    type Err = MalformedName;

    /// Reads the suffix of endpoint names, such as `vpce.amazonaws.com`.
    fn from_str(text: &str) -> Result<Self, MalformedName> {
        host_name(text).map_err(|fault| MalformedName::new(text, fault))?;
        // The longest generated name has to fit below it: an endpoint's id and label with a zone, the
        // id of a service, a region.
        if text.len() > NAME_MAX - 3 * (LABEL_MAX + 1) {
            return Err(MalformedName::new(text, Fault::LongSuffix));
        }
        Ok(Self { endpoints: text.to_owned() })
    }
}

impl fmt::Display for Suffixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoints)
    }
}

impl Suffixes {
    /// What the names of endpoints end in: `vpce.amazonaws.com`.
    pub fn endpoints(&self) -> &str {
        &self.endpoints
    }

    /// What the private names of built-in services end in, the domain above: `amazonaws.com`.
    pub fn built_in(&self) -> &str {
        self.endpoints.split_once('.').map_or("", |(_, domain)| domain)
    }

    /// The base name of an endpoint service: `<vpce-svc-id>.<region>.vpce.amazonaws.com`.
    pub fn base_name(&self, region: &Region, service: ServiceId) -> BaseName {
        BaseName(format!("{service}.{region}.{}", self.endpoints))
    }

    /// The base name of a built-in service: `<svc>.<region>.vpce.amazonaws.com`.
    ///
    /// # Errors
    ///
    /// The service's name can't be a part of a DNS name.
    pub fn built_in_base_name(
        &self,
        region: &Region,
        service: &str,
    ) -> Result<BaseName, MalformedName> {
        let name = format!("{service}.{region}.{}", self.endpoints);
        host_name(&name).map_err(|fault| MalformedName::new(&name, fault))?;
        Ok(BaseName(name))
    }

    /// The private name of a built-in service: `<svc>.<region>.amazonaws.com`.
    ///
    /// # Errors
    ///
    /// The service's name can't be a part of a DNS name.
    pub fn built_in_private_name(
        &self,
        region: &Region,
        service: &str,
    ) -> Result<PrivateDnsName, MalformedName> {
        format!("{service}.{region}.{}", self.built_in()).parse()
    }

    /// Reads the private name that a provider has chosen for an endpoint service (spec 3.4).
    ///
    /// # Errors
    ///
    /// What is no [`PrivateDnsName`], and what lies under the suffix of endpoint names: there the
    /// names are ours to give.
    pub fn private_name(&self, text: &str) -> Result<PrivateDnsName, MalformedName> {
        let name: PrivateDnsName = text.parse()?;
        if is_at_or_below(name.zone(), &self.endpoints) {
            return Err(MalformedName::new(text, Fault::EndpointSuffix(self.endpoints.clone())));
        }
        Ok(name)
    }
}

/// The base name of a service: what the names of its endpoints end in, and the zone they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseName(String);

impl BaseName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of an endpoint in all its zones: `<vpce-id>-<label>.<base name>`.
    pub fn regional(&self, endpoint: EndpointId, label: Label) -> String {
        format!("{endpoint}-{label}.{}", self.0)
    }

    /// The name of an endpoint in one zone, which goes by the name that the consumer's account has
    /// for it: `<vpce-id>-<label>-<az name>.<base name>`.
    pub fn zonal(&self, endpoint: EndpointId, label: Label, zone: &ZoneName) -> String {
        format!("{endpoint}-{label}-{zone}.{}", self.0)
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many characters a [`Label`] has.
const LABEL_LENGTH: usize = 8;
/// The characters of a [`Label`].
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What makes the names of an endpoint hard to guess: eight of a to z and 0 to 9, the same for the
/// endpoint's whole life (spec 3.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label([u8; LABEL_LENGTH]);

impl Label {
    /// A new label.
    pub fn generate(random: &mut impl RngCore) -> Self {
        // The product's high half is even to one part in a hundred million.
        let pick = |word: u32| ((u64::from(word) * ALPHABET.len() as u64) >> 32) as usize;
        Self(std::array::from_fn(|_| ALPHABET[pick(random.next_u32())]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Invariant: the characters are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The text is not the label of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint's label: expected 8 of a to z and 0 to 9")]
pub struct MalformedLabel(String);

impl FromStr for Label {
    type Err = MalformedLabel;

    fn from_str(text: &str) -> Result<Self, MalformedLabel> {
        match <[u8; LABEL_LENGTH]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(|byte| ALPHABET.contains(byte)) => Ok(Self(bytes)),
            _ => Err(MalformedLabel(text.chars().take(64).collect())),
        }
    }
}

/// The name of a service in the API (spec 3.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceName {
    /// An endpoint service: `com.amazonaws.vpce.<region>.<vpce-svc-id>`.
    Endpoint {
        /// The region of the service.
        region: Region,
        /// The service.
        service: ServiceId,
    },
    /// A built-in service: `com.amazonaws.<region>.<svc>`.
    BuiltIn {
        /// The region of the service.
        region: Region,
        /// The service, which may contain dots.
        service: String,
    },
}

impl ServiceName {
    /// The name of an endpoint service.
    pub fn endpoint(region: &Region, service: ServiceId) -> Self {
        Self::Endpoint { region: region.clone(), service }
    }
}

/// The text is not the name of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a service: expected com.amazonaws.vpce.<region>.<vpce-svc-id> or \
     com.amazonaws.<region>.<service>"
)]
pub struct MalformedServiceName(String);

impl FromStr for ServiceName {
    type Err = MalformedServiceName;

    fn from_str(text: &str) -> Result<Self, MalformedServiceName> {
        let malformed = || MalformedServiceName(text.chars().take(128).collect());
        if let Some(rest) = text.strip_prefix(ENDPOINT_SERVICE_PREFIX) {
            let (region, service) = rest.split_once('.').ok_or_else(malformed)?;
            let region = region.parse().map_err(|_| malformed())?;
            let service = service.parse().map_err(|_| malformed())?;
            return Ok(Self::Endpoint { region, service });
        }
        let rest = text.strip_prefix(SERVICE_PREFIX).ok_or_else(malformed)?;
        let (region, service) = rest.split_once('.').ok_or_else(malformed)?;
        let region = region.parse().map_err(|_| malformed())?;
        if text.len() > NAME_MAX || labels(service).is_err() {
            return Err(malformed());
        }
        Ok(Self::BuiltIn { region, service: service.to_owned() })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint { region, service } => {
                write!(f, "{ENDPOINT_SERVICE_PREFIX}{region}.{service}")
            }
            Self::BuiltIn { region, service } => write!(f, "{SERVICE_PREFIX}{region}.{service}"),
        }
    }
}

/// A name that resolves to an endpoint inside its VPC only (spec 3.4): a host name in lower case with
/// at least two labels, of which the leftmost may be a wildcard.
///
/// It may still lie under the suffix of a deployment: [`Suffixes::private_name`] refuses that too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrivateDnsName(String);

impl PrivateDnsName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the leftmost label is a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The hidden zone that holds the name: the name itself, or the name below which a wildcard
    /// stands.
    pub fn zone(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }
}

impl FromStr for PrivateDnsName {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let malformed = |fault| MalformedName::new(text, fault);
        if text.len() > NAME_MAX {
            return Err(malformed(Fault::Long));
        }
        let zone = text.strip_prefix("*.").unwrap_or(text);
        host_name(zone).map_err(malformed)?;
        if let Some(top) = SPECIAL_USE.iter().find(|top| is_at_or_below(zone, top)) {
            return Err(malformed(Fault::SpecialUse(top)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The text can't be the name that it is meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {fault}")]
pub struct MalformedName {
    text: String,
    fault: Fault,
}

impl MalformedName {
    fn new(text: &str, fault: Fault) -> Self {
        Self { text: text.chars().take(NAME_MAX).collect(), fault }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("is too long: a name has at most {NAME_MAX} characters")]
    Long,
    #[error("is too long: the names of endpoints would not fit below it")]
    LongSuffix,
    #[error("has fewer than two labels")]
    OneLabel,
    #[error("has an empty label")]
    EmptyLabel,
    #[error("has a label of more than {LABEL_MAX} characters")]
    LongLabel,
    #[error("has a wildcard that is not the whole leftmost label")]
    Wildcard,
    #[error("contains {0:?}: a label has only lower case letters, digits and hyphens")]
    Character(char),
    #[error("has a label that starts or ends with a hyphen")]
    Hyphen,
    #[error("ends in a number, so that it looks like an address")]
    Number,
    #[error("lies under {0:?}, which is reserved for special use")]
    SpecialUse(&'static str),
    #[error("lies under {0:?}, where names of endpoints are")]
    EndpointSuffix(String),
}

/// A host name of at least two labels (RFC 1123, 2.1), in lower case.
fn host_name(text: &str) -> Result<(), Fault> {
    if text.len() > NAME_MAX {
        return Err(Fault::Long);
    }
    labels(text)?;
    let (_, last) = text.rsplit_once('.').ok_or(Fault::OneLabel)?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Number);
    }
    Ok(())
}

fn labels(text: &str) -> Result<(), Fault> {
    text.split('.').try_for_each(|label| {
        let odd = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
        match label.chars().find(odd) {
            _ if label.is_empty() => Err(Fault::EmptyLabel),
            _ if label.len() > LABEL_MAX => Err(Fault::LongLabel),
            Some('*') => Err(Fault::Wildcard),
            Some(other) => Err(Fault::Character(other)),
            None if label.starts_with('-') || label.ends_with('-') => Err(Fault::Hyphen),
            None => Ok(()),
        }
    })
}

fn is_at_or_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

macro_rules! text {
    ($($name:ident),*) => {
        $(
            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(self.as_str())
                }
            }
        )*
    };
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {
        $(
            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Self, D::Error> {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )*
    };
}

text!(Label, PrivateDnsName);
serde_as_text!(Label, PrivateDnsName, ServiceName, Suffixes);

#[cfg(test)]
mod tests;
