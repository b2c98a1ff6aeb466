//! The sockets round one VPC's zones, over UDP and TCP (RFC 1035, 7766, 6891).
//!
//! The datagrams have one task and each connection has one. A query about a name of ours is answered
//! by the task that read it. One for other resolvers goes on its way beside it, and its reply is sent
//! when it is there, in whatever order that is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::forward::{Admitted, Forward};
use crate::handle::ZoneHandle;
use crate::metrics::{Ending, Metrics};
use crate::packet::{self, Forwarded, Transport, Verdict};
use crate::zones::Zones;

mod limits;
mod tcp;
mod udp;

use limits::{Connections, Rate};

/// How often two free ports of one number are looked for.
const BIND_ATTEMPTS: usize = 16;

/// How much clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many packets a client's address may send in a second; more are dropped. AWS has 1024 for an
    /// interface (spec 3.4). `None`: as many as it likes.
    pub packets_per_second: Option<NonZeroU32>,
    /// How many TCP connections there may be.
    pub connections: usize,
    /// How many of them a client's address may have.
    pub connections_per_client: usize,
    /// After how long without a whole query, or with a reply that isn't taken, a connection is closed.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packets_per_second: NonZeroU32::new(1_024),
            connections: 1_024,
            connections_per_client: 128,
            idle: Duration::from_secs(10),
        }
    }
}

/// The sockets of a resolver: UDP and TCP at one address. They are opened apart from the server, so
/// that it can be done in another network namespace than the one it runs in.
#[derive(Debug)]
pub struct Sockets {
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    address: SocketAddr,
}

impl Sockets {
    /// Opens them in the network namespace of the calling thread. Port 0 is any that both have free.
    ///
    /// # Errors
    ///
    /// The address isn't there or is taken, or the port needs a privilege.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { BIND_ATTEMPTS } else { 1 };
        loop {
            let tcp = std::net::TcpListener::bind(address)?;
            let at = tcp.local_addr()?;
            match std::net::UdpSocket::bind(at) {
                Ok(udp) => return Self::new(udp, tcp),
                Err(error) if attempts > 1 && error.kind() == io::ErrorKind::AddrInUse => {
                    attempts -= 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes sockets that are bound already, to one address.
    ///
    /// # Errors
    ///
    /// Sockets that have no address.
    pub fn new(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let address = udp.local_addr()?;
        Ok(Self { udp, tcp, address })
    }

    /// Where they are.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// A resolver can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sockets can't be used.
    #[error("the sockets at {0} can't be used")]
    Sockets(SocketAddr, #[source] io::Error),
    /// Questions would come back for ever.
    #[error("{0} is this resolver's own address: it can't ask itself")]
    AsksItself(SocketAddr),
}

/// The resolver of one VPC. Dropping it stops it; [`Server::stop`] waits until it has.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Server {
    /// Starts to answer at the sockets, on the current tokio runtime, until `stop` is cancelled.
    ///
    /// # Errors
    ///
    /// Sockets that can't be used, and other resolvers that are this one.
    pub fn start(
        sockets: Sockets,
        zones: ZoneHandle,
        forward: Forward,
        limits: Limits,
        metrics: Metrics,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let Sockets { udp, tcp, address } = sockets;
        if forward.leads_to(address) {
            return Err(StartError::AsksItself(address));
        }
        let unusable = |error| StartError::Sockets(address, error);
        let udp = tokio::net::UdpSocket::from_std(udp).map_err(unusable)?;
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(unusable)?;
        let tasks = TaskTracker::new();
        let stop = stop.child_token();
        let core = Arc::new(Core {
            zones,
            forward,
            rate: Rate::new(limits.packets_per_second),
            connections: Connections::new(limits.connections, limits.connections_per_client),
            idle: limits.idle,
            metrics,
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        tasks.spawn(udp::serve(udp, Arc::clone(&core)));
        tasks.spawn(tcp::serve(tcp, core));
        tasks.close();
        debug!(%address, "resolver started");
        Ok(Self { address, tasks, stop: stop.drop_guard() })
    }

    /// Where it answers.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more queries, sends the replies that are on their way, and closes the sockets. This
    /// takes no longer than the deadline of forwarding and the idle time of a connection.
    pub async fn stop(self) {
        let Self { address, tasks, stop } = self;
        stop.disarm().cancel();
        tasks.wait().await;
        debug!(%address, "resolver stopped");
    }
}

/// What the tasks of a server share.
struct Core {
    zones: ZoneHandle,
    forward: Forward,
    rate: Rate,
    connections: Arc<Connections>,
    idle: Duration,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Core {
    /// Answers one packet into `out`, or gives back the question that goes to other resolvers.
    fn take(
        &self,
        zones: &Zones,
        packet: &[u8],
        client: IpAddr,
        now: Instant,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Option<Asking> {
        if !self.rate.allows(client, now) {
            self.metrics.ended(transport, Ending::RateLimited);
            return None;
        }
        let recursion = self.forward.is_configured();
        let ending = match packet::respond(zones, packet, transport, recursion, out) {
            Verdict::Silent(ending) | Verdict::Reply(ending) => ending,
            Verdict::Forward(question) => match self.forward.admit() {
                Some(admitted) => return Some(Asking { admitted, question, transport }),
                None => {
                    let reply = question.reply(ResponseCode::ServFail, vec![], vec![]);
                    out.extend_from_slice(&reply);
                    Ending::Overloaded
                }
            },
        };
        self.metrics.ended(transport, ending);
        None
    }
}

/// A question that may go to other resolvers.
struct Asking {
    admitted: Admitted,
    question: Box<Forwarded>,
    transport: Transport,
}

impl Asking {
    /// Asks. The reply is ready to be sent.
    async fn ask(self, core: Arc<Core>) -> Vec<u8> {
        let (reply, ending) = self.admitted.resolve(*self.question, &core.metrics).await;
        core.metrics.ended(self.transport, ending);
        reply
    }
}
