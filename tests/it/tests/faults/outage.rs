//! The broker away, the database away.

use std::time::Duration;

use postern_proto::status::reason;
use postern_proto::v1::{ListTopicsRequest, VpcEndpointState};
use postern_testkit::deployment::{
    Deployment, Held, PATIENCE, Program, Setup, World, echoes, resolve, until,
};
use tonic::Code;

use crate::{Asked, LEASE};

#[tokio::test]
async fn with_the_broker_away_the_api_goes_on_and_events_arrive_afterwards_in_order_and_once() {
    let setup = Setup { own_rabbitmq: true, ..Setup::default() };
    let mut deployment = Deployment::with(setup).await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).create().await;
    let hook = world.hook(&service).await;

    deployment.rabbitmq().stop().await.unwrap();
    // Five lives of four changes each.
    let mut endpoints = Vec::new();
    for _ in 0..5 {
        let endpoint = world.endpoint(&vpc, &service).create().await;
        service.accept(&endpoint.id).await.unwrap();
        endpoint.reaches(VpcEndpointState::Available).await;
        service.reject(&endpoint.id).await.unwrap();
        endpoint.reaches(VpcEndpointState::Rejected).await;
        endpoint.delete().await.unwrap();
        endpoint.reaches(VpcEndpointState::Deleted).await;
        endpoints.push(endpoint);
    }
    let control_plane = deployment.process(Program::ControlPlane);
    until("the control plane says that the bus is away", PATIENCE, || async {
        let (status, text) = control_plane.get("/readyz").await?;
        anyhow::Ok((status == 503 && text.contains("bus")).then_some(()))
    })
    .await;
    assert!(hook.events().is_empty(), "an event came though nobody could carry it");

    deployment.rabbitmq().start().await.unwrap();
    until("all twenty events have arrived", PATIENCE, async || -> Asked<()> {
        Ok((hook.events().len() >= 20).then_some(()))
    })
    .await;
    for endpoint in &endpoints {
        assert_eq!(hook.kinds(&endpoint.id), ["Connect", "Accept", "Reject", "Delete"]);
    }
    let pool = deployment.pool().await;
    let once = "SELECT count(*) = count(DISTINCT event_id) AND count(*) = 20
                  FROM dispatcher.message WHERE event_id IS NOT NULL";
    assert!(sqlx::query_scalar::<_, bool>(once).fetch_one(&pool).await.unwrap(), "in effect twice");
    for program in [Program::ControlPlane, Program::Dispatcher] {
        deployment.ready(program).await;
    }
}

#[tokio::test]
async fn with_the_database_away_the_api_says_unavailable_and_forwarding_is_undisturbed_in_an_outage()
 {
    let setup = Setup { own_postgres: true, host_lease: LEASE.as_secs(), ..Setup::default() };
    let mut deployment = Deployment::with(setup).await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).create().await;
    let hook = world.hook(&service).await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    service.accept(&endpoint.id).await.unwrap();
    let available = endpoint.reaches(VpcEndpointState::Available).await;
    let name = available.dns_entries[0].dns_name.clone();
    until("the name resolves", PATIENCE, || async {
        let answer = resolve(vpc.resolver(), &name).await?;
        anyhow::Ok((answer.addresses == endpoint.addresses).then_some(()))
    })
    .await;
    let mut held = Held::open(vpc.source(), endpoint.at()).await.unwrap();

    deployment.postgres().cluster.stop().await.unwrap();
    let refused = endpoint.get().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(reason(&refused).as_deref(), Some("ServiceUnavailable"), "{refused:?}");
    let refused = world.endpoint(&vpc, &service).try_create().await.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("ServiceUnavailable"), "{refused:?}");
    let refused = provider.client.topics().list_topics(ListTopicsRequest::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("ServiceUnavailable"), "{refused:?}");
    for program in [Program::ControlPlane, Program::Dispatcher] {
        let process = deployment.process(program);
        until("it says that the database is away", PATIENCE, || async {
            let (status, text) = process.get("/readyz").await?;
            anyhow::Ok((status == 503 && text.contains("database")).then_some(()))
        })
        .await;
    }
    // So long that no host has been heard of for its lease when the database is back.
    let stopped = tokio::time::Instant::now();
    while stopped.elapsed() < LEASE + Duration::from_secs(2) {
        held.says_back("still there").await.unwrap();
        echoes(vpc.source(), endpoint.at()).await.expect("a new connection");
        assert_eq!(resolve(vpc.resolver(), &name).await.unwrap().addresses, endpoint.addresses);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(deployment.process(Program::Agent(1)).get("/readyz").await.unwrap().0 == 200);

    deployment.postgres().cluster.resume().await.unwrap();
    for program in [Program::ControlPlane, Program::Dispatcher] {
        deployment.ready(program).await;
    }
    let next = until("the API answers again", PATIENCE, || async {
        world.endpoint(&vpc, &service).with_token("after the outage").try_create().await.map(Some)
    })
    .await;
    service.accept(&next.id).await.unwrap();
    next.reaches_one_of(&[VpcEndpointState::Available], Duration::from_secs(30)).await;
    echoes(vpc.source(), next.at()).await.expect("bytes pass");
    held.says_back("and still").await.unwrap();
    echoes(vpc.source(), endpoint.at()).await.expect("the endpoint of before");
    until("events arrive again", PATIENCE, async || -> Asked<()> {
        Ok((hook.kinds(&next.id) == ["Connect", "Accept"]).then_some(()))
    })
    .await;
}
