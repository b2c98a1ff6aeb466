//! The addresses of network interfaces, on the host's own interfaces (rtnetlink).
//!
//! The agent takes away only what it added: it writes down each address before it adds it, so that
//! this holds across a crash. Addresses are added as /32: they are the host's own, and change nothing
//! about the routes.
//!
//! Neither adding nor removing one costs more on a host with many: what the host has is listed once,
//! and again when something is not as expected ([`Addresses::forget_list`]); what was added is a
//! journal.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{AddressMessageBuilder, Handle, new_connection};
use tokio::task::JoinHandle;

use crate::ledger::Ledger;

/// Why an address is not there.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No interface of the host has the address that the attachment names.
    #[error("no interface of this host has the address {0}, which the attachment names")]
    NoInterface(Ipv4Addr),
    /// The address is on another interface already.
    #[error("{address} is already an address of interface number {index}, not added by this agent")]
    Elsewhere {
        /// The address.
        address: Ipv4Addr,
        /// The interface that has it.
        index: u32,
    },
    /// The kernel refused.
    #[error("the kernel refused to {what}: {source}")]
    Netlink {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        source: rtnetlink::Error,
    },
    /// The list of added addresses can't be kept.
    #[error("the list of added addresses can't be kept: {0}")]
    Disk(#[from] io::Error),
}

/// Adds addresses and takes them away.
#[derive(Debug)]
pub struct Addresses {
    netlink: Option<(Handle, JoinHandle<()>)>,
    /// Each address that the agent added, and the interface that it is on.
    added: BTreeMap<Ipv4Addr, u32>,
    ledger: Ledger,
    /// Every address of the host, and the interface that it is on, as last listed and changed by us.
    listed: Option<BTreeMap<Ipv4Addr, u32>>,
}

/// What the files are called, without their endings.
const NAME: &str = "addresses";

/// A record of the journal: an address, and the interface that it was added to; none when it was
/// taken away.
type Entry = (Ipv4Addr, Option<u32>);

impl Addresses {
    /// Continues the list kept in `dir`. Netlink is opened when first needed: in developer mode there
    /// is nothing to add, nor the right to.
    ///
    /// # Errors
    ///
    /// The list can't be read.
    pub fn new(dir: &Path) -> Result<Self, AddressError> {
        let (ledger, found) = Ledger::open(dir, NAME)?;
        let mut added: BTreeMap<_, _> = match found.snapshot {
            Some(text) => serde_json::from_slice(&text).map_err(io::Error::from)?,
            None => BTreeMap::new(),
        };
        for record in found.records {
            let (address, index): Entry =
                serde_json::from_slice(&record).map_err(io::Error::from)?;
            note(&mut added, address, index);
        }
        Ok(Self { netlink: None, added, ledger, listed: None })
    }

    /// The addresses that the agent added.
    pub fn added(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.added.keys().copied()
    }

    /// Whether the agent added this address.
    pub fn has_added(&self, address: Ipv4Addr) -> bool {
        self.added.contains_key(&address)
    }

    /// Lets the next call list what the host has: somebody else may have changed it.
    pub fn forget_list(&mut self) {
        self.listed = None;
    }

    /// Makes sure that `address` is on the interface that has the address `via`.
    ///
    /// # Errors
    ///
    /// There is no such interface, the address is elsewhere, or the kernel refuses.
    pub async fn ensure(&mut self, via: Ipv4Addr, address: Ipv4Addr) -> Result<(), AddressError> {
        if !self.listed().await?.contains_key(&via) {
            // Its interface may have come up since.
            self.listed = None;
        }
        let present = self.listed().await?;
        let index = *present.get(&via).ok_or(AddressError::NoInterface(via))?;
        match present.get(&address).copied() {
            Some(on) if on == index => return Ok(()),
            Some(on) if !self.added.contains_key(&address) => {
                return Err(AddressError::Elsewhere { address, index: on });
            }
            Some(_) => self.remove(address).await?,
            None => {}
        }
        // Written down first: a crash between the two leaves an entry for an address that is not
        // there, which removing it again mends; the other way round, an address would be forgotten.
        self.keep(address, Some(index))?;
        let added = self.handle()?.address().add(index, IpAddr::V4(address), 32).execute().await;
        if let Err(source) = added {
            self.listed = None;
            return Err(AddressError::Netlink { what: format!("add {address}"), source });
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(address, index);
        }
        tracing::info!(%address, interface = index, "address added");
        Ok(())
    }

