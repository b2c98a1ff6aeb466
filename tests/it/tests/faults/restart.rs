//! The control plane going and coming while connections are open.

use postern_proto::v1::VpcEndpointState;
use postern_testkit::deployment::{Deployment, Held, Program, World, echoes};

#[tokio::test]
async fn a_restarted_and_a_killed_control_plane_drop_no_connection_and_agents_come_back() {
    let mut deployment = Deployment::start().await;
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
    assert!(held.cut(std::time::Duration::from_secs(5)).await.expect("cut in five seconds"));
}
