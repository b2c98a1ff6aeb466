//! The whole system as processes: what a consumer, a provider and a subscriber see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "system/telemetry.rs"]
mod telemetry;

use std::net::SocketAddr;
use std::time::Duration;

use postern_proto::v1::VpcEndpointState;
use postern_testkit::deployment::{
    Deployment, Held, PATIENCE, Program, World, connect, echoes, refuses, resolve, times_out,
    until, verify,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What is asked again and again cannot fail otherwise than by not coming.
type Asked<T> = Result<Option<T>, std::convert::Infallible>;

#[tokio::test]
async fn an_endpoint_lives_from_request_to_deletion_and_subscribers_hear_of_each_step() {
    let deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).named("db.example.com").create().await;
    let hook = world.hook(&service).await;
    world.mail(&service, &hook, &deployment.mails, "someone@example.com").await;

    let endpoint = world.endpoint(&vpc, &service).create().await;
    let (source, at) = (vpc.source(), endpoint.at());
    until("the address is reserved and refuses", PATIENCE, async || -> Asked<()> {
        Ok(refuses(source, at).await.then_some(()))
    })
    .await;
    until("the provider hears of the request", PATIENCE, async || -> Asked<()> {
        Ok((hook.kinds(&endpoint.id) == ["Connect"]).then_some(()))
    })
    .await;

    service.accept(&endpoint.id).await.unwrap();
    let available = endpoint.reaches(VpcEndpointState::Available).await;
    for entry in &available.dns_entries {
        // Names are published once the host was seen to answer: a moment later.
        until(&entry.dns_name, PATIENCE, || async {
            let answer = resolve(vpc.resolver(), &entry.dns_name).await?;
            anyhow::Ok((answer.addresses == endpoint.addresses).then_some(()))
        })
        .await;
    }
    assert!(available.dns_entries.len() >= 2, "a regional and a zonal name: {available:?}");
    endpoint.enable_private_names().await.unwrap();
    until("the private name resolves", PATIENCE, || async {
        let answer = resolve(vpc.resolver(), "db.example.com").await?;
        anyhow::Ok((answer.addresses == endpoint.addresses).then_some(()))
    })
    .await;

    echoes(source, at).await.expect("bytes pass");
    assert!(times_out(vpc.stranger(), at).await, "a stranger gets an answer");
    let mut held = Held::open(source, at).await.unwrap();
    held.says_back("still there").await.unwrap();

    service.reject(&endpoint.id).await.unwrap();
    let reset = held.cut(Duration::from_secs(5)).await.expect("cut in five seconds");
    assert!(reset, "it ended as if the far side had closed it");
    endpoint.reaches(VpcEndpointState::Rejected).await;
    until("the private name is gone", PATIENCE, || async {
        let answer = resolve(vpc.resolver(), "db.example.com").await?;
        anyhow::Ok(answer.addresses.is_empty().then_some(()))
    })
    .await;
    assert!(refuses(source, at).await, "a rejected endpoint takes connections");

    endpoint.delete().await.unwrap();
    endpoint.reaches(VpcEndpointState::Deleted).await;
    let all = ["Connect", "Accept", "Reject", "Delete"];
    until("the webhook has heard everything", PATIENCE, async || -> Asked<()> {
        Ok((hook.events().len() >= all.len()).then_some(()))
    })
    .await;
    assert_eq!(hook.kinds(&endpoint.id), all);
    for request in hook.receiver.received_at("/") {
        verify(&request.json().unwrap()).await;
    }
    until("the mails are there", PATIENCE, async || -> Asked<()> {
        Ok((deployment.mails.mails().len() > all.len()).then_some(()))
    })
    .await;
    let subjects: Vec<_> =
        deployment.mails.mails().iter().filter_map(|mail| mail.header("Subject")).collect();
    let wanted: Vec<_> = all.iter().map(|kind| format!("VPC endpoint {kind}")).collect();
    assert_eq!(subjects[1..], wanted, "the first asks for the confirmation");
}

#[tokio::test]
async fn an_unreachable_target_is_a_reset_to_the_client_a_count_and_a_line_in_the_log() {
    let mut deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let nobody = SocketAddr::from((theirs.block.at(11), 9));
    let service = world.service(&provider, &theirs).accepting_all().leading_to(nobody);
    let service = service.create().await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    endpoint.reaches(VpcEndpointState::Available).await;

    // The address takes the connection and resets it when the target did: while it is still being
    // opened, or at the first word.
    let talk = async {
        let mut stream = connect(vpc.source(), endpoint.at(), PATIENCE).await?;
        stream.write_all(b"is anybody there?").await?;
        stream.read(&mut [0; 16]).await
    };
    let error = tokio::time::timeout(PATIENCE, talk).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let agent = deployment.process(Program::Agent(1));
    until("the failure is counted", PATIENCE, async || -> Asked<()> {
        let name = "connect_failures_total";
        Ok((agent.metric(name, &["refused"]).await >= 1.0).then_some(()))
    })
    .await;
    let log = agent.log();
    let line = log.lines().find(|line| line.contains("a target could not be connected to"));
    let line = line.expect("the log says so");
    for word in [endpoint.id.as_str(), &nobody.to_string(), "refused"] {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

#[tokio::test]
async fn a_private_name_resolves_in_its_own_vpc_only() {
    let deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let theirs = world.vpc(&provider).await;
    let (vpc, other) = (world.vpc(&consumer).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).named("api.example.com").accepting_all();
    let service = service.create().await;
    // Nobody's decision is awaited, so the name comes with the endpoint (spec 1.1).
    let endpoint = world.endpoint(&vpc, &service).create().await;
    let available = endpoint.reaches(VpcEndpointState::Available).await;
    assert!(available.private_dns_enabled);
    until("the private name resolves", PATIENCE, || async {
        let answer = resolve(vpc.resolver(), "api.example.com").await?;
        anyhow::Ok((answer.addresses == endpoint.addresses).then_some(()))
    })
    .await;
    for elsewhere in [other.resolver(), theirs.resolver()] {
        let answer = resolve(elsewhere, "api.example.com").await.unwrap();
        assert!(answer.addresses.is_empty(), "{elsewhere} knows it: {answer:?}");
    }
}

#[tokio::test]
async fn an_agent_that_starts_with_the_control_plane_away_serves_from_its_disk() {
    let mut deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).accepting_all().create().await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    let available = endpoint.reaches(VpcEndpointState::Available).await;
    let name = &available.dns_entries[0].dns_name;
    until("the name resolves", PATIENCE, || async {
        let answer = resolve(vpc.resolver(), name).await?;
        anyhow::Ok((answer.addresses == endpoint.addresses).then_some(()))
    })
    .await;

    deployment.process(Program::ControlPlane).kill();
    deployment.process(Program::Agent(1)).kill();
    assert!(refuses(vpc.source(), endpoint.at()).await, "somebody serves though nobody runs");
    deployment.restart(Program::Agent(1)).await;
    echoes(vpc.source(), endpoint.at()).await.expect("bytes pass");
    assert!(times_out(vpc.stranger(), endpoint.at()).await, "a stranger gets an answer");
    assert_eq!(resolve(vpc.resolver(), name).await.unwrap().addresses, endpoint.addresses);

    // And it takes up where it was when the control plane comes back.
    deployment.restart(Program::ControlPlane).await;
    let next = world.endpoint(&vpc, &service).create().await;
    next.reaches(VpcEndpointState::Available).await;
    echoes(vpc.source(), next.at()).await.expect("bytes pass");
}
