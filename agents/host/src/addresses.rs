//! The addresses of network interfaces, on the host's own interfaces (rtnetlink).
//!
//! The agent takes away only what it added: it writes down each address before it adds it, so that
//! this holds across a crash. Addresses are added as /32: they are the host's own, and change nothing
//! about the routes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::{AddressMessageBuilder, Handle, new_connection};
use tokio::task::JoinHandle;

use crate::held::write_whole;

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
    file: PathBuf,
}

impl Addresses {
    /// Continues the list kept in `file`. Netlink is opened when first needed: in developer mode there
    /// is nothing to add, nor the right to.
    ///
    /// # Errors
    ///
    /// The list can't be read.
    pub fn new(file: PathBuf) -> Result<Self, AddressError> {
        let added = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { netlink: None, added, file })
    }

    /// The addresses that the agent added.
    pub fn added(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.added.keys().copied()
    }

    /// Makes sure that `address` is on the interface that has the address `via`.
    ///
    /// # Errors
    ///
    /// There is no such interface, the address is elsewhere, or the kernel refuses.
    pub async fn ensure(&mut self, via: Ipv4Addr, address: Ipv4Addr) -> Result<(), AddressError> {
        let present = self.present().await?;
        let index = *present.get(&via).ok_or(AddressError::NoInterface(via))?;
        match present.get(&address) {
            Some(on) if *on == index => return Ok(()),
            Some(on) if !self.added.contains_key(&address) => {
                return Err(AddressError::Elsewhere { address, index: *on });
            }
            Some(_) => self.remove(address).await?,
            None => {}
        }
        // Written down first: a crash between the two leaves an entry for an address that is not
        // there, which removing it again mends; the other way round, an address would be forgotten.
        self.added.insert(address, index);
        self.save()?;
        let added = self.handle()?.address().add(index, IpAddr::V4(address), 32).execute().await;
        added.map_err(|source| AddressError::Netlink { what: format!("add {address}"), source })?;
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
        if self.present().await?.get(&address) == Some(&index) {
            let message =
                AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, 32).build();
            let removed = self.handle()?.address().del(message).execute().await;
            removed.map_err(|source| {
                let what = format!("remove {address}");
                AddressError::Netlink { what, source }
            })?;
            tracing::info!(%address, interface = index, "address removed");
        }
        self.added.remove(&address);
        self.save()?;
        Ok(())
    }

    /// Every IPv4 address of the host, and the interface that it is on.
    async fn present(&mut self) -> Result<BTreeMap<Ipv4Addr, u32>, AddressError> {
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

    fn save(&self) -> io::Result<()> {
        write_whole(&self.file, &serde_json::to_vec(&self.added)?)
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        if let Some((_, connection)) = self.netlink.take() {
            connection.abort();
        }
    }
}
