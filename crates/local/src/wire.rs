//! The few bytes of PostgreSQL's protocol (version 3) that creating a database takes.
//!
//! A client library would bring the fence down that keeps SQL in the services' stores, and `createdb` is
//! not in every installation. This asks one simple query over loopback, with the clear-text password
//! that our own clusters are set up for.

use crate::Error;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Creating a database copies a few megabytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// No message of the answers looked at here comes near this.
const LARGEST_MESSAGE: usize = 1 << 20;

/// What the server says in an ErrorResponse: the SQLSTATE and the text.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// Runs `statement` in `database` as the superuser. The inner error is the server's own.
pub(crate) async fn execute(
    port: u16,
    password: &str,
    database: &str,
    statement: &str,
) -> Result<Result<(), Complaint>, Error> {
    timeout(PATIENCE, converse(port, password, database, statement))
        .await
        .map_err(|_| Error::TooSlow { what: "answer", seconds: PATIENCE.as_secs() })?
        .map_err(|e| Error::Server(e.to_string()))
}

async fn converse(
    port: u16,
    password: &str,
    database: &str,
    statement: &str,
) -> std::io::Result<Result<(), Complaint>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut startup = 196_608u32.to_be_bytes().to_vec(); // 3.0
    for text in ["user", "postgres", "database", database, ""] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    send(&mut stream, None, &startup).await?;
    loop {
        let (kind, body) = receive(&mut stream).await?;
        match (kind, body.get(..4)) {
            (b'R', Some([0, 0, 0, 3])) => {
                send(&mut stream, Some(b'p'), &terminated(password)).await?
            }
            (b'E', _) => return Ok(Err(complaint(&body))),
            (b'Z', _) => break,
            _ => {}
        }
    }
    send(&mut stream, Some(b'Q'), &terminated(statement)).await?;
    let mut outcome = Ok(());
    loop {
        match receive(&mut stream).await? {
            (b'E', body) => outcome = Err(complaint(&body)),
            (b'Z', _) => break,
            _ => {}
        }
    }
    send(&mut stream, Some(b'X'), &[]).await?;
    Ok(outcome)
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A message: its kind (the first one has none), its length with the length itself, its body.
async fn send(stream: &mut TcpStream, kind: Option<u8>, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(std::io::Error::other)?;
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).await
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await? as usize;
    if !(4..=LARGEST_MESSAGE).contains(&length) {
        return Err(std::io::Error::other("not PostgreSQL's protocol"));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn complaint(body: &[u8]) -> Complaint {
    let mut complaint = Complaint::default();
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'C', code)) => complaint.code = String::from_utf8_lossy(code).into_owned(),
            Some((b'M', text)) => complaint.message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    complaint
}
