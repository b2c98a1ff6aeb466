use std::sync::{Arc, Mutex};

use tracing::info_span;

use super::*;

fn start() {
    let settings = load(&[("POSTERN_LOG", "off")]).0;
    let _kept = init_with("postern-test", &settings).expect("telemetry starts");
}

fn load(pairs: &[(&str, &str)]) -> (Settings, Vec<String>) {
    let mut faults = Faults::new();
    let settings =
        Settings::load(&Vars::from_pairs(pairs.iter().map(|(n, v)| (*n, *v))), &mut faults);
    (settings, faults.iter().map(|fault| format!("{} {}", fault.name, fault.reason)).collect())
}

fn ids(span: &Span) -> (String, String) {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    (span.trace_id().to_string(), span.span_id().to_string())
}

#[test]
fn a_trace_crosses_a_message_even_when_nothing_is_logged_or_exported() {
    start();
    let sender = info_span!("sender");
    let headers = inject(&sender);
    let (trace, parent) = ids(&sender);
    assert_eq!(headers.get("traceparent"), Some(&format!("00-{trace}-{parent}-01")));
    assert_eq!(headers.len(), 1, "{headers:?}");

    let context = extract(&headers);
    assert_eq!(context.span().span_context().trace_id().to_string(), trace);
    assert!(context.span().span_context().is_remote());

    let receiver = info_span!("receiver", trace_id = tracing::field::Empty);
    set_parent(&receiver, &headers);
    assert_eq!(ids(&receiver).0, trace);
    assert_ne!(ids(&receiver).1, parent);
}

#[test]
fn headers_without_a_sound_context_begin_a_new_trace() {
    start();
    for traceparent in ["", "hello", "00-00000000000000000000000000000000-0000000000000000-01"] {
        let headers = BTreeMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        assert!(!extract(&headers).span().span_context().is_valid(), "{traceparent}");
        let span = info_span!("receiver");
        set_parent(&span, &headers);
        assert_ne!(ids(&span).0, "00000000000000000000000000000000");
    }
}

#[test]
fn telemetry_may_be_started_again_without_effect() {
    start();
    start();
}

#[tokio::test]
async fn a_second_guard_shuts_nothing_down() {
    start();
    let (settings, _) = load(&[]);
    init_with("postern-test", &settings).expect("a guard").shutdown().await;
    assert!(!inject(&info_span!("still")).is_empty());
}

