//! The driver against a real server: tonic's health service, described by reflection.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests to us, if not to clippy.

use clap::Parser;
use postern_load::config::{Config, Descriptors, Flags};
use postern_load::drive;
use postern_load::report::Report;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::FILE_DESCRIPTOR_SET;

/// Starts the server and returns its host:port.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    let router = Server::builder().add_service(health).add_service(reflection);
    tokio::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    address.to_string()
}

async fn drive(arguments: &[&str]) -> anyhow::Result<Report> {
    let host = server().await;
    let all = ["postern-load", "--insecure", &host].into_iter().chain(arguments.iter().copied());
    let config = Config::load(Flags::try_parse_from(all)?)?;
    drive::run(&config, &Arc::new(AtomicBool::new(false))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unary_calls_are_counted_and_all_are_answered() {
    #[rustfmt::skip]
    let report = drive(&[
        "--call", "grpc.health.v1.Health/Check", "-n", "500", "-c", "8", "--connections", "2",
        "-d", r#"{"service": ""}"#,
    ])
    .await
    .unwrap();
    assert_eq!(report.statuses()["OK"], 500);
    assert!(report.all_ok() && report.latency(99) >= report.latency(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_by_their_status() {
    #[rustfmt::skip]
    let report = drive(&[
        "--call", "grpc.health.v1.Health.Check", "-n", "20", "-c", "2",
        "-d", r#"[{"service": ""}, {"service": "nobody-{{.RequestNumber}}"}]"#,
    ])
    .await
    .unwrap();
    assert_eq!((report.statuses()["OK"], report.statuses()["NotFound"]), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_after_the_messages_asked_for_and_after_the_time_asked_for() {
    for end in [["--stream-call-count", "1"], ["--stream-call-duration", "50ms"]] {
        let call = ["--call", "grpc.health.v1.Health/Watch", "-n", "6", "-c", "3"];
        let report = drive(&[&call[..], &end[..]].concat()).await.unwrap();
        assert_eq!(report.statuses()["OK"], 6, "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_waiting_for_a_worker_counts_as_latency() {
    // One worker, a stream that takes 50 ms, and an appointment every 10 ms: the last of 11 begins some
    // 400 ms late. Counted from when it was sent it would look like 50 ms.
    #[rustfmt::skip]
    let report = drive(&[
        "--call", "grpc.health.v1.Health/Watch", "-n", "11", "-c", "1", "--rps", "100",
        "--stream-call-duration", "50ms",
    ])
    .await
    .unwrap();
    assert!(report.latency(99) > Duration::from_millis(300), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_the_clock_ends_and_a_wrong_request_is_refused_before_the_first_call() {
    let call = ["--call", "grpc.health.v1.Health/Check", "-c", "2"];
    let report = drive(&[&call[..], &["-z", "200ms"]].concat()).await.unwrap();
    assert!(report.count() > 0 && report.all_ok(), "{report}");
    let refused = drive(&[&call[..], &["-d", r#"{"srevice": ""}"#]].concat()).await.unwrap_err();
    assert!(format!("{refused:#}").contains("srevice"), "{refused:#}");
}

#[test]
fn every_file_beside_the_driver_is_one_that_it_can_run() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = here.ancestors().nth(2).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(here).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let flags = Flags { config: Some(path.clone()), ..Flags::default() };
            let mut config = Config::load(flags).unwrap();
            // Paths in the files are from the top, where users stand; tests stand in their crate.
            if let Descriptors::Proto(proto, includes) = &mut config.descriptors {
                *proto = top.join(&*proto);
                includes.iter_mut().for_each(|include| *include = top.join(&*include));
            }
            postern_load::call::check(&config).unwrap_or_else(|e| panic!("{path:?}: {e:#}"));
            names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(names, ["accept", "create", "get", "list", "watch"]);
}
