//! Datagrams.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tracing::debug;

use super::Core;
use crate::packet::Transport;

/// How many datagrams are answered before anything else on this thread gets its turn, from one load of
/// the zones and one look at the clock.
const BURST: usize = 64;
/// How long a query may be. What is longer arrives cut, and so malformed.
const QUERY_MAX: usize = 4_096;

pub(super) async fn serve(socket: UdpSocket, core: Arc<Core>) {
    let socket = Arc::new(socket);
    let mut packet = vec![0; QUERY_MAX];
    let mut reply = Vec::with_capacity(QUERY_MAX);
    let mut stopped = pin!(core.stop.cancelled());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            ready = socket.readable() => if let Err(error) = ready {
                debug!(%error, "datagrams can't be waited for");
                tokio::task::yield_now().await;
            },
        }
        burst(&socket, &core, &mut packet, &mut reply).await;
    }
}

async fn burst(socket: &Arc<UdpSocket>, core: &Arc<Core>, packet: &mut [u8], reply: &mut Vec<u8>) {
    let now = Instant::now();
    for _ in 0..BURST {
        let (length, client) = match socket.try_recv_from(packet) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // Such as the news that a client has closed its socket before our reply arrived.
            Err(error) => {
                debug!(%error, "a datagram could not be received");
                continue;
            }
        };
        reply.clear();
        // After the query came in, so that a change made before it was sent is in the answer.
        let zones = core.zones.load();
        let query = &packet[..length];
        match core.take(&zones, query, client.ip(), now, Transport::Udp, reply) {
            Some(asking) => {
                let (socket, core) = (Arc::clone(socket), Arc::clone(core));
                let tasks = core.tasks.clone();
                tasks.spawn(async move { send(&socket, &asking.ask(core).await, client).await });
            }
            None if reply.is_empty() => {}
            None => match socket.try_send_to(reply, client) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    send(socket, reply, client).await;
                }
                Err(error) => unsent(client, &error),
                Ok(_) => {}
            },
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        unsent(client, &error);
    }
}

/// Lost replies are ordinary: the client asks again.
fn unsent(client: SocketAddr, error: &io::Error) {
    debug!(%client, %error, "a reply could not be sent");
}