#[test]
fn export_needs_an_endpoint_and_can_be_switched_off() {
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const AT: &str = "http://127.0.0.1:4317";
    for (pairs, traces, metrics) in [
        (&[][..], false, false),
        (&[(ALL, AT)], true, true),
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", AT)], true, false),
        (&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", AT)], false, true),
        (&[(ALL, AT), ("OTEL_SDK_DISABLED", "true")], false, false),
        (&[(ALL, AT), ("OTEL_TRACES_EXPORTER", "none")], false, true),
        (&[(ALL, AT), ("OTEL_METRICS_EXPORTER", "none")], true, false),
    ] {
        let (settings, faults) = load(pairs);
        let exported = (settings.traces_endpoint.is_some(), settings.metrics.is_some());
        assert_eq!(exported, (traces, metrics), "{pairs:?}");
        assert!(faults.is_empty(), "{faults:?}");
    }
}

#[test]
fn bad_settings_are_named() {
    for (name, value) in [
        ("POSTERN_LOG", "info,=,"),
        ("POSTERN_LOG_FORMAT", "xml"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "long"),
    ] {
        let (_, faults) =
            load(&[(name, value), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")]);
        assert!(faults.len() == 1 && faults[0].starts_with(&format!("{name} is `")), "{faults:?}");
    }
}

#[test]
fn what_goes_with_an_export_is_read_whole_and_shown_nowhere() {
    const AT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    let headers = |text| load(&[AT, ("OTEL_EXPORTER_OTLP_HEADERS", text)]);
    let (settings, faults) = headers("Authorization=Bearer s3cret, x-team=doors");
    assert!(faults.is_empty(), "{faults:?}");
    let shown = format!("{settings:?}");
    assert!(shown.contains("x-team") && !shown.contains("s3cret"), "{shown}");
    let (_, faults) = headers("s3cret");
    assert!(faults.len() == 1 && !faults[0].contains("s3cret"), "{faults:?}");
}

#[tokio::test]
async fn exporters_end_in_bounded_time_when_nobody_is_there() {
    let (settings, _) = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    let (exporter, traces, _) = build("postern-test", &settings).expect("exporters");
    let metrics = exporter.map(Exporter::start);
    assert!(metrics.is_some());
    let telemetry = Telemetry { traces: Some(traces), metrics };
    let ended = tokio::time::timeout(FLUSH_TIMEOUT * 3, telemetry.shutdown()).await;
    assert!(ended.is_ok());
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_a_mistake_of_the_configuration() {
    let (settings, _) = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317")]);
    let told = build("postern-test", &settings).expect_err("refused").to_string();
    assert!(told.contains("OTEL_EXPORTER_OTLP_ENDPOINT is `https://collector:4317`"), "{told}");
}

/// The paths and bodies that a collector received.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_metrics_reach_a_collector_before_the_process_ends() {
    let received = Received::default();
    let store = Arc::clone(&received);
    let collector =
        axum::Router::new().fallback(move |request: axum::extract::Request| async move {
            let path = request.uri().path().to_owned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            store.lock().expect("not poisoned").push((path, body.to_vec()));
            tonic::Status::internal("only looked at").into_http::<axum::body::Body>()
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = crate::shutdown::Stop::new();
    let mut registry = prometheus_client::registry::Registry::default();
    let options = crate::grpc::ServeOptions::new(
        crate::grpc::RpcMetrics::register(&mut registry),
        crate::grpc::Methods::from_descriptor_set(&[]).expect("an empty set"),
    );
    let routes = tonic::service::Routes::from(collector);
    let serving = tokio::spawn(crate::grpc::serve(listener, routes, options, stop.clone()));

    let (settings, _) =
        load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_SERVICE_NAME", "named-by-user")]);
    let (exporter, traces, filter) = build("postern-test", &settings).expect("exporters");
    let telemetry =
        Telemetry { traces: Some(traces.clone()), metrics: exporter.map(Exporter::start) };
    let admin = crate::admin::Admin::new("test");
    admin.register(|registry| {
        let doors = prometheus_client::metrics::gauge::Gauge::<i64>::default();
        registry.register("doors_open", "Doors", doors);
    });
    let quiet = subscriber(&settings, &traces, filter, std::io::sink);
    tracing::subscriber::with_default(quiet, || info_span!("a_span_to_export").in_scope(|| {}));
    telemetry.shutdown().await;

    let received = received.lock().expect("not poisoned").clone();
    for (service, content) in
        [("TraceService/Export", "a_span_to_export"), ("MetricsService/Export", "doors_open")]
    {
        let found = received.iter().find(|(path, _)| path.ends_with(service));
        let body = String::from_utf8_lossy(&found.expect(service).1).into_owned();
        assert!(body.contains(content) && body.contains("named-by-user"), "{service}");
    }
    stop.kill();
    serving.await.expect("no panic").expect("served");
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, some: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(some);
        Ok(some.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn log_lines_carry_the_trace_id_of_their_span_in_both_formats() {
    for format in ["json", "pretty"] {
        let (settings, _) = load(&[("POSTERN_LOG_FORMAT", format)]);
        let (_telemetry, traces, filter) = build("postern-test", &settings).expect("telemetry");
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(&settings, &traces, filter, move || writer.clone());
        let trace = tracing::subscriber::with_default(subscriber, || {
            let span = info_span!("work", trace_id = tracing::field::Empty);
            record_trace_id(&span);
            span.in_scope(|| tracing::info!(door = 7, "opened"));
            ids(&span).0
        });
        let text = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
        assert!(text.contains(&trace) && text.contains("opened"), "{text}");
        if format == "json" {
            let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one object");
            assert_eq!(line["span"]["trace_id"], trace.as_str());
            assert_eq!((&line["message"], &line["door"]), (&"opened".into(), &7.into()));
        }
    }
}
