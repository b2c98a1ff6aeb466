use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tracing::{Instrument, info_span};

use super::*;
use crate::clock::SystemClock;
use crate::config::{Faults, Vars};
use crate::telemetry::Settings;
use crate::tls::{Authority, ClientAuth, ClientTls, IdentityHandle, SpiffeId, peer_spiffe};

const SOON: Duration = Duration::from_secs(10);

/// Who called, and in which trace (`traceparent`).
type Seen = (Option<SpiffeId>, String);

/// A health service that tells what it saw: who called, and in which trace.
#[derive(Clone, Default)]
struct Probe {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Option<Stop>,
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse { status: ServingStatus::Serving.into() }
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let trace = telemetry::inject(&Span::current()).remove("traceparent").unwrap_or_default();
        self.seen.lock().expect("not poisoned").push((peer_spiffe(&request), trace));
        match request.get_ref().service.as_str() {
            "hang" => std::future::pending().await,
            "missing" => Err(Status::not_found("no such service")),
            _ => Ok(Response::new(serving())),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// One answer, then nothing until the server stops; forever for one who asks to `hang`.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let hang = request.get_ref().service == "hang";
        let stop = self.stop.clone().filter(|_| !hang);
        let end = async_stop(stop);
        let first = tokio_stream::iter([Ok(serving())]);
        Ok(Response::new(Box::pin(first.chain(end))))
    }
}

fn async_stop(
    stop: Option<Stop>,
) -> impl Stream<Item = Result<HealthCheckResponse, Status>> + Send {
    let (hold, ended) = mpsc::channel(1);
    tokio::spawn(async move {
        match stop {
            Some(stop) => stop.stopped().await,
            None => hold.closed().await,
        }
    });
    ReceiverStream::new(ended)
}

struct Served {
    at: SocketAddr,
    stop: Stop,
    probe: Probe,
    registry: Registry,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn start(with: impl FnOnce(ServeOptions) -> ServeOptions) -> Self {
        let mut faults = Faults::new();
        let quiet = Settings::load(&Vars::from_pairs([("POSTERN_LOG", "off")]), &mut faults);
        let _kept = telemetry::init_with("postern-test", &quiet).expect("telemetry starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address");
        let (stop, mut registry) = (Stop::new(), Registry::default());
        let methods = Methods::from_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .expect("descriptors");
        let options = with(ServeOptions::new(RpcMetrics::register(&mut registry), methods));
        let probe = Probe { stop: Some(stop.clone()), ..Probe::default() };
        // The service itself would take more: the server's own limit is what counts.
        let routes = Routes::new(
            HealthServer::new(probe.clone()).max_decoding_message_size(16 * MAX_MESSAGE_BYTES),
        );
        let task = tokio::spawn(serve(listener, routes, options, stop.clone()));
        Self { at, stop, probe, registry, task }
    }

