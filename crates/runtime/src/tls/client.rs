//! TLS of a gRPC client that checks who the server is by its SPIFFE id.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::identity::roots;
use super::{IdentityHandle, SpiffeId, TlsError, provider};

/// For the TCP connection and the TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between pings on an idle connection; a peer that does not answer within the timeout is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom a client expects at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this id.
    Exactly(SpiffeId),
    /// Any host that our authority enrolled.
    AnyHost,
}

impl Expected {
    fn allows(&self, spiffe: &SpiffeId) -> bool {
        match self {
            Self::Exactly(expected) => spiffe == expected,
            Self::AnyHost => spiffe.as_host().is_some(),
        }
    }
}

impl From<SpiffeId> for Expected {
    fn from(spiffe: SpiffeId) -> Self {
        Self::Exactly(spiffe)
    }
}

/// The TLS side of a client.
#[derive(Clone, Debug)]
pub struct ClientTls {
    who: Who,
    expected: Expected,
}

#[derive(Clone, Debug)]
enum Who {
    Identity(IdentityHandle),
    Anonymous(Arc<RootCertStore>),
}

impl ClientTls {
    /// A client that shows its identity and trusts its identity's authority.
    pub fn mutual(handle: IdentityHandle, expected: impl Into<Expected>) -> Self {
        Self { who: Who::Identity(handle), expected: expected.into() }
    }

    /// A client that has no identity yet and trusts this authority: for joining.
    ///
    /// # Errors
    /// When the PEM text holds no certificate.
    pub fn anonymous(ca_pem: &str, expected: impl Into<Expected>) -> Result<Self, TlsError> {
        let who = Who::Anonymous(Arc::new(roots(ca_pem)?));
        Ok(Self { who, expected: expected.into() })
    }

    /// The configuration for the next handshake: TLS 1.3, HTTP/2.
    ///
    /// # Errors
    /// When TLS cannot be configured with the present identity.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let (roots, certified) = match &self.who {
            Who::Anonymous(roots) => (Arc::clone(roots), None),
            Who::Identity(handle) => {
                let identity = handle.current();
                (identity.roots(), Some(identity.certified()))
            }
        };
        let verifier = SpiffeVerifier {
            roots,
            algorithms: provider().signature_verification_algorithms,
            expected: self.expected.clone(),
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous() // Its danger is a lax verifier: this one checks chain, dates and name.
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match certified {
            None => config.with_no_client_auth(),
            Some(key) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Connects to `host:port` and proves both ends, within 10 s.
    ///
    /// # Errors
    /// When the connection or the handshake fails, with the reason.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = server_name(address).map_err(io::Error::other)?;
        let config = self.config().map_err(io::Error::other)?;
        let connected = timeout(CONNECT_TIMEOUT, async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, stream).await
        });
        connected.await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the connection was not made in time")
        })?
    }

    /// A channel to `host:port` that connects when it is first used, again whenever it must, and each
    /// time with the identity of that moment. A refused handshake is an `Unavailable` status whose
    /// source chain says why.
    ///
    /// # Errors
    /// [`TlsError::Address`] when the address is not `host:port`.
    pub fn channel(&self, address: &str) -> Result<Channel, TlsError> {
        server_name(address)?;
        // The connector does TLS; `http` keeps tonic from doing it again.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| TlsError::Address(address.to_owned()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let (tls, address) = (self.clone(), Arc::<str>::from(address));
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
            let (tls, address) = (tls.clone(), Arc::clone(&address));
            async move { tls.connect(&address).await.map(TokioIo::new) }
        })))
    }
}

fn server_name(address: &str) -> Result<ServerName<'static>, TlsError> {
    let bad = || TlsError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    port.parse::<u16>().map_err(|_| bad())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| bad())
}

/// Checks a server's chain and dates with webpki, then its SPIFFE id. The DNS name or address that
/// was dialled does not matter: it says where the server is, not who.
#[derive(Debug)]
struct SpiffeVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Expected,
}

/// The server has a good certificate of somebody else.
#[derive(Debug, thiserror::Error)]
#[error("the server is {found:?}, but expected was {expected:?}")]
struct WrongPeer {
    found: Option<SpiffeId>,
    expected: Expected,
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = SpiffeId::of_certificate(end_entity);
        if found.as_ref().is_some_and(|found| self.expected.allows(found)) {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongPeer { found, expected: self.expected.clone() };
        Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
