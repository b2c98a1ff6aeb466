//! The server over real sockets: both transports, limits, changes under load.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use postern_zones::packet::Transport;
use postern_zones::{Ending, Forward, Limits, Metrics, Server, Sockets, StartError, ZoneHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::support::*;

const OLD: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 4), Ipv4Addr::new(10, 0, 0, 5)];

/// A stub resolver as a program would use it.
fn stub(world: &World) -> TokioResolver {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = world.address().port();
        connection
    });
    let server = NameServerConfig::new(world.address().ip(), true, connections.to_vec());
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
}

#[tokio::test]
async fn a_stub_resolver_finds_an_endpoint_by_its_private_name() {
    let world = World::new();
    let lookup = stub(&world).lookup("api.example.com.", RecordType::A).await.unwrap();
    let answers = lookup.answers();
    assert!(
        matches!(&answers[0].data, RData::CNAME(to) if to.0.to_ascii() == format!("{REGIONAL}."))
    );
    assert_eq!(answers.len(), 3);
    let absent = stub(&world).lookup("gone.vpce.amazonaws.com.", RecordType::A).await.unwrap_err();
    assert!(absent.is_nx_domain());
    assert_eq!(absent.into_soa().unwrap().ttl, 60);
}

#[tokio::test]
async fn a_stub_resolver_gets_what_is_too_long_for_a_datagram() {
    let world = World::new();
    let lookup = stub(&world).lookup(format!("{MANY}."), RecordType::A).await.unwrap();
    assert_eq!(lookup.answers().len(), 100);
    assert_eq!(world.metrics.count(Transport::Udp, Ending::Answered), 1);
    assert_eq!(world.metrics.count(Transport::Tcp, Ending::Answered), 1);
}

#[tokio::test]
async fn the_first_address_is_another_one_each_time() {
    let world = World::new();
    let asked = query(7, REGIONAL, RecordType::A);
    let mut first = Vec::new();
    for _ in 0..4 {
        let reply = ask_udp(world.address(), &asked).await;
        assert_eq!(addresses(&reply), OLD);
        first.push(reply.answers[0].data.clone());
    }
    assert!(first[0] == first[2] && first[1] == first[3] && first[0] != first[1]);
}

#[tokio::test]
async fn queries_over_tcp_need_not_wait_for_each_other() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let ids = 0..500;
    let all: Vec<u8> =
        ids.clone().flat_map(|id| framed(&query(id, REGIONAL, RecordType::A))).collect();
    stream.write_all(&all).await.unwrap();
    for id in ids {
        let reply = read_framed(&mut stream).await.expect("a reply");
        assert_eq!((reply.id, addresses(&reply).len()), (id, 2));
    }
}

