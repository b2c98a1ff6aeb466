//! The one way out for webhooks (design 16): resolve once, check every address, connect to just
//! these. It is the connector of the HTTP client, so nothing is sent past it: names, address
//! literals, confirmations and retries all come through here.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::outbound::{Forbidden, OutboundPolicy};

/// For the TCP connection to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync + std::fmt::Debug {
    /// The addresses of a name, in the order to try them.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address names no host, or a scheme that isn't the web's.
    #[error("the address has no host that could be dialled")]
    Address,
    /// The outbound policy forbids it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The name has no address.
    #[error("the name {0} does not resolve")]
    Name(String, #[source] Option<io::Error>),
    /// Nothing answers there.
    #[error("cannot connect to {0}")]
    Connect(SocketAddr, #[source] io::Error),
    /// The other end proves nothing that we trust.
    #[error("the TLS handshake with {0} failed")]
    Handshake(SocketAddr, #[source] io::Error),
}

/// The address that a connection was made to; left on responses by the HTTP client.
#[derive(Clone, Copy, Debug)]
pub struct Dialled(pub SocketAddr);

/// Dials. Clones share everything.
#[derive(Clone, Debug)]
pub struct Dialer {
    policy: Arc<OutboundPolicy>,
    resolver: Arc<dyn Resolver>,
    tls: Arc<rustls::ClientConfig>,
}

impl Dialer {
    /// A dialer under this policy.
    pub fn new(
        policy: OutboundPolicy,
        resolver: Arc<dyn Resolver>,
        tls: Arc<rustls::ClientConfig>,
    ) -> Self {
        Self { policy: Arc::new(policy), resolver, tls }
    }

    /// The policy that it dials under.
    pub fn policy(&self) -> &OutboundPolicy {
        &self.policy
    }

    /// A connection to where `uri` points, with TLS when that is `https`.
    ///
    /// # Errors
    /// When the policy forbids it, or there is no connection to be had.
    pub async fn dial(&self, uri: &Uri) -> Result<Dial, DialError> {
        let host = uri.host().ok_or(DialError::Address)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(DialError::Address),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        self.policy.check_port(port)?;
        let (tcp, address) = self.connect(host, port).await?;
        if !secure {
            return Ok(Dial { stream: Stream::Plain(tcp), address });
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| DialError::Address)?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp);
        let stream = timeout(HANDSHAKE, handshake)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| DialError::Handshake(address, error))?;
        Ok(Dial { stream: Stream::Tls(Box::new(stream)), address })
    }

    async fn connect(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
        let addresses = self.resolve(host).await?;
        // All of them, before any is dialled: a name that points inside and outside is a trick.
        for address in &addresses {
            self.policy.check(host, *address)?;
        }
        let mut failure = DialError::Name(host.to_owned(), None);
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            let address = SocketAddr::new(address.to_canonical(), port);
            let connected = timeout(CONNECT, TcpStream::connect(address))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match connected {
                Ok(tcp) => {
                    // Requests are written whole; waiting for more would only delay them.
                    let _ = tcp.set_nodelay(true);
                    return Ok((tcp, address));
                }
                Err(error) => failure = DialError::Connect(address, error),
            }
        }
        Err(failure)
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, DialError> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        self.resolver
            .resolve(host)
            .await
            .map_err(|error| DialError::Name(host.to_owned(), Some(error)))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Dial>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(&uri).await.map(TokioIo::new) })
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open connection.
#[derive(Debug)]
pub struct Dial {
    stream: Stream,
    address: SocketAddr,
}

impl Connection for Dial {
    fn connected(&self) -> Connected {
        Connected::new().extra(Dialled(self.address))
    }
}

impl AsyncRead for Dial {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Dial {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[derive(Debug)]
    struct Names(Vec<IpAddr>);

    #[async_trait]
    impl Resolver for Names {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    fn dialer(allow: &[&str], addresses: &[&str]) -> Dialer {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let allow = allow.iter().map(|range| range.parse().unwrap()).collect();
        let names = Names(addresses.iter().map(|address| address.parse().unwrap()).collect());
        let policy = OutboundPolicy { allow, ..Default::default() };
        Dialer::new(policy, Arc::new(names), Arc::new(tls))
    }

    #[tokio::test]
    async fn names_and_literals_that_lead_inside_are_not_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["inside.test", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let uri: Uri = format!("http://{host}:{port}/").parse().unwrap();
            let error = dialer(&[], &["127.0.0.1"]).dial(&uri).await.unwrap_err();
            assert!(matches!(error, DialError::Forbidden(Forbidden::Address(_))), "{error:?}");
        }
        let uri: Uri = format!("http://inside.test:{port}/").parse().unwrap();
        let dialled = dialer(&["127.0.0.0/8"], &["127.0.0.1"]).dial(&uri).await.unwrap();
        assert_eq!(dialled.address, listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn one_forbidden_address_among_good_ones_forbids_the_name() {
        let uri: Uri = "http://mixed.test:8080/".parse().unwrap();
        let error = dialer(&[], &["1.1.1.1", "10.0.0.1"]).dial(&uri).await.unwrap_err();
        assert!(matches!(error, DialError::Forbidden(_)), "{error:?}");
    }
}
