//! What does a decision cost, and what a filter, as policies grow?

#![allow(missing_docs, clippy::expect_used, reason = "a bench fails loudly")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use postern_model::filter::{Attribute, FilterPolicy, FilterScope, Message};
use postern_model::policy::{Context, ENDPOINT_EVENTS, Policy, Request, Requester};

const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:doors";
const SOURCE: &str = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-0a1b2c3d4e5f60718";

/// A policy whose last statement alone is about the request: all the others are held against it too.
fn policy(statements: usize) -> String {
    let others = (1..statements).map(|number| {
        format!(
            r#"{{"Sid":"s{number}","Effect":"Allow","Principal":{{"Service":"{ENDPOINT_EVENTS}"}},
            "Action":"SNS:Publish","Resource":"{TOPIC}","Condition":{{
            "ArnLike":{{"aws:SourceArn":"arn:aws:ec2:*:{number:012}:vpc-endpoint/*"}}}}}}"#
        )
    });
    let last = format!(
        r#"{{"Effect":"Allow","Principal":{{"Service":"{ENDPOINT_EVENTS}"}},
        "Action":"SNS:Publish","Resource":"{TOPIC}","Condition":{{
        "ArnLike":{{"aws:SourceArn":"arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/*"}},
        "StringEquals":{{"aws:SourceAccount":"111122223333"}}}}}}"#
    );
    let statements: Vec<_> = others.chain([last]).collect();
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

fn decide(c: &mut Criterion) {
    let now = "2026-11-24T10:00:00Z".parse().expect("a time");
    let requester = Requester::Service(ENDPOINT_EVENTS);
    let context = Context::of(requester, now).with_source(SOURCE, "111122223333");
    let request = Request { requester, action: "SNS:Publish", resource: TOPIC, context };
    let mut group = c.benchmark_group("policy/decide");
    for statements in [1, 10, 80] {
        let document = policy(statements);
        let parsed = Policy::parse(&document).expect("a policy");
        assert!(parsed.evaluate(&request).is_allowed());
        group.throughput(Throughput::Elements(1));
        group.bench_with_input(BenchmarkId::new("statements", statements), &parsed, |b, parsed| {
            b.iter(|| black_box(parsed.evaluate(black_box(&request))));
        });
        group.bench_with_input(BenchmarkId::new("parse", statements), &document, |b, document| {
            b.iter(|| black_box(Policy::parse(black_box(document))));
        });
    }
    group.finish();
}

fn filter(c: &mut Criterion) {
    let attributes = [
        ("event", "Accept"),
        ("serviceId", "vpce-svc-0a1b2c3d4e5f60718"),
        ("vpcEndpointId", "vpce-0a1b2c3d4e5f60718"),
        ("vpcEndpointOwner", "111122223333"),
    ]
    .map(|(name, value)| Attribute { name, data_type: "String", value });
    let body = r#"{"version":"1","event":"Accept","vpcEndpointOwner":"111122223333",
        "acceptanceRequired":true,"actor":{"side":"consumer","account":"111122223333"}}"#;
    let parse = |text, scope| FilterPolicy::parse(text, scope).expect("a filter");
    let by_attributes = parse(
        r#"{"event":["Accept","Reject"],"vpcEndpointOwner":[{"anything-but":["444455556666"]}],
            "serviceId":[{"prefix":"vpce-svc-"}]}"#,
        FilterScope::MessageAttributes,
    );
    let by_body = parse(
        r#"{"event":["Accept",{"prefix":"Rej"}],"actor":{"side":["consumer"]}}"#,
        FilterScope::MessageBody,
    );
    let message = Message::new(attributes, body);
    assert!(by_attributes.matches(&message) && by_body.matches(&message));
    let mut group = c.benchmark_group("filter/match");
    group.throughput(Throughput::Elements(1));
    group.bench_function("attributes", |b| b.iter(|| by_attributes.matches(black_box(&message))));
    group.bench_function("body", |b| b.iter(|| by_body.matches(black_box(&message))));
    group.bench_function("body, read anew", |b| {
        b.iter(|| by_body.matches(&Message::new(black_box(attributes), black_box(body))));
    });
    group.finish();
}

criterion_group!(benches, decide, filter);
criterion_main!(benches);
