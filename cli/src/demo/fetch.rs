//! An HTTP client in the consumer's VPC: it connects from an address that is given, to an address that
//! its resolver gave.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// How a fetch ended without a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPage {
    /// The address answered with a reset.
    Reset,
    /// Nobody answered.
    TimedOut,
    /// Anything else.
    Other(String),
}

/// Fetches `http://name:port/` at `address`, from `source`.
pub async fn page(
    name: &str,
    address: Ipv4Addr,
    port: u16,
    source: Ipv4Addr,
    timeout: Duration,
) -> Result<String, NoPage> {
    let client = reqwest::Client::builder()
        .local_address(IpAddr::V4(source))
        .resolve(name, SocketAddr::from((address, port)))
        .no_proxy()
        .timeout(timeout)
        .build()
        .map_err(|error| NoPage::Other(error.to_string()))?;
    let response = client
        .get(format!("http://{name}:{port}/"))
        .send()
        .await
        .map_err(|error| no_page(&error))?;
    match response.status() {
        StatusCode::OK => response.text().await.map_err(|error| no_page(&error)),
        status => Err(NoPage::Other(format!("HTTP status {status}"))),
    }
}

fn no_page(error: &reqwest::Error) -> NoPage {
    if error.is_timeout() {
        return NoPage::TimedOut;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && is_reset(error)
        {
            return NoPage::Reset;
        }
        cause = error.source();
    }
    NoPage::Other(format!("{error:?}"))
}

fn is_reset(error: &io::Error) -> bool {
    // A reset that answers a SYN is a refusal in the words of the socket API.
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// A connection that is held open, to see when it is cut.
pub struct Held(TcpStream);

impl Held {
    /// Connects, sends the first request and reads the first bytes of its answer.
    pub async fn open(address: Ipv4Addr, port: u16, source: Ipv4Addr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let mut stream = socket.connect(SocketAddr::from((address, port))).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: held\r\n\r\n").await?;
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Self(stream)),
        }
    }

    /// Waits until the connection is cut with a reset; an orderly end is no reset.
    pub async fn reset(mut self, timeout: Duration) -> Result<(), NoPage> {
        let mut buffer = [0; 4096];
        let reading = async {
            loop {
                match self.0.read(&mut buffer).await {
                    Ok(0) => return Err(NoPage::Other("closed in order, not reset".to_owned())),
                    Ok(_) => {}
                    Err(error) if is_reset(&error) => return Ok(()),
                    Err(error) => return Err(NoPage::Other(error.to_string())),
                }
            }
        };
        tokio::time::timeout(timeout, reading).await.unwrap_or(Err(NoPage::TimedOut))
    }
}
