//! Connections (RFC 7766): queries may follow each other without waiting, and replies come in the
//! order in which they are ready.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::Core;
use crate::packet::Transport;

/// How long a query may be; a connection that announces a longer one is closed.
const QUERY_MAX: usize = 4_096;
/// Room for queries that have come and wait: at least one of the longest.
const ROOM: usize = 2 * QUERY_MAX;
/// How many questions of one connection may be on their way to other resolvers. Until one is back,
/// no more are read.
const PIPELINE_MAX: usize = 64;
/// How long accepting waits when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, core: Arc<Core>) {
    let mut stopped = pin!(core.stop.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => accept(stream, client, &core),
            Err(error) if is_one_connections(&error) => debug!(%error, "a connection was lost"),
            Err(error) => {
                warn!(%error, "DNS connections can't be accepted, waiting");
                sleep(NO_ROOM).await;
            }
        }
    }
}

fn accept(stream: TcpStream, client: SocketAddr, core: &Arc<Core>) {
    let Some(place) = core.connections.admit(client.ip()) else {
        core.metrics.connections_refused.inc();
        return;
    };
    let core = Arc::clone(core);
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        core.metrics.connections.inc();
        if let Err(error) = carry(stream, client, &core).await {
            debug!(%client, %error, "a DNS connection ended early");
        }
        core.metrics.connections.dec();
        drop(place);
    });
}

/// Faults of a connection that was on its way in, not of the listener.
fn is_one_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection, until the client closes it, is idle, or the server stops.
async fn carry(mut stream: TcpStream, client: SocketAddr, core: &Arc<Core>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stopped = pin!(core.stop.cancelled());
    let mut input = vec![0; ROOM];
    let mut filled = 0;
    let mut out = Vec::new();
    let mut asking = FuturesUnordered::new();
    let mut open = true;
    let mut idle = pin!(sleep_until(tokio::time::Instant::now() + core.idle));
    loop {
        let mut at = 0;
        let zones = core.zones.load();
        while asking.len() < PIPELINE_MAX {
            let Some(query) = frame(&input[at..filled])? else { break };
            at += 2 + query.len();
            let start = out.len();
            out.extend_from_slice(&[0; 2]);
            let now = Instant::now();
            let asked = core.take(&zones, query, client.ip(), now, Transport::Tcp, &mut out);
            close_frame(&mut out, start);
            asking.extend(asked.map(|asked| asked.ask(Arc::clone(core))));
        }
        drop(zones);
        input.copy_within(at..filled, 0);
        filled -= at;
        if !out.is_empty() {
            timeout(core.idle, stream.write_all(&out)).await??;
            out.clear();
        }
        // Whole queries, and only they, keep a connection open: dripping bytes do not.
        if at > 0 {
            idle.as_mut().reset(tokio::time::Instant::now() + core.idle);
        }
        if !open && asking.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = &mut stopped, if open => open = false,
            Some(reply) = asking.next(), if !asking.is_empty() => {
                let start = out.len();
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(&reply);
                close_frame(&mut out, start);
                idle.as_mut().reset(tokio::time::Instant::now() + core.idle);
            }
            read = stream.read(&mut input[filled..]), if open && filled < ROOM => match read? {
                // Half closed: what was asked is still answered.
                0 => open = false,
                length => filled += length,
            },
            () = &mut idle, if asking.is_empty() => return Ok(()),
        }
    }
}

/// The first query in the buffer, behind its length; `None` when it isn't whole yet.
fn frame(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > QUERY_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a query that is too long"));
    }
    Ok(rest.get(..length))
}

/// Puts the length before what was written behind `start`, or takes it back when nothing was.
fn close_frame(out: &mut Vec<u8>, start: usize) {
    match u16::try_from(out.len() - start - 2) {
        Ok(length) if length > 0 => out[start..start + 2].copy_from_slice(&length.to_be_bytes()),
        _ => out.truncate(start),
    }
}
