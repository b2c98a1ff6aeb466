//! How long one answer takes, as a VPC has more names: the look-up alone, with reading the query and
//! writing the reply, and through the sockets with a client that has some queries in flight. In
//! seconds per query; the last takes two cores, one for each side.

#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_model::desired::{Record, RecordData};
use postern_zones::packet::{Transport, respond};
use postern_zones::{
    Forward, Limits, Metrics, Name, RecordType, Server, Sockets, ZoneHandle, Zones,
};
use tokio_util::sync::CancellationToken;

const BASE: &str = "vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com";
const SIZES: [u32; 3] = [10, 1_000, 100_000];

fn endpoint(number: u32) -> String {
    format!("vpce-{number:017x}-ks83awe7.{BASE}")
}

fn zones(names: u32) -> Zones {
    let mut builder = Zones::builder("vpce.amazonaws.com").expect("a suffix");
    for number in 0..names {
        let addresses = vec![Ipv4Addr::from(number), Ipv4Addr::from(number + 1)];
        let data = RecordData::Addresses(addresses);
        let record = Record { name: endpoint(number), ttl_seconds: 60, data };
        builder.record(&record).expect("a record");
    }
    builder.zone("api.example.com").expect("a zone");
    let data = RecordData::Alias(endpoint(0));
    let record = Record { name: "api.example.com".to_owned(), ttl_seconds: 60, data };
    builder.record(&record).expect("an alias");
    builder.build()
}

fn query(name: &str) -> Vec<u8> {
    let name: Name = name.parse().expect("a name");
    [&b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01"[..], name.as_wire(), b"\0\x01\0\x01"]
        .into_iter()
        .chain([&b"\0\0\x29\x04\xd0\0\0\0\0\0\0"[..]])
        .collect::<Vec<_>>()
        .concat()
}

fn answer(c: &mut Criterion) {
    let mut group = c.benchmark_group("zones/answer");
    for names in SIZES {
        let zones = zones(names);
        let asked: Name = endpoint(7).parse().expect("a name");
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::from_parameter(names), &asked, |b, asked| {
            b.iter(|| black_box(zones.answer(black_box(asked), RecordType::A)));
        });
    }
    group.finish();
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("zones/packet");
    for names in SIZES {
        let zones = zones(names);
        for (kind, asked) in [
            ("addresses", endpoint(7)),
            ("alias", "api.example.com".to_owned()),
            ("no such name", format!("vpce-0-none.{BASE}")),
            ("not ours", "www.example.org".to_owned()),
        ] {
            let query = query(&asked);
            let mut out = Vec::with_capacity(1_500);
            group.throughput(Throughput::Elements(1));
            group.bench_with_input(BenchmarkId::new(kind, names), &query, |b, query| {
                b.iter(|| {
                    out.clear();
                    black_box(respond(&zones, black_box(query), Transport::Udp, false, &mut out))
                });
            });
        }
    }
    group.finish();
}

/// How many queries the client of the sockets sends before it takes the replies.
const IN_FLIGHT: usize = 32;

fn sockets(c: &mut Criterion) {
    let mut group = c.benchmark_group("zones/udp");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let stop = CancellationToken::new();
    let server = runtime.block_on(async {
        let sockets = Sockets::bind("127.0.0.1:0".parse().expect("an address")).expect("sockets");
        let limits = Limits { packets_per_second: None, ..Limits::default() };
        let zones = ZoneHandle::new(zones(1_000));
        Server::start(sockets, zones, Forward::none(), limits, Metrics::default(), &stop)
    });
    let server = server.expect("a server");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.connect(server.local_addr()).expect("an address");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    let (query, mut reply) = (query(&endpoint(7)), [0; 1_500]);
    group.throughput(Throughput::Elements(IN_FLIGHT as u64));
    group.bench_function(BenchmarkId::from_parameter(1_000), |b| {
        b.iter(|| {
            for _ in 0..IN_FLIGHT {
                client.send(&query).expect("room to send");
            }
            for _ in 0..IN_FLIGHT {
                client.recv(&mut reply).expect("a reply");
            }
        });
    });
    group.finish();
    runtime.block_on(server.stop());
}

criterion_group!(benches, answer, packets, sockets);
criterion_main!(benches);
