//! The control plane going and coming while connections are open.

use std::time::Duration;

use postern_proto::v1::VpcEndpointState;
use postern_testkit::deployment::{Deployment, Held, Program, Setup, World, echoes};
use tokio::time::{Instant, sleep};

use crate::LEASE;

#[tokio::test]
async fn a_restarted_and_a_killed_control_plane_drop_no_connection_and_agents_come_back() {
    let setup = Setup { host_lease: LEASE.as_secs(), ..Setup::default() };
    let mut deployment = Deployment::with(setup).await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).accepting_all().create().await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    endpoint.reaches(VpcEndpointState::Available).await;
    let mut held = Held::open(vpc.source(), endpoint.at()).await.unwrap();

    for way in ["stopped", "killed"] {
        let control_plane = deployment.process(Program::ControlPlane);
        if way == "stopped" {
            let status = control_plane.stop().await;
            assert!(status.success(), "{status}");
        } else {
            control_plane.kill();
            // So long that no host has been heard of for its lease when it starts again.
            let killed = Instant::now();
            while killed.elapsed() < LEASE + Duration::from_secs(1) {
                held.says_back("on its own").await.unwrap();
                sleep(Duration::from_millis(100)).await;
            }
        }
        held.says_back(way).await.unwrap();
        echoes(vpc.source(), endpoint.at()).await.expect("a new connection");
        deployment.restart(Program::ControlPlane).await;
        // What is asked for afterwards reaches the host: the agent has come back.
        let next = world.endpoint(&vpc, &service).create().await;
        next.reaches(VpcEndpointState::Available).await;
        echoes(vpc.source(), next.at()).await.expect("bytes pass");
        held.says_back("and back").await.unwrap();
    }
    // A change of the endpoint that was there all along arrives, too.
    service.reject(&endpoint.id).await.unwrap();
    assert!(held.cut(Duration::from_secs(5)).await.expect("cut in five seconds"));
}
