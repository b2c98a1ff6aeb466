//! A resolver with few names, clients of it, and other resolvers for it to ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use postern_model::desired::{self, RecordData};
use postern_zones::{
    Forward, ForwardConfig, Limits, Metrics, Server, Sockets, Upstreams, ZoneHandle, Zones,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) const REGIONAL: &str = "vpce-1-abc.svc.us-east-1.vpce.amazonaws.com";
pub(crate) const MANY: &str = "vpce-2-abc.svc.us-east-1.vpce.amazonaws.com";
pub(crate) const PRIVATE: &str = "api.example.com";

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Zones with an endpoint at `address` and the one above it, its private name, and an endpoint with a
/// hundred addresses.
pub(crate) fn zones(address: Ipv4Addr) -> Zones {
    let mut builder = Zones::builder("vpce.amazonaws.com").unwrap();
    builder.zone("svc.us-east-1.vpce.amazonaws.com").unwrap();
    builder.zone(PRIVATE).unwrap();
    let next = Ipv4Addr::from(u32::from(address) + 1);
    for (name, data) in [
        (REGIONAL, RecordData::Addresses(vec![address, next])),
        (MANY, RecordData::Addresses((0..100).map(|last| [10, 0, 9, last].into()).collect())),
        (PRIVATE, RecordData::Alias(REGIONAL.to_owned())),
    ] {
        builder.record(&desired::Record { name: name.to_owned(), ttl_seconds: 60, data }).unwrap();
    }
    builder.build()
}

pub(crate) struct World {
    pub(crate) zones: ZoneHandle,
    pub(crate) metrics: Metrics,
    pub(crate) server: Server,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Forward::none(), Limits::default())
    }

    pub(crate) fn with(forward: Forward, limits: Limits) -> Self {
        let zones = ZoneHandle::new(zones([10, 0, 0, 4].into()));
        let metrics = Metrics::default();
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let stop = CancellationToken::new();
        let server =
            Server::start(sockets, zones.clone(), forward, limits, metrics.clone(), &stop).unwrap();
        Self { zones, metrics, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }
}

pub(crate) fn forward_to(address: SocketAddr) -> ForwardConfig {
    let upstreams = Upstreams::Addresses(vec![address]);
    ForwardConfig { upstreams, ..ForwardConfig::default() }
}

pub(crate) fn query(id: u16, name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, record_type));
    message
}

pub(crate) async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut reply = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut reply)).await.expect("a reply").unwrap();
    Message::from_vec(&reply[..length]).unwrap()
}

pub(crate) async fn ask_tcp(server: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(&framed(message)).await.unwrap();
    read_framed(&mut stream).await.expect("a reply")
}

pub(crate) fn framed(message: &Message) -> Vec<u8> {
    let packet = message.to_vec().unwrap();
    [&(packet.len() as u16).to_be_bytes()[..], &packet].concat()
}

/// The next message; `None` at the end of the stream.
pub(crate) async fn read_framed(stream: &mut TcpStream) -> Option<Message> {
    let read = async {
        let length = stream.read_u16().await.ok()?;
        let mut packet = vec![0; usize::from(length)];
        stream.read_exact(&mut packet).await.ok()?;
        Some(Message::from_vec(&packet).unwrap())
    };
    timeout(PATIENCE, read).await.expect("a reply or the end")
}

/// The addresses in an answer, sorted.
pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let mut list: Vec<_> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .collect();
    list.sort();
    list
}

/// Waits until it is true, looking again and again.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let looking = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Another resolver. It says what `answer` says, or nothing.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start(answer: fn(&Message) -> Option<Message>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&asked);
        tasks.spawn(async move {
            let mut packet = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut packet).await {
                count.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_vec(&packet[..length]).unwrap();
                let Some(mut reply) = answer(&question) else { continue };
                if reply.to_vec().unwrap().len() > 1_232 {
                    reply = reply.truncate();
                }
                udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        });
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = tcp.accept().await {
                connections.spawn(async move {
                    while let Some(question) = read_framed(&mut stream).await {
                        let Some(reply) = answer(&question) else { continue };
                        if stream.write_all(&framed(&reply)).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    /// How many questions came over UDP.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An answer of another resolver, to be filled.
pub(crate) fn answering(question: &Message) -> Message {
    let mut reply = Message::new(question.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.add_queries(question.queries.clone());
    reply
}

pub(crate) fn a(name: &Name, address: [u8; 4]) -> Record {
    Record::from_rdata(name.clone(), 300, RData::A(rdata::A(address.into())))
}
