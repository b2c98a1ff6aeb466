//! Hosts: the machines that agents run on.

use postern_model::Code;
use postern_model::id::HostId;
use postern_model::zone::ZoneId;
use postern_proto::page::Page;

use super::App;
use super::vpcs::still_in_use;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::pokes::Poke;
use crate::store::hosts::{self, HostRow};

/// Asks to register a host.
#[derive(Clone, Debug)]
pub struct CreateHost {
    /// Its name: a DNS name.
    pub name: HostName,
    /// The zone that it stands in.
    pub zone: ZoneId,
}

/// The name of a host: a DNS name of at most 253 characters, without a final dot (RFC 1123, 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// The text is no DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host's name is a DNS name: at most 253 letters a-z, digits and hyphens in labels of at most 63"
)]
pub struct MalformedHostName;

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HostName {
    type Err = MalformedHostName;

    fn from_str(text: &str) -> Result<Self, MalformedHostName> {
        // In lower case, since DNS names that differ in case alone are the same.
        let name = text.to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() <= 253 && name.split('.').all(is_label) {
            Ok(Self(name))
        } else {
            Err(MalformedHostName)
        }
    }
}

impl App {
    /// Registers a host.
    ///
    /// # Errors
    ///
    /// `InvalidZone.NotFound`, `InvalidHost.Duplicate`; anybody but the operator asking; the database
    /// away.
    pub async fn create_host(&self, caller: &Caller, command: CreateHost) -> Result<HostRow> {
        caller.operator()?;
        let CreateHost { name, zone } = command;
        if !self.settings.zones.contains(&zone) {
            let reason = format!("there is no zone '{zone}' in this region");
            return Err(Error::of_field(Code::InvalidZoneNotFound, "availability_zone_id", reason));
        }
        let id = HostId::generate(&mut rand::rng());
        let mut db = self.store.acquire().await?;
        let made = hosts::insert(&mut db, id, name.as_str(), &zone).await;
        made.map_err(|error| match violated(&error) {
            Some("host_name_once") => {
                let reason = format!("there is a host '{}' already", name.as_str());
                Error::of_field(Code::InvalidHostDuplicate, "name", reason)
            }
            _ => error.into(),
        })
    }

    /// Returns a host.
    ///
    /// # Errors
    ///
    /// `InvalidHostID.NotFound`; anybody but the operator asking; the database away.
    pub async fn get_host(&self, caller: &Caller, id: HostId) -> Result<HostRow> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        hosts::find(&mut db, id).await?.ok_or_else(|| unknown_host(id))
    }

    /// Lists the hosts.
    ///
    /// # Errors
    ///
    /// Anybody but the operator asking; the database away.
    pub async fn list_hosts(&self, caller: &Caller, page: &Page) -> Result<(Vec<HostRow>, String)> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        let mut hosts = hosts::list(&mut db, page).await?;
        let next = page.cut(&mut hosts, |host| host.id.to_string());
        Ok((hosts, next))
    }

    /// Removes a host that owns no interface, with its attachments.
    ///
    /// # Errors
    ///
    /// `InvalidHostID.NotFound`, `DependencyViolation`; anybody but the operator asking; the database
    /// away.
    pub async fn delete_host(&self, caller: &Caller, id: HostId) -> Result<()> {
        caller.operator()?;
        let mut tx = self.store.begin().await?;
        hosts::lock_vpcs(&mut tx, id).await?;
        if !hosts::lock(&mut tx, id).await? {
            return Err(unknown_host(id));
        }
        if hosts::has_interfaces(&mut tx, id).await? {
            return Err(still_in_use(
                &format!("the host '{id}'"),
                &["a network interface".to_owned()],
            ));
        }
        hosts::delete(&mut tx, id).await?;
        tx.commit().await?;
        // Its stream, if it has one, learns that the host is gone.
        self.pokes.poke(Poke::Host(id));
        Ok(())
    }
}

/// The refusal for a host that is not there.
pub(super) fn unknown_host(id: HostId) -> Error {
    Error::refused(Code::InvalidHostNotFound, format!("the host '{id}' does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_is_a_dns_name_in_lower_case() {
        assert_eq!(
            "Node-1.rack.Example".parse::<HostName>().unwrap().as_str(),
            "node-1.rack.example"
        );
        for name in ["", ".", "a.", "-a", "a-", "a_b", "a b", "ä", &"a".repeat(64)] {
            assert_eq!(name.parse::<HostName>(), Err(MalformedHostName), "{name}");
        }
        assert!(vec!["a"; 127].join(".").parse::<HostName>().is_ok());
        assert!(vec!["a"; 128].join(".").parse::<HostName>().is_err());
    }
}
