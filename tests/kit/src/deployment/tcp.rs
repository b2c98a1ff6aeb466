//! Clients and servers of plain TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For an answer on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// For a SYN that is dropped: the kernel has sent it twice by then.
const SILENCE: Duration = Duration::from_millis(1500);

/// A server that sends back what it gets.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    /// Starts one on a port of `address` that the system picks.
    pub async fn start(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port for the target");
        Self::on(listener)
    }

    /// Serves on a listener.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects from `source`.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::TimedOut`] when it says nothing.
pub async fn connect(
    source: Ipv4Addr,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    timeout(patience, socket.connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// A connection that is held open.
#[derive(Debug)]
pub struct Held(TcpStream);

impl Held {
    /// Opens one through to a server that sends back.
    ///
    /// # Errors
    /// When it cannot be opened, or the far side does not send back.
    pub async fn open(source: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let mut held = Self(connect(source, to, PATIENCE).await?);
        held.says_back("hello").await?;
        Ok(held)
    }

    /// Sends a text and reads it back.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn says_back(&mut self, text: &str) -> io::Result<()> {
        let exchange = async {
            self.0.write_all(text.as_bytes()).await?;
            let mut heard = vec![0; text.len()];
            self.0.read_exact(&mut heard).await?;
            if heard == text.as_bytes() {
                Ok(())
            } else {
                Err(io::Error::other(format!("{text:?} came back as {heard:?}")))
            }
        };
        timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Waits until it is cut, and says how: `true` for a reset, `false` for an orderly end.
    ///
    /// # Errors
    /// When it is not cut in `patience`.
    pub async fn cut(mut self, patience: Duration) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        let reading = async {
            loop {
                match self.0.read(&mut buffer).await {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(_) => return true,
                }
            }
        };
        timeout(patience, reading).await.map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

/// Whether a connection goes through to a server that sends back.
///
/// # Errors
/// How it does not.
pub async fn echoes(source: Ipv4Addr, to: SocketAddr) -> io::Result<()> {
    Held::open(source, to).await.map(drop)
}

/// Whether a connection is answered with a reset.
pub async fn refuses(source: Ipv4Addr, to: SocketAddr) -> bool {
    let refused = connect(source, to, PATIENCE).await;
    refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether nobody answers.
pub async fn times_out(source: Ipv4Addr, to: SocketAddr) -> bool {
    let silent = connect(source, to, SILENCE).await;
    silent.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
}