    fn client(&self) -> HealthClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.at)).expect("an address");
        HealthClient::new(endpoint.connect_lazy())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("encoded");
        text
    }

    /// Waits until the metrics have the line.
    async fn counted(&self, line: &str) {
        let waited = timeout(SOON, async {
            while !self.metrics().lines().any(|have| have == line) {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "{line} in {}", self.metrics());
    }

    async fn ended(self) {
        let ended = timeout(SOON, self.task).await.expect("in time").expect("no panic");
        assert!(ended.is_ok(), "{ended:?}");
    }
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

fn handled(method: &str, code: &str, count: u32) -> String {
    format!("grpc_server_handled_total{{method=\"{method}\",code=\"{code}\"}} {count}")
}

const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_unknown_methods_as_other() {
    let served = Served::start(|options| options).await;
    let mut client = served.client();
    client.check(ask("")).await.expect("served");
    client.check(ask("")).await.expect("served");
    let missing = client.check(ask("missing")).await.expect_err("refused");
    assert_eq!(missing.code(), Code::NotFound);
    served.counted(&handled(CHECK, "OK", 2)).await;
    served.counted(&handled(CHECK, "NOT_FOUND", 1)).await;
    served.counted(&format!("grpc_server_in_flight{{method=\"{CHECK}\"}} 0")).await;

    let endpoint = Endpoint::from_shared(format!("http://{}", served.at)).expect("an address");
    let mut raw = tonic::client::Grpc::new(endpoint.connect().await.expect("connected"));
    for path in ["/made.up/One", "/made.up/Two"] {
        raw.ready().await.expect("ready");
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = tonic_health_codec();
        let refused = raw.unary(Request::new(ask("")), path, codec).await.expect_err("refused");
        assert_eq!(refused.code(), Code::Unimplemented);
    }
    served.counted(&handled("other", "UNIMPLEMENTED", 2)).await;
    assert!(!served.metrics().contains("made.up"));
}

fn tonic_health_codec() -> tonic_prost::ProstCodec<HealthCheckRequest, HealthCheckResponse> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn a_call_joins_its_callers_trace() {
    let served = Served::start(|options| options).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", served.at)).expect("an address");
    let mut client = HealthClient::with_interceptor(endpoint.connect_lazy(), InjectTrace);
    let caller = info_span!("caller");
    let sent = telemetry::inject(&caller).remove("traceparent").expect("a trace");
    client.check(ask("")).instrument(caller).await.expect("served");
    let (_, got) = served.probe.seen.lock().expect("not poisoned").pop().expect("a call");
    let trace = |parent: &str| parent.split('-').nth(1).map(str::to_owned);
    assert_eq!(trace(&got), trace(&sent));
    assert_ne!(got, sent);
}

#[tokio::test]
async fn a_unary_call_that_takes_too_long_is_answered_and_a_stream_is_not() {
    let limits = Limits { unary_timeout: Duration::from_millis(50), ..Limits::default() };
    let served = Served::start(|options| options.limits(limits)).await;
    let mut client = served.client();
    let mut stream = client.watch(ask("")).await.expect("served").into_inner();
    assert!(stream.message().await.expect("an answer").is_some());
    let late = client.check(ask("hang")).await.expect_err("too late");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    served.counted(&handled(CHECK, "DEADLINE_EXCEEDED", 1)).await;
    // The stream is older than the limit, and still open.
    assert!(served.metrics().contains(&format!("grpc_server_in_flight{{method=\"{WATCH}\"}} 1")));
    drop(stream);
    served.counted(&handled(WATCH, "CANCELLED", 1)).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_one_at_the_limit_is_taken() {
    let served = Served::start(|options| options).await;
    let mut client = served.client();
    // Tag and length of the field take 4 bytes.
    client.check(ask(&"x".repeat(MAX_MESSAGE_BYTES - 4))).await.expect("served");
    let refused = client.check(ask(&"x".repeat(MAX_MESSAGE_BYTES - 3))).await.expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("at most 1048576"), "{refused:?}");
}

#[tokio::test]
async fn a_stop_lets_streams_end_by_themselves() {
    let served = Served::start(|options| options).await;
    let mut stream = served.client().watch(ask("")).await.expect("served").into_inner();
    assert!(stream.message().await.expect("an answer").is_some());
    served.stop.stop();
    assert_eq!(stream.message().await.expect("a clean end"), None);
    served.ended().await;
}

#[tokio::test]
async fn a_kill_cuts_streams_that_do_not_end() {
    let served = Served::start(|options| options).await;
    let mut stream = served.client().watch(ask("hang")).await.expect("served").into_inner();
    assert!(stream.message().await.expect("an answer").is_some());
    served.stop.kill();
    let cut = timeout(SOON, stream.message()).await.expect("in time");
    assert!(cut.is_err(), "{cut:?}");
    served.ended().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_loses_its_place() {
    use tokio::io::AsyncReadExt;
    let limits = Limits {
        connections: 1,
        handshake_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = Served::start(|options| options.limits(limits)).await;
    let mut silent = tokio::net::TcpStream::connect(served.at).await.expect("connected");
    let mut client = served.client();
    timeout(SOON, client.check(ask(""))).await.expect("in time").expect("served");
    let mut rest = Vec::new();
    let _ = timeout(SOON, silent.read_to_end(&mut rest)).await.expect("closed");
}

#[tokio::test]
async fn over_tls_handlers_see_who_calls_and_a_port_for_joining_lets_strangers_in() {
    let authority = Authority::ephemeral(Arc::new(SystemClock)).expect("an authority");
    let hour = Duration::from_secs(3600);
    let identity = |spiffe: &SpiffeId| {
        IdentityHandle::new(authority.issue_identity(spiffe, &[], hour).expect("issued"))
    };
    let server = SpiffeId::service("control-plane").expect("a name");
    let host = SpiffeId::host("h-1").expect("an id");
    let tls = ServerTls::mutual(identity(&server), ClientAuth::Optional);
    let served = Served::start(|options| options.tls(tls)).await;
    let at = served.at.to_string();

    let known = ClientTls::mutual(identity(&host), server.clone());
    let mut client = HealthClient::new(known.channel(&at).expect("a channel"));
    client.check(ask("")).await.expect("served");
    let stranger = ClientTls::anonymous(authority.ca_pem(), server).expect("a client");
    let mut client = HealthClient::new(stranger.channel(&at).expect("a channel"));
    client.check(ask("")).await.expect("served");
    let seen: Vec<_> = served
        .probe
        .seen
        .lock()
        .expect("not poisoned")
        .iter()
        .map(|(who, _)| who.clone())
        .collect();
    assert_eq!(seen, [Some(host.clone()), None]);

    let misled = ClientTls::mutual(identity(&host), SpiffeId::host("h-2").expect("an id"));
    let mut client = HealthClient::new(misled.channel(&at).expect("a channel"));
    let refused = client.check(ask("")).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}
