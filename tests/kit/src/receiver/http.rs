//! One connection of the receiver.

use super::{Behaviour, Received, State};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Larger heads and bodies are a fault of the sender under test (bytes).
const LARGEST_HEAD: u64 = 64 << 10;
const LARGEST_BODY: usize = 4 << 20;

/// A stream over a TCP socket.
pub(super) trait OverTcp: AsyncRead + AsyncWrite + Unpin + Send {
    fn socket(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection until the client closes it or a behaviour ends it.
pub(super) async fn serve(stream: impl OverTcp, state: &State) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read(&mut stream).await? {
        let path = request.path.split('?').next().unwrap_or_default().to_owned();
        let confirm = {
            let mut plans = state.plans();
            let next = plans.next.get_mut(&path).and_then(std::collections::VecDeque::pop_front);
            let always = plans.always.get(&path).cloned().unwrap_or(Behaviour::Status(200));
            request.behaviour = next.unwrap_or(always);
            plans.confirm && request.behaviour == Behaviour::Status(200)
        };
        let (behaviour, link) = (request.behaviour.clone(), subscribe_url(&request.body));
        state.received.send_modify(|received| {
            request.number = received.len();
            received.push(request);
        });
        answer(&mut stream, behaviour).await?;
        if let Some(link) = link.filter(|_| confirm) {
            visit(&link).await?;
        }
    }
    Ok(())
}

/// The next request; `None` when the client has closed the connection.
async fn read(stream: &mut BufReader<impl OverTcp>) -> Result<Option<Received>> {
    let mut lines = Vec::new();
    let mut head = stream.take(LARGEST_HEAD);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line).await? == 0 {
            ensure!(lines.is_empty(), "a request broken off, or a head that is too long");
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first().context("an empty head")?.split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let path = first.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    ensure!(!headers.contains_key("transfer-encoding"), "only bodies of a stated length");
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
    ensure!(length <= LARGEST_BODY, "a body of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (number, at, behaviour) = (0, Instant::now(), Behaviour::Hang);
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Received { number, at, method, path, headers, body, behaviour }))
}

async fn answer(stream: &mut BufReader<impl OverTcp>, behaviour: Behaviour) -> Result<()> {
    let plain = |status: u16, more: &str, length: usize| {
        format!("HTTP/1.1 {status} -\r\n{more}content-length: {length}\r\n\r\n")
    };
    match behaviour {
        Behaviour::Status(status) => stream.write_all(plain(status, "", 0).as_bytes()).await?,
        Behaviour::Redirect(to) => {
            let location = format!("location: {to}\r\n");
            stream.write_all(plain(302, &location, 0).as_bytes()).await?;
        }
        Behaviour::HugeBody(length) => {
            stream.write_all(plain(200, "", length).as_bytes()).await?;
            stream.write_all(&vec![b'x'; length]).await?;
        }
        Behaviour::Trickle(every) => {
            stream.write_all(plain(200, "", usize::MAX >> 1).as_bytes()).await?;
            loop {
                stream.write_all(b"x").await?;
                stream.flush().await?;
                tokio::time::sleep(every).await;
            }
        }
        Behaviour::Answer { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            stream.write_all(plain(status, &headers, body.len()).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
        }
        Behaviour::TrickleHead(every) => {
            for byte in b"HTTP/1.1 200 -\r\nx-long: ".iter().chain(std::iter::repeat(&b'x')) {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(every).await;
            }
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => {
            // Closing a socket that lingers for no time sends RST.
            let socket = socket2::SockRef::from(stream.get_ref().socket());
            socket.set_linger(Some(Duration::ZERO))?;
            anyhow::bail!("reset as told");
        }
    }
    Ok(stream.flush().await?)
}

fn subscribe_url(body: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(body).ok()?;
    (message.get("Type")? == "SubscriptionConfirmation")
        .then(|| message.get("SubscribeURL")?.as_str().map(str::to_owned))?
}

async fn visit(link: &str) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    client.get(link).send().await?.error_for_status()?;
    Ok(())
}
