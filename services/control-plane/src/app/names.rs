//! The names of endpoints and services, as they are shown (spec 3.2).

use postern_model::dns::{BaseName, Suffixes};
use postern_model::endpoint::EndpointState;
use postern_model::id::ServiceId;
use sha2::{Digest as _, Sha256};

use super::App;
use crate::error::{Error, Result};
use crate::store::endpoints::Endpoint;

/// A name that resolves to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEntry {
    /// The name, without a final dot.
    pub name: String,
    /// The zone that it is in.
    pub hosted_zone: String,
}

impl App {
    /// The base name of a service: the zone of its endpoints' names.
    ///
    /// # Errors
    ///
    /// A configured suffix that is none, which the configuration has refused before.
    pub fn base_name(&self, service: ServiceId) -> Result<BaseName> {
        let suffixes: Suffixes = self
            .settings
            .dns_suffix
            .parse()
            .map_err(|error| Error::internal(format!("the DNS suffix: {error}")))?;
        Ok(suffixes.base_name(&self.settings.region, service))
    }

    /// The names of an endpoint: regional, zonal, then private (spec 3.2). One that is being deleted
    /// has none any more.
    ///
    /// # Errors
    ///
    /// As [`App::base_name`].
    pub fn dns_entries(&self, endpoint: &Endpoint) -> Result<Vec<DnsEntry>> {
        if matches!(endpoint.state, EndpointState::Deleting | EndpointState::Deleted) {
            return Ok(Vec::new());
        }
        let base = self.base_name(endpoint.service)?;
        let zone = hosted_zone(base.as_str());
        let entry = |name| DnsEntry { name, hosted_zone: zone.clone() };
        let mut entries = vec![entry(base.regional(endpoint.id, endpoint.label))];
        for interface in &endpoint.interfaces {
            entries.push(entry(base.zonal(endpoint.id, endpoint.label, &interface.zone_name)));
        }
        if let Some(private) = &endpoint.private_dns_name {
            // The hidden zone is the VPC's own: another VPC's of the same name is another zone.
            let hosted_zone = hosted_zone(&format!("{}/{}", endpoint.vpc, private.zone()));
            entries.push(DnsEntry { name: private.as_str().to_owned(), hosted_zone });
        }
        Ok(entries)
    }
}

/// An id for a zone: a `Z` and 20 upper-case letters and digits (spec 3.1), always the same for the
/// same zone.
fn hosted_zone(zone: &str) -> String {
    const ALPHABET: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let digest = Sha256::digest(zone.as_bytes());
    let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    std::iter::once('Z').chain(digest.iter().take(20).map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_one_id_of_the_usual_shape() {
        let id = hosted_zone("vpce-svc-1.us-east-1.vpce.amazonaws.com");
        assert_eq!(id, hosted_zone("vpce-svc-1.us-east-1.vpce.amazonaws.com"));
        assert_ne!(id, hosted_zone("vpce-svc-2.us-east-1.vpce.amazonaws.com"));
        assert_eq!(id.len(), 21);
        assert!(id.starts_with('Z'));
        assert!(id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    }
}
