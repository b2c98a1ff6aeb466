//! Names of others, over real sockets and a resolver that stands for the outside world.

use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use postern_zones::packet::Transport;
use postern_zones::{Ending, Forward, ForwardConfig, ForwardError, Limits, Upstreams};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::*;

/// What the world outside knows.
fn outside(question: &Message) -> Option<Message> {
    let mut reply = answering(question);
    let name = question.queries[0].name().clone();
    match name.to_ascii().to_lowercase().as_str() {
        "www.example.org." => {
            let target = Name::from_ascii("host.example.org.").unwrap();
            let to = RData::CNAME(rdata::CNAME(target.clone()));
            reply.add_answer(Record::from_rdata(name, 300, to));
            reply.add_answer(a(&target, [192, 0, 2, 1]));
        }
        "long.example.org." => {
            reply.add_answers((0..200).map(|last| a(&name, [192, 0, 2, last])));
        }
        _ => {
            let zone = Name::from_ascii("example.org.").unwrap();
            let soa = rdata::SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 30);
            reply.add_authority(Record::from_rdata(zone, 900, RData::SOA(soa)));
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    Some(reply)
}

fn silence(_: &Message) -> Option<Message> {
    None
}

fn world(config: &ForwardConfig) -> World {
    World::with(Forward::new(config).unwrap(), Limits::default())
}

#[tokio::test]
async fn what_is_not_ours_is_asked_elsewhere_and_remembered() {
    let upstream = Upstream::start(outside).await;
    let world = world(&forward_to(upstream.address));
    let asked = query(5, "WWW.example.org", RecordType::A);
    for _ in 0..3 {
        for reply in
            [ask_udp(world.address(), &asked).await, ask_tcp(world.address(), &asked).await]
        {
            assert_eq!((reply.id, reply.response_code), (5, ResponseCode::NoError));
            assert!(reply.recursion_available && !reply.authoritative);
            assert_eq!(reply.queries, asked.queries);
            assert_eq!(reply.answers.len(), 2);
            assert_eq!(addresses(&reply), ["192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap()]);
        }
    }
    assert_eq!(upstream.asked(), 1);
    assert_eq!(world.metrics.count(Transport::Udp, Ending::Forwarded), 3);
    assert_eq!(world.metrics.count(Transport::Tcp, Ending::Forwarded), 3);
}

#[tokio::test]
async fn that_there_is_no_such_name_elsewhere_is_passed_on() {
    let upstream = Upstream::start(outside).await;
    let world = world(&forward_to(upstream.address));
    let reply = ask_udp(world.address(), &query(5, "no.example.org", RecordType::A)).await;
    assert_eq!(reply.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities.len(), 1);
    assert!(reply.authorities[0].ttl <= 30, "{}", reply.authorities[0].ttl);
}

#[tokio::test]
async fn a_long_answer_from_elsewhere_is_cut_for_datagrams_only() {
    let upstream = Upstream::start(outside).await;
    let world = world(&forward_to(upstream.address));
    let asked = query(5, "long.example.org", RecordType::A);
    let cut = ask_udp(world.address(), &asked).await;
    assert!(cut.truncation && cut.answers.is_empty());
    let whole = ask_tcp(world.address(), &asked).await;
    assert_eq!((whole.truncation, whole.answers.len()), (false, 200));
}

#[tokio::test]
async fn a_resolver_that_hangs_costs_a_failure_and_delays_nobody_else() {
    let upstream = Upstream::start(silence).await;
    let deadline = Duration::from_millis(600);
    let attempt = Duration::from_millis(250);
    let world = world(&ForwardConfig { deadline, attempt, ..forward_to(upstream.address) });
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let began = Instant::now();
    stream.write_all(&framed(&query(1, "www.example.org", RecordType::A))).await.unwrap();
    stream.write_all(&framed(&query(2, REGIONAL, RecordType::A))).await.unwrap();
    let first = read_framed(&mut stream).await.unwrap();
    assert_eq!((first.id, addresses(&first).len()), (2, 2));
    assert!(began.elapsed() < deadline);
    let second = read_framed(&mut stream).await.unwrap();
    assert_eq!((second.id, second.response_code), (1, ResponseCode::ServFail));
    assert!(began.elapsed() < deadline * 4, "{:?}", began.elapsed());
    assert_eq!(world.metrics.count(Transport::Tcp, Ending::ForwardFailed), 1);
}

#[tokio::test]
async fn with_too_many_questions_on_their_way_the_next_fails_at_once() {
    let upstream = Upstream::start(silence).await;
    let world = world(&ForwardConfig { concurrency: 1, ..forward_to(upstream.address) });
    let address = world.address();
    let hanging =
        tokio::spawn(
            async move { ask_udp(address, &query(1, "a.example.org", RecordType::A)).await },
        );
    until("a question on its way", || upstream.asked() > 0).await;
    let reply = ask_udp(address, &query(2, "b.example.org", RecordType::A)).await;
    assert_eq!(reply.response_code, ResponseCode::ServFail);
    assert_eq!(world.metrics.count(Transport::Udp, Ending::Overloaded), 1);
    let reply = ask_udp(address, &query(3, REGIONAL, RecordType::A)).await;
    assert_eq!(reply.response_code, ResponseCode::NoError);
    hanging.abort();
}

#[tokio::test]
async fn a_resolver_that_is_not_there_is_a_failure() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = world(&forward_to(port));
    let reply = ask_udp(world.address(), &query(1, "www.example.org", RecordType::A)).await;
    assert_eq!(reply.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_stop_waits_for_the_questions_on_their_way() {
    let upstream = Upstream::start(silence).await;
    let deadline = Duration::from_millis(400);
    let world = world(&ForwardConfig { deadline, ..forward_to(upstream.address) });
    let address = world.address();
    let hanging =
        tokio::spawn(
            async move { ask_udp(address, &query(1, "a.example.org", RecordType::A)).await },
        );
    until("a question on its way", || upstream.asked() > 0).await;
    tokio::time::timeout(PATIENCE, world.server.stop()).await.expect("it stops");
    assert_eq!(hanging.await.unwrap().response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_empty_list_of_resolvers_is_a_mistake() {
    let upstreams = Upstreams::Addresses(vec![]);
    let refused = Forward::new(&ForwardConfig { upstreams, ..ForwardConfig::default() });
    assert!(matches!(refused, Err(ForwardError::NoAddresses)));
    let upstreams = Upstreams::None;
    let none = Forward::new(&ForwardConfig { upstreams, ..ForwardConfig::default() }).unwrap();
    assert!(!none.is_configured());
}
