//! Who a process is to another: SPIFFE identities, the authority that issues them, and TLS with both.
//!
//! The control plane's [`Authority`] signs short-lived certificates whose one URI name is a SPIFFE id
//! ([`SpiffeId`]); an [`Identity`] is such a certificate with its key, and an [`IdentityHandle`] holds
//! the present one while it is renewed under open servers and clients. Peers check the chain and the
//! SPIFFE id, never a DNS name: hosts move, and what counts is who they are.
//!
//! Not promised: revocation. Certificates live for hours, and an enrolled host that is thrown out is
//! refused by the handlers, which see its id ([`peer_spiffe`]). Sessions are never resumed, so that
//! each handshake proves a certificate that is valid at that moment.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

mod authority;
mod client;
mod connection;
mod files;
mod identity;
mod server;
mod spiffe;

pub use authority::Authority;
pub use client::{ClientTls, Expected};
pub(crate) use connection::Bounds;
pub use connection::{Connection, PeerInfo, peer_info, peer_spiffe, peer_spiffe_of};
pub use identity::{Identity, IdentityHandle, KeyAndCsr};
pub use server::{ClientAuth, ServerTls};
pub use spiffe::{InvalidSpiffeId, SpiffeId};

/// What can go wrong with keys, certificates and their files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or directory could not be read or written.
    #[error("{path} could not be {action}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried: `read`, `written`, ...
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The authority's files contradict each other.
    #[error("the authority in {path} is not usable: {reason}")]
    Authority {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate request is not acceptable; the requester's mistake.
    #[error("the certificate request is not acceptable: {0}")]
    Request(String),
    /// A name for a server certificate is neither a DNS name nor an IP address.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    Name(String),
    /// A PEM text does not hold what it should.
    #[error("the {what} is not valid: {reason}")]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The address to connect to is not `host:port`.
    #[error("`{0}` is not an address of the form host:port")]
    Address(String),
    /// A SPIFFE id is malformed.
    #[error(transparent)]
    Spiffe(#[from] InvalidSpiffeId),
    /// Making or signing a certificate failed.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the configuration.
    #[error("TLS could not be configured")]
    Config(#[from] rustls::Error),
}

/// Makes ring the process's cryptography. Called first thing in `main`; again, it does nothing.
pub fn install_provider() {
    // An error means that a provider is installed already: by an earlier call, as only ring is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The cryptography that this module uses whether or not a default was installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
