//! The provider's server: a real HTTP server for each zone, whose page says which one answered.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that runs until it is dropped.
pub struct PageServer {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl PageServer {
    /// Serves the page of a zone on a free port of `address`.
    pub async fn start(address: Ipv4Addr, zone: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let page = page(zone);
        let router = Router::new().route("/", get(move || async move { page }));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the provider's server ended");
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server of a zone answers.
pub fn page(zone: &str) -> String {
    format!("Hello from the provider's server in {zone}.\n")
}
