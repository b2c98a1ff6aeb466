//! What operators see in a collector: whole traces, and the figures of each process.

use postern_proto::v1::VpcEndpointState;
use postern_testkit::deployment::{Deployment, PATIENCE, Setup, World, echoes, until};
use postern_testkit::otlp::{Collector, Span};

const CONTROL_PLANE: &str = "postern-control-plane";
const DISPATCHER: &str = "postern-dispatcher";
const AGENT: &str = "postern-agent";

/// The caller's trace and the span in it that the call belongs to.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Waits for a span of this process with this name that is a child of `parent`.
async fn child(collector: &Collector, service: &str, name: &str, parent: &str) -> Span {
    let wanted =
        |span: &Span| span.service == service && span.name == name && span.parent == parent;
    let found = collector.span(PATIENCE, TRACE, wanted).await;
    found.unwrap_or_else(|error| panic!("{name} of {service} under {parent}: {error}"))
}

#[tokio::test]
async fn one_trace_leads_from_the_call_to_the_webhook_and_to_the_host_that_applied_it() {
    let collector = Collector::start().await.unwrap();
    let setup = Setup { collector: Some(collector.address()), ..Setup::default() };
    let deployment = Deployment::with(setup).await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).create().await;
    let hook = world.hook(&service).await;
    // An offer of several changes at once is in the trace of the last: nothing may be pending.
    until("the host is up to date", PATIENCE, || async {
        let host = world.hosts().await.remove(0);
        anyhow::Ok((host.desired_generation == host.applied_generation).then_some(()))
    })
    .await;

    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let endpoint = world.endpoint(&vpc, &service).traced(&traceparent).create().await;
    until("the webhook hears of it", PATIENCE, || async {
        anyhow::Ok((hook.kinds(&endpoint.id) == ["Connect"]).then_some(()))
    })
    .await;

    let call = "postern.v1.ConsumerService/CreateVpcEndpoint";
    let call = child(&collector, CONTROL_PLANE, call, CALLER).await;

    // The event's way: outbox, bus, dispatcher, webhook.
    let published = child(&collector, CONTROL_PLANE, "publish", &call.id).await;
    assert_eq!(published.attributes["endpoint"], endpoint.id);
    assert_eq!(published.attributes["kind"], "Connect");
    let taken = child(&collector, DISPATCHER, "endpoint event", &published.id).await;
    assert_eq!(taken.attributes["event"], published.attributes["event"]);
    let attempt = child(&collector, DISPATCHER, "delivery attempt", &taken.id).await;
    assert_eq!(attempt.attributes["protocol"], "http");
    assert_eq!(
        (attempt.attributes["number"].as_str(), &*attempt.attributes["status"]),
        ("1", "200")
    );
    let event = hook.events().into_iter().find(|event| event.endpoint == endpoint.id).unwrap();
    assert_eq!(attempt.attributes["message"], event.message_id);
    assert_eq!(taken.attributes["event"], event.event_id);

    // The desired state's way: offered, applied by the agent, heard of.
    let offered = child(&collector, CONTROL_PLANE, "offer", &call.id).await;
    let applied = child(&collector, AGENT, "apply", &offered.id).await;
    let heard = child(&collector, CONTROL_PLANE, "applied", &offered.id).await;
    let generations = [&offered, &applied, &heard].map(|span| &span.attributes["generation"]);
    assert!(generations.iter().all(|one| *one == generations[0]), "{generations:?}");

    // No span of the trace hangs in the air: each but the first has its parent in the trace.
    let spans = collector.trace(TRACE);
    for span in &spans {
        let has_parent = spans.iter().any(|other| other.id == span.parent);
        assert!(has_parent || span.id == call.id, "{span:?} hangs in the air");
    }
}

#[tokio::test]
async fn the_figures_of_the_admin_ports_arrive_at_the_collector_from_each_process() {
    let collector = Collector::start().await.unwrap();
    let setup = Setup { collector: Some(collector.address()), ..Setup::default() };
    let mut deployment = Deployment::with(setup).await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).accepting_all().create().await;
    let hook = world.hook(&service).await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    endpoint.reaches(VpcEndpointState::Available).await;
    echoes(vpc.source(), endpoint.at()).await.expect("bytes pass");
    until("the webhook hears of it", PATIENCE, || async {
        anyhow::Ok((!hook.kinds(&endpoint.id).is_empty()).then_some(()))
    })
    .await;

    for (service, name, attribute, least) in [
        (CONTROL_PLANE, "postern_control_plane_outbox_depth", None, 0.0),
        (CONTROL_PLANE, "postern_control_plane_outbox_published", None, 1.0),
        (CONTROL_PLANE, "grpc_server_handled", Some(("code", "OK")), 1.0),
        (CONTROL_PLANE, "grpc_server_handling_seconds", None, 1.0),
        (DISPATCHER, "postern_dispatcher_events", Some(("result", "taken")), 1.0),
        (DISPATCHER, "postern_dispatcher_delivery_attempts", Some(("protocol", "http")), 1.0),
        (DISPATCHER, "postern_dispatcher_delivery_attempt_seconds", None, 1.0),
        (AGENT, "postern_agent_forward_connections_accepted", None, 1.0),
        (AGENT, "postern_agent_forward_passed_bytes", Some(("direction", "in")), 1.0),
        (AGENT, "postern_agent_forward_packets_dropped", None, 0.0),
        (AGENT, "postern_agent_offers_applied", None, 1.0),
        (AGENT, "process_resident_memory_bytes", None, 1.0),
    ] {
        let found = collector
            .figure(PATIENCE, |figure| {
                let has = |(key, value): (&str, &str)| {
                    figure.attributes.get(key).is_some_and(|text| text == value)
                };
                figure.service == service
                    && figure.name == name
                    && attribute.is_none_or(has)
                    && figure.value >= least
            })
            .await;
        found.unwrap_or_else(|error| panic!("{name} of {service}: {error}"));
    }

    // One source: every family that the admin port has a sample of came by OTLP too.
    for (program, service) in deployment.names() {
        let (_, text) = deployment.process(program).get("/metrics").await.unwrap();
        let names = collector.names();
        let mut family = "";
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                family = described.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                let name = format!("{service} {family}");
                assert!(names.contains(&name), "{name} did not come");
            }
        }
    }
}
