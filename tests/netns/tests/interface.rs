//! An agent on a host of its own, whose VPCs are real networks that it has interfaces in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use postern_proto::v1::VpcEndpointState;
use postern_testkit::deployment::{
    Block, Deployment, Echo, PATIENCE, RESOLVER_PORT, Setup, World, echoes, resolve, times_out,
    until,
};
use postern_testkit::netns::{Namespace, Switch, unavailable};

/// A cable between this machine and a namespace, for what the agent says to the control plane.
struct Cable {
    device: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Cable {
    /// Lays one, with a network in the range that is set aside for tests (RFC 2544).
    fn lay(to: &Namespace) -> Self {
        let (second, third) = (18 + rand::random::<u8>() % 2, rand::random::<u8>());
        let (here, there) =
            (Ipv4Addr::new(198, second, third, 1), Ipv4Addr::new(198, second, third, 2));
        let device = format!("ptc{}", std::process::id());
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "mgmt", "netns", to.name()]);
        ip(&["addr", "add", &format!("{here}/30"), "dev", &device]);
        ip(&["link", "set", &device, "up"]);
        to.add_address("mgmt", &format!("{there}/30")).unwrap();
        to.ip(&["link", "set", "mgmt", "up"]).unwrap();
        Self { device, here, there }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.device]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("running ip");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// The addresses of an interface, sorted.
fn addresses(host: &Namespace, interface: &str) -> Vec<String> {
    let shown = host.ip(&["-o", "-4", "addr", "show", "dev", interface]).unwrap();
    let mut all: Vec<String> = shown
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn an_endpoint_s_address_is_on_the_host_s_interface_for_as_long_as_there_is_the_endpoint() {
    if unavailable().is_some() {
        return;
    }
    let (consumers, providers) = (Switch::new().unwrap(), Switch::new().unwrap());
    let host = Namespace::new("agent").unwrap();
    let (client, stranger) = (Namespace::new("client").unwrap(), Namespace::new("other").unwrap());
    let server = Namespace::new("server").unwrap();
    let cable = Cable::lay(&host);
    let (vpc, theirs) = (Block::of(10, 20), Block::of(10, 30));
    let (in_vpc, in_theirs) = (vpc.at(11), theirs.at(11));
    consumers.plug(&host, "eth0", &format!("{in_vpc}/16")).unwrap();
    providers.plug(&host, "eth1", &format!("{in_theirs}/16")).unwrap();
    // An address that is not the agent's to take away, next to those that will be.
    host.add_address("eth0", &format!("{}/32", vpc.at(0x0163))).unwrap();
    let before = addresses(&host, "eth0");

    // Before the processes: what they hold open keeps a namespace alive.
    let setup = Setup { agents: 0, agents_at: Some(cable.here), ..Setup::default() };
    let mut deployment = Deployment::with(setup).await;
    deployment.start_agent_inside(1, &host, cable.there).await;
    let world = World::new(deployment.operator(), 1);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (vpc, theirs) = (world.vpc_in(&consumer, vpc).await, world.vpc_in(&provider, theirs).await);
    consumers.plug(&client, "eth0", &format!("{}/16", vpc.source())).unwrap();
    consumers.plug(&stranger, "eth0", &format!("{}/16", vpc.stranger())).unwrap();
    let target = theirs.block.at(20);
    providers.plug(&server, "eth0", &format!("{target}/16")).unwrap();
    let listener = server.run(move || TcpListener::bind((target, 7)).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let echo = Echo::on(tokio::net::TcpListener::from_std(listener).unwrap());
    let agent = world.hosts().await.remove(0).host_id;
    world.attach(&agent, &vpc, Some(in_vpc)).await;
    world.attach(&agent, &theirs, Some(in_theirs)).await;

    let service = world.service(&provider, &theirs).leading_to(echo.address).accepting_all();
    let service = service.create().await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    let available = endpoint.reaches(VpcEndpointState::Available).await;
    let with_endpoint = addresses(&host, "eth0");
    assert!(
        with_endpoint.contains(&format!("{}/32", endpoint.addresses[0])),
        "{with_endpoint:?} has not {:?}",
        endpoint.addresses
    );
    assert_eq!(with_endpoint.len(), before.len() + 1, "{with_endpoint:?}");

    let (source, other, at) = (vpc.source(), vpc.stranger(), endpoint.at());
    client.run_async(move || echoes(source, at)).await.unwrap().expect("bytes pass");
    let silent = stranger.run_async(move || times_out(other, at)).await.unwrap();
    assert!(silent, "a stranger gets an answer");
    let resolver = SocketAddr::from((in_vpc, RESOLVER_PORT));
    let name = available.dns_entries[0].dns_name.clone();
    let named = until("the name resolves in the network", PATIENCE, || async {
        let name = name.clone();
        let answer = client.run_async(move || async move { resolve(resolver, &name).await });
        let answer = answer.await??;
        anyhow::Ok((!answer.addresses.is_empty()).then_some(answer.addresses))
    })
    .await;
    assert_eq!(named, endpoint.addresses);

    endpoint.delete().await.unwrap();
    endpoint.reaches(VpcEndpointState::Deleted).await;
    assert_eq!(addresses(&host, "eth0"), before, "what was there before is there, and no more");
}