#[tokio::test]
async fn a_query_over_tcp_may_come_in_pieces_and_before_the_end_of_the_stream() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    for byte in framed(&query(9, REGIONAL, RecordType::A)) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.shutdown().await.unwrap();
    assert_eq!(addresses(&read_framed(&mut stream).await.expect("a reply")), OLD);
    assert!(read_framed(&mut stream).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_zones_is_seen_whole_and_at_once() {
    let world = World::new();
    let (address, changed) = (world.address(), Arc::new(AtomicBool::new(false)));
    let asking = |tcp: bool| {
        let changed = Arc::clone(&changed);
        tokio::spawn(async move {
            let asked = query(1, REGIONAL, RecordType::A);
            let (mut before, mut after) = (0, 0);
            while after < 20 {
                let must_be_new = changed.load(Ordering::SeqCst);
                let reply = match tcp {
                    true => ask_tcp(address, &asked).await,
                    false => ask_udp(address, &asked).await,
                };
                let list = addresses(&reply);
                match () {
                    () if list == OLD && !must_be_new => before += 1,
                    () if list[0] == Ipv4Addr::new(10, 7, 0, 4) && list.len() == 2 => after += 1,
                    () => panic!("{must_be_new} {list:?}"),
                }
            }
            before
        })
    };
    let clients = [asking(false), asking(true), asking(false)];
    until("some answers", || world.metrics.count(Transport::Udp, Ending::Answered) > 20).await;
    world.zones.swap(zones([10, 7, 0, 4].into()));
    changed.store(true, Ordering::SeqCst);
    for client in clients {
        timeout(PATIENCE, client).await.expect("new answers").unwrap();
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_however_it_drips() {
    let idle = Duration::from_millis(150);
    let world = World::with(Forward::none(), Limits { idle, ..Limits::default() });
    let mut silent = TcpStream::connect(world.address()).await.unwrap();
    let mut dripping = TcpStream::connect(world.address()).await.unwrap();
    let drip = async {
        let began = Instant::now();
        // A length of 4096, and never as many bytes.
        while dripping.write_all(&[16]).await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "still open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (end, ()) = tokio::join!(read_framed(&mut silent), drip);
    assert!(end.is_none());
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_no_more() {
    let limits = Limits { connections_per_client: 2, ..Limits::default() };
    let world = World::with(Forward::none(), limits);
    let asked = framed(&query(1, REGIONAL, RecordType::A));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(world.address()).await.unwrap();
        stream.write_all(&asked).await.unwrap();
        assert!(read_framed(&mut stream).await.is_some());
        held.push(stream);
    }
    let mut third = TcpStream::connect(world.address()).await.unwrap();
    assert!(read_framed(&mut third).await.is_none());
    drop(held);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(world.address()).await.unwrap();
            if stream.write_all(&asked).await.is_ok() && read_framed(&mut stream).await.is_some() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_query_that_is_too_long_ends_the_connection() {
    let world = World::new();
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    assert!(read_framed(&mut stream).await.is_none());
}

#[tokio::test]
async fn more_packets_than_a_clients_share_are_dropped() {
    let limits = Limits { packets_per_second: NonZeroU32::new(5), ..Limits::default() };
    let world = World::with(Forward::none(), limits);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let packet = query(1, REGIONAL, RecordType::A).to_vec().unwrap();
    for _ in 0..40 {
        socket.send_to(&packet, world.address()).await.unwrap();
    }
    let counted = |ending| world.metrics.count(Transport::Udp, ending);
    until("all counted", || counted(Ending::Answered) + counted(Ending::RateLimited) == 40).await;
    // The second may have turned in between, once or, on a slow machine, twice.
    assert!((5..=15).contains(&counted(Ending::Answered)), "{}", counted(Ending::Answered));
    // Another address has a share of its own.
    let other = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.send_to(&packet, world.address()).await.unwrap();
    let mut reply = [0; 512];
    timeout(PATIENCE, other.recv(&mut reply)).await.expect("a reply").unwrap();
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let world = World::new();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in 0..200 {
        let garbage: Vec<u8> = (0..length).map(|at| (at * 37 + length * 11) as u8).collect();
        socket.send_to(&garbage, world.address()).await.unwrap();
    }
    socket.send_to(&vec![0; 9_000], world.address()).await.unwrap();
    let reply = ask_udp(world.address(), &query(3, REGIONAL, RecordType::A)).await;
    assert_eq!(addresses(&reply), OLD);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_when_nobody_else_can_be_asked() {
    let world = World::new();
    let reply = ask_udp(world.address(), &query(3, "www.example.org", RecordType::A)).await;
    assert_eq!(reply.response_code, ResponseCode::Refused);
    assert!(!reply.recursion_available);
}

#[tokio::test]
async fn a_stopped_resolver_leaves_its_address_to_the_next() {
    let world = World::new();
    let address = world.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&framed(&query(1, REGIONAL, RecordType::A))).await.unwrap();
    assert!(read_framed(&mut stream).await.is_some());
    timeout(PATIENCE, world.server.stop()).await.expect("it stops");
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0);
    let sockets = Sockets::bind(address).expect("the address is free");
    assert_eq!(sockets.local_addr(), address);
}

#[tokio::test]
async fn a_resolver_that_would_ask_itself_does_not_start() {
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sockets.local_addr();
    let forward = Forward::new(&forward_to(address)).unwrap();
    let zones = ZoneHandle::new(zones([10, 0, 0, 4].into()));
    let stop = CancellationToken::new();
    let started =
        Server::start(sockets, zones, forward, Limits::default(), Metrics::default(), &stop);
    assert!(matches!(started, Err(StartError::AsksItself(itself)) if itself == address));
}
