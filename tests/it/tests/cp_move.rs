//! An interface that moves between two real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use agent::world::World;
use agent::{Port, TOKEN, until};
use postern_agent::AgentConfig;
use postern_control_plane::app::security_groups::AuthorizeIngress;
use postern_control_plane::store::hosts::Reach;
use postern_model::endpoint::EndpointState;
use postern_model::id::{EndpointId, HostId};
use postern_model::security::IngressRule;
use postern_runtime::admin::Admin;
use postern_runtime::config::Vars;
use postern_runtime::shutdown::Stop;
use postern_testkit::deployment::{Block, Echo, Held, echoes};
use prometheus_client::encoding::text::encode;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The way from one agent to the control plane, which can be cut.
struct Link {
    address: String,
    open: Arc<watch::Sender<bool>>,
    _task: JoinHandle<()>,
}

impl Link {
    async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(watch::Sender::new(true));
        let (state, target) = (Arc::clone(&open), target.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut is_open, target) = (state.subscribe(), target.clone());
                tokio::spawn(async move {
                    if !*is_open.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = is_open.wait_for(|open| !*open) => {}
                    }
                });
            }
        });
        Self { address, open, _task: task }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

/// A real agent in this process, with a state of its own.
struct Real {
    link: Link,
    admin: Admin,
    stop: Stop,
    task: JoinHandle<()>,
    ended: Arc<AtomicBool>,
}

impl Real {
    async fn start(port: &Port, number: u16, directory: &Path) -> Self {
        let link = Link::to(&port.address).await;
        let ca = directory.join("ca.pem");
        std::fs::write(&ca, port.authority.ca_pem()).unwrap();
        let state = directory.join(format!("agent-{number}"));
        let settings = [
            ("POSTERN_CONTROL_PLANE", link.address.clone()),
            ("POSTERN_CA_FILE", ca.display().to_string()),
            ("POSTERN_JOIN_TOKEN", TOKEN.to_owned()),
            ("POSTERN_HOST_NAME", format!("host-{number}")),
            ("POSTERN_ZONE", format!("use1-az{number}")),
            ("POSTERN_STATE_DIR", state.display().to_string()),
            // Both reach the VPC by loopback, where only one could have the usual port.
            ("POSTERN_RESOLVER_PORT", (8060 + number).to_string()),
            ("POSTERN_DNS_FORWARDING", "off".to_owned()),
            ("POSTERN_WORKERS", "1".to_owned()),
            ("POSTERN_REPORT_SECONDS", "1".to_owned()),
            ("POSTERN_DRAIN_SECONDS", "0".to_owned()),
        ];
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let config = AgentConfig::load(&Vars::from_pairs(settings)).unwrap();
        let (admin, stop) = (Admin::new("an agent"), Stop::new());
        let (shown, asked) = (admin.clone(), stop.clone());
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            postern_agent::run(config, &shown, asked).await.unwrap();
            end.store(true, SeqCst);
        });
        Self { link, admin, stop, task, ended }
    }

    fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, &self.admin.registry.lock().unwrap()).unwrap();
        let named = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next().is_some_and(|word| word.ends_with(name)));
        named.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    async fn shows(&self, name: &str, value: f64) {
        until(name, || async { (self.metric(name) == value).then_some(()) }).await;
    }

    async fn stop(self) {
        self.stop.stop();
        self.task.await.unwrap();
        assert!(self.ended.load(SeqCst));
    }
}

async fn host(world: &World, name: &str) -> HostId {
    let select = "SELECT id FROM host WHERE name = $1";
    let id: String = until("a host", || async {
        let row = sqlx::query_scalar(select).bind(name).fetch_optional(&world.cp.pool);
        row.await.unwrap()
    })
    .await;
    id.parse().unwrap()
}

async fn owner(world: &World, endpoint: EndpointId) -> (HostId, bool) {
    let (host, bound): (String, bool) =
        sqlx::query_as("SELECT host_id, bound FROM network_interface WHERE endpoint_id = $1")
            .bind(endpoint.to_string())
            .fetch_one(&world.cp.pool)
            .await
            .unwrap();
    (host.parse().unwrap(), bound)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_moves_to_another_agent_and_the_first_lets_go_by_itself_when_it_hears() {
    let (near, far) = (Block::claim(), Block::claim());
    let (here, there) = (near.at(0).octets(), far.at(0).octets());
    let world = World::within(false, [here[0], here[1]], [there[0], there[1]]).await;
    let target = TcpListener::bind((far.at(0x0105), 8080)).await.unwrap();
    let _echo = Echo::on(target);
    let rule = IngressRule::parse("rule", &near.cidr(), "tcp", Some(80), Some(80)).unwrap();
    let command = AuthorizeIngress { group: world.group, permissions: vec![(rule, String::new())] };
    world.cp.app.authorize_ingress(&world.consumer, command).await.unwrap();

    let port = Port::open(&world.cp).await;
    let directory = tempfile::tempdir().unwrap();
    let one = Real::start(&port, 1, directory.path()).await;
    let two = Real::start(&port, 2, directory.path()).await;
    let (first, second) = (host(&world, "host-1").await, host(&world, "host-2").await);
    for (agent, id) in [(&one, first), (&two, second)] {
        until("readiness", || async { agent.admin.readiness.is_ready().then_some(()) }).await;
        world.attach_by(id, |_| Reach::Loopback).await;
    }
    let endpoint = world.endpoint(&[0]).await;
    world.becomes(endpoint, EndpointState::Available).await;
    assert_eq!(owner(&world, endpoint).await, (first, true), "the host of its zone");
    let (source, address) = (
        near.at(50),
        sqlx::query_scalar::<_, String>(
            "SELECT host(address) FROM network_interface WHERE endpoint_id = $1",
        ),
    );
    let address = address.bind(endpoint.to_string()).fetch_one(&world.cp.pool).await.unwrap();
    let at = format!("{address}:80").parse().unwrap();
    let mut held = Held::open(source, at).await.unwrap();
    assert_eq!(two.metric("connections_accepted_total"), 0.0);

    // The first is cut off, and silent for longer than its lease.
    one.link.set(false);
    world.gone(first).await;
    world.silence(first, 20.0).await;
    let mut reconciler = world.reconciler();
    reconciler.has_listened();
    let report = reconciler.pass().await;
    assert_eq!((report.moved, report.failed), (1, 0), "{report:?}");
    two.shows("agent_interfaces_bound", 1.0).await;
    until("the second host's word", || async {
        (owner(&world, endpoint).await == (second, true)).then_some(())
    })
    .await;
    assert_eq!(world.state_of(endpoint).await, "available");
    // What the first carries, it carries on: nobody told it otherwise, and it is ready still.
    held.says_back("still there").await.unwrap();
    assert_eq!(one.metric("agent_interfaces_bound"), 1.0);
    assert!(one.admin.readiness.is_ready());

    // It hears of the move, and lets go: what it carried ends, what comes goes by the second.
    one.link.set(true);
    one.shows("agent_interfaces_bound", 0.0).await;
    assert!(held.cut(Duration::from_secs(20)).await.unwrap(), "cut by policy, with a reset");
    let before = two.metric("connections_accepted_total");
    for _ in 0..20 {
        echoes(source, at).await.expect("bytes pass by the second host");
    }
    assert_eq!(two.metric("connections_accepted_total") - before, 20.0);
    assert_eq!(owner(&world, endpoint).await, (second, true));
    two.stop().await;
    one.stop().await;
}
