//! What does a change of rules cost, and what does the PROXY header add to a connection?
//!
//! Filters are compiled once for each port when an interface is applied (in rules per second); a header
//! is made once for each connection.

// The macros below make public functions that nobody reads about.
#![allow(missing_docs)]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_datapath::filter::SourceSet;
use postern_datapath::proxy_protocol;
use postern_model::id::EndpointId;
use postern_model::net::Cidr;
use postern_model::security::{IngressRule, PortRange, Protocol};

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("datapath/filter");
    for rules in [10u32, 100, 1_000] {
        let rules: Vec<IngressRule> = (0..rules)
            .map(|n| Cidr::host((0x0a00_0000 + 2 * n).into()))
            .map(|source| (source, Protocol::Tcp, PortRange::single(443)))
            .map(|(source, protocol, ports)| IngressRule { source, protocol, ports })
            .collect();
        group.throughput(Throughput::Elements(rules.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(rules.len()), &rules, |b, rules| {
            b.iter(|| SourceSet::of(black_box(rules), 443).program());
        });
    }
    group.finish();
}

fn header(c: &mut Criterion) {
    let endpoint = EndpointId::generate(&mut rand::rng());
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 17), 50_123);
    let service = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 443);
    c.bench_function("datapath/proxy_header", |b| {
        b.iter(|| proxy_protocol::header(black_box(endpoint), black_box(client), service));
    });
}

criterion_group!(benches, compile, header);
criterion_main!(benches);
