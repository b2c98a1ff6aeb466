//! An accepted connection, and what handlers can learn about its peer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::SpiffeId;

/// HTTP/2's client preface (RFC 9113, section 3.4): before it has come, nothing else bounds the wait.
const PREFACE_BYTES: usize = 24;

/// What is known of the peer of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Where it connected from.
    pub remote: SocketAddr,
    /// Who it is, proven in the handshake; `None` without a client certificate of ours.
    pub spiffe: Option<SpiffeId>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// The peer of a request that came through [`crate::grpc::serve`].
pub fn peer_info<T>(request: &tonic::Request<T>) -> Option<&PeerInfo> {
    request.extensions().get()
}

/// The proven identity of a request's peer; `None` when it showed no certificate.
pub fn peer_spiffe<T>(request: &tonic::Request<T>) -> Option<SpiffeId> {
    peer_info(request).and_then(|peer| peer.spiffe.clone())
}

/// As [`peer_spiffe`], for tower layers that see an HTTP request.
pub fn peer_spiffe_of(extensions: &http::Extensions) -> Option<SpiffeId> {
    extensions.get::<PeerInfo>().and_then(|peer| peer.spiffe.clone())
}

/// An accepted connection. It counts against the server's limit until it is dropped, it fails when the
/// server is killed, and when the client does not begin to speak in time.
pub struct Connection {
    stream: Stream,
    peer: PeerInfo,
    killed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs until the preface has come.
    silence: Option<Pin<Box<Sleep>>>,
    read: usize,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What both kinds of connection share while they live.
pub(crate) struct Bounds {
    pub(crate) kill: CancellationToken,
    pub(crate) preface: Duration,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn plain(stream: TcpStream, remote: SocketAddr, bounds: Bounds) -> Self {
        let peer = PeerInfo { remote, spiffe: None, encrypted: false };
        Self::new(Stream::Plain(stream), peer, bounds)
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>, remote: SocketAddr, bounds: Bounds) -> Self {
        let certificates = stream.get_ref().1.peer_certificates();
        let leaf = certificates.and_then(|certificates| certificates.first());
        let spiffe = leaf.and_then(|leaf| SpiffeId::of_certificate(leaf));
        let peer = PeerInfo { remote, spiffe, encrypted: true };
        Self::new(Stream::Tls(Box::new(stream)), peer, bounds)
    }

    fn new(stream: Stream, peer: PeerInfo, Bounds { kill, preface, permit }: Bounds) -> Self {
        Self {
            stream,
            peer,
            killed: Box::pin(kill.cancelled_owned()),
            silence: Some(Box::pin(sleep(preface))),
            read: 0,
            _permit: permit,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // HTTP/2 always has a read pending, so looking here is looking all the time.
        if this.killed.as_mut().poll(cx).is_ready() {
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the server was stopped");
            return Poll::Ready(Err(error));
        }
        if this.silence.as_mut().is_some_and(|silence| silence.as_mut().poll(cx).is_ready()) {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client did not speak");
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let polled = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if this.silence.is_some() {
            this.read += buf.filled().len() - before;
            if this.read >= PREFACE_BYTES {
                this.silence = None;
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
