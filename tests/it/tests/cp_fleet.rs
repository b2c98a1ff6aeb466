//! Hosts: how they join, what they say, and what happens when they are silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;

use std::time::Duration;

use agent::world::{World, reconciler_takes_over};
use agent::{Port, TOKEN, until};
use postern_control_plane::caller::Caller;
use postern_control_plane::pokes::Poke;
use postern_control_plane::store::placement;
use postern_it::cp::Cp;
use postern_model::desired::{HostState, RecordData};
use postern_model::endpoint::EndpointState;
use postern_model::id::{HostId, NetworkInterfaceId};
use postern_proto::agent::v1::follow_request::Message as Said;
use postern_proto::agent::v1::{EnrolRequest, InterfaceUsage, Report};
use postern_runtime::tls::IdentityHandle;
use tonic::Code;

#[tokio::test]
async fn a_host_joins_with_the_token_and_renews_with_its_certificate_until_it_is_removed() {
    let cp = Cp::start().await;
    let port = Port::open(&cp).await;
    let asks = |token: &str, zone: &str| EnrolRequest {
        host_name: "host-1".to_owned(),
        availability_zone_id: zone.to_owned(),
        join_token: token.to_owned(),
        ..EnrolRequest::default()
    };
    let refused = port.enrol(None, asks("another token", "use1-az1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = port.enrol(None, asks("", "use1-az1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = port.enrol(None, asks(TOKEN, "euc1-az1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let (host, identity) = port.join("host-1", "use1-az1").await;
    assert_eq!(identity.current().spiffe().as_host(), Some(host.to_string().as_str()));
    let (again, _) = port.join("host-1", "use1-az2").await;
    assert_eq!(again, host, "the same name is the same host");
    let renewed = port.enrol(Some(&identity), EnrolRequest::default()).await.unwrap();
    assert_eq!(renewed.1, host.to_string());
    let other = EnrolRequest { host_name: "host-2".to_owned(), ..asks("", "use1-az1") };
    let refused = port.enrol(Some(&identity), other).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    cp.app.delete_host(&Caller::Operator, host).await.unwrap();
    let refused = port.enrol(Some(&identity), EnrolRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let ended = port.agent(&identity, HostState::default()).ended().await;
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
}

#[tokio::test]
async fn a_service_joins_by_its_name_and_may_not_follow() {
    let cp = Cp::start().await;
    let port = Port::open(&cp).await;
    let asks = |name: &str| EnrolRequest {
        service_name: name.to_owned(),
        join_token: TOKEN.to_owned(),
        ..EnrolRequest::default()
    };
    let refused = port.enrol(None, asks("control-plane")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (identity, host) = port.enrol(None, asks("dispatcher")).await.unwrap();
    assert_eq!((identity.spiffe().as_service(), host.as_str()), (Some("dispatcher"), ""));
    let identity = IdentityHandle::new(identity);
    port.enrol(Some(&identity), EnrolRequest::default()).await.unwrap();
    let ended = port.agent(&identity, HostState::default()).ended().await;
    assert_eq!(ended.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_endpoint_is_available_when_its_host_says_so_and_its_names_lead_there() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let endpoint = world.endpoint(&[0, 1]).await;
    world.becomes(endpoint, EndpointState::Available).await;
    let names = until("the names", || async {
        let state = agent.state();
        let names = state.names().find(|names| names.endpoint == endpoint).cloned();
        names.filter(|names| names.records.len() == 3)
    })
    .await;
    let addresses = |index: usize| match &names.records[index].data {
        RecordData::Addresses(addresses) => addresses.clone(),
        RecordData::Alias(_) => panic!("an alias"),
    };
    assert_eq!(addresses(0).len(), 2, "the regional name leads to both");
    assert_eq!([addresses(1), addresses(2)].concat(), addresses(0), "a zonal name to its own");
    assert!(agent.state().interfaces().all(|interface| interface.serving));
    assert_eq!(agent.state(), world.truth(host).await);
    let resolvers: Vec<String> =
        sqlx::query_scalar("SELECT resolver_endpoint FROM host_attachment ORDER BY cidr")
            .fetch_all(&world.cp.pool)
            .await
            .unwrap();
    assert_eq!(resolvers, ["10.0.0.2:53", "10.1.0.2:53"]);

    world.cp.app.delete_endpoints(&world.consumer, &[endpoint]).await.unwrap();
    world.becomes(endpoint, EndpointState::Deleted).await;
    until("an empty host", || async {
        let state = agent.state();
        (state.interfaces().count() == 0 && state.names().count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_can_not_be_bound_keeps_the_endpoint_pending_and_says_why() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let agent = port.agent(&identity, HostState::default());
    agent.inner.lock().unwrap().broken = Some("address in use".to_owned());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let endpoint = world.endpoint(&[0]).await;
    until("the error", || async {
        let select = "SELECT bind_error FROM network_interface";
        let error: String = sqlx::query_scalar(select).fetch_one(&world.cp.pool).await.unwrap();
        (error == "address in use").then_some(())
    })
    .await;
    assert_eq!(world.state_of(endpoint).await, "pending");
    // It is mended: a report says so, without a new generation.
    agent.inner.lock().unwrap().broken = None;
    let state = agent.state();
    let interface = state.interfaces().next().unwrap();
    let status = postern_proto::agent::v1::InterfaceStatus {
        network_interface_id: interface.id.to_string(),
        epoch: interface.epoch,
        bound: true,
        error: String::new(),
    };
    agent.says(Said::Report(Report { interfaces: vec![status], ..Report::default() })).await;
    world.becomes(endpoint, EndpointState::Available).await;
}

#[tokio::test]
async fn an_agent_that_comes_back_with_the_newest_state_needs_no_snapshot() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let first = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (first.state() == world.truth(host).await).then_some(()) })
        .await;
    let held = first.state();
    drop(first);
    world.gone(host).await;
    sqlx::query("UPDATE host SET applied_generation = 0").execute(&world.cp.pool).await.unwrap();
    let second = port.agent(&identity, held);
    until("the Hello to be believed", || async {
        let select = "SELECT applied_generation FROM host";
        let applied: i64 = sqlx::query_scalar(select).fetch_one(&world.cp.pool).await.unwrap();
        (applied > 0).then_some(())
    })
    .await;
    world.endpoint(&[0]).await;
    until("a change", || async { (second.inner.lock().unwrap().deltas > 0).then_some(()) }).await;
    assert_eq!(second.inner.lock().unwrap().snapshots, 0);

    // Other content under the same number is offered under another.
    until("the end of the changes", || async {
        (second.state() == world.truth(host).await).then_some(())
    })
    .await;
    let generation = second.state().generation;
    drop(second);
    let third = port.agent(&identity, HostState::new(generation, []));
    until("a snapshot", || async { (third.state() == world.truth(host).await).then_some(()) })
        .await;
    assert!(third.state().generation > generation);
    // An agent that is ahead of a restored database is caught up with.
    drop(third);
    let fourth = port.agent(&identity, HostState::new(1000, []));
    until("a snapshot", || async { (fourth.state() == world.truth(host).await).then_some(()) })
        .await;
    assert!(fourth.state().generation > 1000);
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_also_on_another_replica() {
    let world = World::new(false).await;
    let one = Port::open(&world.cp).await;
    let mut elsewhere = world.cp.app.clone();
    elsewhere.pokes = Default::default();
    let two = Port::with(elsewhere, one.authority.clone()).await;
    let (host, identity) = one.join("host-1", "use1-az1").await;
    let older = one.agent(&identity, HostState::default());
    until("a snapshot", || async { (older.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let newer = two.agent(&identity, HostState::default());
    let ended = older.ended().await;
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    until("a snapshot", || async { (newer.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let connected: bool = sqlx::query_scalar("SELECT connected FROM host WHERE id = $1")
        .bind(host.to_string())
        .fetch_one(&world.cp.pool)
        .await
        .unwrap();
    assert!(connected, "the end of the older stream is not the end of the host");
}

#[tokio::test]
async fn an_agent_that_breaks_the_protocol_or_talks_too_much_is_hung_up_on() {
    let cp = Cp::start().await;
    let port = Port::open(&cp).await;
    let (_, identity) = port.join("host-1", "use1-az1").await;
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    for _ in 0..60 {
        agent.says(Said::Report(Report::default())).await;
    }
    assert_eq!(agent.ended().await.code(), Code::ResourceExhausted);
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    agent.says(Said::Applied(Default::default())).await;
    assert_eq!(agent.ended().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn meters_add_up_over_restarts_of_the_agent() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let endpoint = world.endpoint(&[0]).await;
    world.becomes(endpoint, EndpointState::Available).await;
    let interface = agent.state().interfaces().next().unwrap().id;
    let foreign = NetworkInterfaceId::generate(&mut rand::rng());
    for (boot, bytes) in [("one", 100), ("one", 150), ("two", 30), ("two", 30)] {
        let usage = [interface, foreign].map(|id| InterfaceUsage {
            network_interface_id: id.to_string(),
            bytes_in: bytes,
            total_connections: 1,
            active_connections: 1,
            ..InterfaceUsage::default()
        });
        let report =
            Report { usage: usage.to_vec(), boot_id: boot.to_owned(), ..Report::default() };
        agent.says(Said::Report(report)).await;
    }
    until("the sums", || async {
        let select = "SELECT bytes_in, total_connections FROM interface_usage";
        let sums: Vec<(i64, i64)> = sqlx::query_as(select).fetch_all(&world.cp.pool).await.unwrap();
        (sums == [(180, 2)]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_interfaces_of_a_silent_host_move_to_another_and_it_lets_go_when_it_is_back() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (first, first_identity) = port.join("host-1", "use1-az1").await;
    world.attach(first).await;
    let one = port.agent(&first_identity, HostState::default());
    until("a snapshot", || async { (one.inner.lock().unwrap().snapshots > 0).then_some(()) }).await;
    let endpoint = world.endpoint(&[0]).await;
    world.becomes(endpoint, EndpointState::Available).await;
    until("the names", || async { (one.state() == world.truth(first).await).then_some(()) }).await;
    let held = one.state();
    drop(one);
    world.gone(first).await;

    // Alone, it keeps what it has: the data plane goes on without us.
    let mut reconciler = world.reconciler();
    reconciler.has_listened();
    world.silence(first, 20.0).await;
    let report = reconciler.pass().await;
    assert_eq!((report.moved, report.adrift, report.failed), (0, 1, 0), "{report:?}");

    let (second, second_identity) = port.join("host-2", "use1-az2").await;
    world.attach(second).await;
    let two = port.agent(&second_identity, HostState::default());
    until("a snapshot", || async { (two.inner.lock().unwrap().snapshots > 0).then_some(()) }).await;
    // Who has not listened for a lease can't say that a host is silent.
    let mut fresh = world.reconciler();
    reconciler_takes_over(&world).await;
    assert_eq!(fresh.pass().await.moved, 0);
    reconciler_takes_over(&world).await;
    let report = reconciler.pass().await;
    assert_eq!((report.moved, report.failed), (0, 0), "a lease that was lost is listening lost");
    reconciler.has_listened();
    let report = reconciler.pass().await;
    assert_eq!((report.moved, report.failed), (1, 0), "{report:?}");
    let moved = until("the interface", || async { two.state().interfaces().next().cloned() }).await;
    assert_eq!(moved.epoch, held.interfaces().next().unwrap().epoch + 1);

    // The first comes back with the old epoch, and is told to let go.
    let back = port.agent(&first_identity, held);
    until("an empty host", || async { (back.state().interfaces().count() == 0).then_some(()) })
        .await;
    until("the new host's word", || async {
        let select = "SELECT bound FROM network_interface WHERE host_id = $1";
        let bound: Option<bool> = sqlx::query_scalar(select)
            .bind(second.to_string())
            .fetch_optional(&world.cp.pool)
            .await
            .unwrap();
        (bound == Some(true)).then_some(())
    })
    .await;
    assert_eq!(world.state_of(endpoint).await, "available");
}

#[tokio::test]
async fn an_endpoint_without_a_host_gets_one_when_one_appears() {
    let world = World::new(false).await;
    let endpoint = world.endpoint(&[0, 2]).await;
    let mut reconciler = world.reconciler();
    assert_eq!(reconciler.pass().await.placed, 0);
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let mut db = world.cp.pool.acquire().await.unwrap();
    let zones = ["use1-az1".parse().unwrap()];
    let (vpc, target) = (world.vpc.id, world.target.id);
    let silent = placement::choose(&mut db, vpc, target, &zones).await.unwrap();
    assert_eq!(silent, [None], "a host that never was heard of takes nothing");
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let chosen = placement::choose(&mut db, vpc, target, &zones).await.unwrap();
    assert_eq!(chosen, [Some(host)]);
    assert_eq!(reconciler.pass().await.placed, 2);
    world.becomes(endpoint, EndpointState::Available).await;
}

#[tokio::test]
async fn what_a_silent_host_never_let_go_of_is_taken_from_it_in_the_end() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, identity) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let agent = port.agent(&identity, HostState::default());
    until("a snapshot", || async { (agent.inner.lock().unwrap().snapshots > 0).then_some(()) })
        .await;
    let endpoint = world.endpoint(&[0]).await;
    world.becomes(endpoint, EndpointState::Available).await;
    drop(agent);
    world.gone(host).await;
    world.cp.app.delete_endpoints(&world.consumer, &[endpoint]).await.unwrap();
    let mut reconciler = world.reconciler();
    reconciler.has_listened();
    world.silence(host, 20.0).await;
    assert_eq!(reconciler.pass().await.abandoned, 0);
    assert_eq!(world.state_of(endpoint).await, "deleting");
    world.silence(host, 100.0).await;
    assert_eq!(reconciler.pass().await.abandoned, 1);
    assert_eq!(world.state_of(endpoint).await, "deleted");
}

#[tokio::test]
async fn pokes_reach_the_other_replica() {
    use postern_control_plane::tasks::poke_bridge;
    use postern_runtime::shutdown::Stop;
    let cp = Cp::start().await;
    let stop = Stop::new();
    let (here, there) = (cp.app.pokes.clone(), postern_control_plane::pokes::Pokes::default());
    let mut tasks = Vec::new();
    for pokes in [&here, &there] {
        let run = poke_bridge::run(cp.app.store.clone(), pokes.clone(), stop.clone());
        tasks.push(tokio::spawn(run));
    }
    let host = HostId::generate(&mut rand::rng());
    // Until both listen, pokes are lost: that is allowed.
    until("a poke", || async {
        let mut heard = there.of_host(host);
        here.poke(Poke::Host(host));
        tokio::time::timeout(Duration::from_millis(100), heard.next()).await.ok()
    })
    .await;
    stop.stop();
    for task in tasks {
        task.await.unwrap();
    }
}