    /// Takes an address away, if the agent added it.
    ///
    /// # Errors
    ///
    /// The kernel refuses, for another reason than that it is gone already.
    pub async fn remove(&mut self, address: Ipv4Addr) -> Result<(), AddressError> {
        let Some(index) = self.added.get(&address).copied() else { return Ok(()) };
        if self.listed().await?.get(&address) == Some(&index) {
            let message =
                AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, 32).build();
            let removed = self.handle()?.address().del(message).execute().await;
            if let Err(source) = removed {
                self.listed = None;
                return Err(AddressError::Netlink { what: format!("remove {address}"), source });
            }
            if let Some(listed) = &mut self.listed {
                listed.remove(&address);
            }
            tracing::info!(%address, interface = index, "address removed");
        }
        self.keep(address, None)?;
        Ok(())
    }

    async fn listed(&mut self) -> Result<&BTreeMap<Ipv4Addr, u32>, AddressError> {
        let listed = match self.listed.take() {
            Some(listed) => listed,
            None => self.list().await?,
        };
        Ok(self.listed.insert(listed))
    }

    /// Every IPv4 address of the host, and the interface that it is on.
    async fn list(&mut self) -> Result<BTreeMap<Ipv4Addr, u32>, AddressError> {
        let mut messages = self.handle()?.address().get().execute();
        let mut present = BTreeMap::new();
        let failed =
            |source| AddressError::Netlink { what: "list the addresses".to_owned(), source };
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            for attribute in &message.attributes {
                // On point-to-point links `Address` is the peer's: `Local` is always ours.
                if let AddressAttribute::Local(IpAddr::V4(address)) = attribute {
                    present.insert(*address, message.header.index);
                }
            }
        }
        Ok(present)
    }

    fn handle(&mut self) -> Result<&Handle, AddressError> {
        if self.netlink.as_ref().is_some_and(|(_, connection)| connection.is_finished()) {
            self.netlink = None;
        }
        match &mut self.netlink {
            Some((handle, _)) => Ok(handle),
            none => {
                let (connection, handle, _) = new_connection()?;
                let running = tokio::spawn(connection);
                Ok(&none.insert((handle, running)).0)
            }
        }
    }

    /// Writes down where an address was added, or that it was taken away.
    fn keep(&mut self, address: Ipv4Addr, index: Option<u32>) -> io::Result<()> {
        let entry: Entry = (address, index);
        self.ledger.append(&serde_json::to_vec(&entry)?)?;
        note(&mut self.added, address, index);
        if self.ledger.is_due() {
            self.ledger.replace(&serde_json::to_vec(&self.added)?)?;
        }
        Ok(())
    }
}

fn note(added: &mut BTreeMap<Ipv4Addr, u32>, address: Ipv4Addr, index: Option<u32>) {
    match index {
        Some(index) => added.insert(address, index),
        None => added.remove(&address),
    };
}

impl Drop for Addresses {
    fn drop(&mut self) {
        if let Some((_, connection)) = self.netlink.take() {
            connection.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_remembered_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        // As a version before the journal wrote it.
        std::fs::write(dir.path().join("addresses.json"), r#"{"10.0.0.1":2}"#).unwrap();
        let mut addresses = Addresses::new(dir.path()).unwrap();
        addresses.keep([10, 0, 0, 2].into(), Some(3)).unwrap();
        addresses.keep([10, 0, 0, 1].into(), None).unwrap();
        let again = Addresses::new(dir.path()).unwrap();
        assert_eq!(again.added().collect::<Vec<_>>(), [Ipv4Addr::new(10, 0, 0, 2)]);
    }
}
