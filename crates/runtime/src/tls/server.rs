//! TLS of a gRPC server, over an identity that may be replaced while it serves.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::identity::{certificates, malformed};
use super::{Identity, IdentityHandle, TlsError, provider};

/// What a server asks of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate of our authority, or no connection.
    Required,
    /// A certificate of our authority, or none: handlers then see no SPIFFE id and decide. A
    /// certificate that does not verify is refused all the same. For a port where hosts join.
    Optional,
}

/// The TLS side of a server.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Mutual { handle: IdentityHandle, auth: ClientAuth, built: Mutex<Option<Built>> },
    Fixed(Arc<ServerConfig>),
}

/// The configuration built for one identity, kept until the identity is replaced.
#[derive(Debug)]
struct Built {
    of: Arc<Identity>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// TLS 1.3 with our identity, and clients' identities checked against its authority.
    pub fn mutual(handle: IdentityHandle, auth: ClientAuth) -> Self {
        Self(Arc::new(Kind::Mutual { handle, auth, built: Mutex::new(None) }))
    }

    /// TLS 1.2 and 1.3 with a certificate and key from PEM files, and no client certificates: for a
    /// port of the public API. The files are read once.
    ///
    /// # Errors
    /// When the files cannot be read, are malformed or do not belong together.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read_to_string(path).map_err(super::files::fault(path, "read"));
        let chain = certificates("certificate", &read(certificate)?)?;
        if chain.is_empty() {
            return Err(malformed("certificate", "it is empty"));
        }
        let key = PrivateKeyDer::from_pem_slice(read(key)?.as_bytes())
            .map_err(|error| malformed("private key", error))?;
        let certified = CertifiedKey::from_der(chain, key, &provider())?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(Kind::Fixed(Arc::new(config)))))
    }

    /// The configuration for the next handshake.
    ///
    /// # Errors
    /// When TLS cannot be configured with the present identity.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let (handle, auth, built) = match &*self.0 {
            Kind::Fixed(config) => return Ok(Arc::clone(config)),
            Kind::Mutual { handle, auth, built } => (handle, *auth, built),
        };
        let identity = handle.current();
        let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|built| Arc::ptr_eq(&built.of, &identity)) {
            return Ok(Arc::clone(&built.config));
        }
        let config = Arc::new(mutual(&identity, auth)?);
        *built = Some(Built { of: identity, config: Arc::clone(&config) });
        Ok(config)
    }
}

fn mutual(identity: &Identity, auth: ClientAuth) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(identity.roots(), provider());
    let verifier = match auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| malformed("authority's certificate", error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session skips the client's certificate, which may have expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
