//! Network interfaces, as their owner is shown them (spec 4.1).

use postern_model::Code;
use postern_model::id::NetworkInterfaceId;
use postern_proto::page::Page;

use super::App;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::interfaces::{self, Filter, NetworkInterface};

impl App {
    /// One of the caller's network interfaces.
    ///
    /// # Errors
    ///
    /// `InvalidNetworkInterfaceID.NotFound`, also for another account's.
    pub async fn network_interface(
        &self,
        caller: &Caller,
        id: NetworkInterfaceId,
    ) -> Result<NetworkInterface> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        let filter = Filter { id: Some(id), ..Filter::default() };
        interfaces::list(&mut db, owner, filter, None, 1).await?.pop().ok_or_else(|| {
            Error::of_field(
                Code::InvalidNetworkInterfaceNotFound,
                "network_interface_id",
                format!("the network interface {id} does not exist"),
            )
        })
    }

    /// A page of the caller's network interfaces, by id.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn network_interfaces(
        &self,
        caller: &Caller,
        filter: Filter,
        page: &Page,
    ) -> Result<Vec<NetworkInterface>> {
        let owner = caller.account()?;
        let mut db = self.store.acquire().await?;
        interfaces::list(&mut db, owner, filter, page.after.as_deref(), page.limit()).await
    }
}
