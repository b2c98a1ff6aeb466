//! The accept loop: one bad accept or handshake never ends it, and none waits for another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::Limits;
use crate::shutdown::Stop;
use crate::tls::{Bounds, Connection, ServerTls};

/// After a failed accept, which most often means that descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Hands accepted connections on, after their handshake, until `stop` or until nobody takes them.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<ServerTls>,
    limits: Limits,
    stop: Stop,
    out: mpsc::Sender<io::Result<Connection>>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let turns = Arc::new(Semaphore::new(limits.handshakes));
    let mut handshakes = JoinSet::new(); // Dropped with this function, which cuts what is left.
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, remote, permit) = tokio::select! {
            () = stop.stopped() => return,
            () = out.closed() => return,
            accepted = accept(&listener, &slots) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let bounds = Bounds { kill: stop.kill.clone(), preface: limits.handshake_timeout, permit };
        let out = out.clone();
        match &tls {
            // In its own task as well: a full queue must not keep this loop from seeing `stop`.
            None => handshakes.spawn(async move {
                let _ = out.send(Ok(Connection::plain(stream, remote, bounds))).await;
            }),
            Some(tls) => {
                let (tls, turns) = (tls.clone(), Arc::clone(&turns));
                handshakes.spawn(async move {
                    let shaken =
                        timeout(limits.handshake_timeout, handshake(stream, tls, turns)).await;
                    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                        Ok(stream) => {
                            let _ = out.send(Ok(Connection::tls(stream, remote, bounds))).await;
                        }
                        // The peer's fault, and a port scanner must not fill the log.
                        Err(error) => debug!(%remote, %error, "a TLS handshake failed"),
                    }
                })
            }
        };
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, remote) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, remote, permit))
}

async fn handshake(
    stream: TcpStream,
    tls: ServerTls,
    turns: Arc<Semaphore>,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let _turn = turns.acquire_owned().await.map_err(io::Error::other)?;
    let config = tls.config().map_err(|error| {
        warn!(%error, "TLS is not usable with the present identity");
        io::Error::other(error)
    })?;
    TlsAcceptor::from(config).accept(stream).await
}
