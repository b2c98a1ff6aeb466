//! What a change costs an agent, counted: as much on a host that holds much as on one that holds
//! little.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use postern_agent::AgentConfig;
use postern_agent::addresses::Addresses;
use postern_agent::apply::Applier;
use postern_agent::metrics::Metrics;
use postern_agent::resolvers::Resolvers;
use postern_datapath::Datapath;
use postern_model::desired::{
    Attachment, AttachmentKind, Change, HostState, Interface, Key, Names, Object, Record,
    RecordData,
};
use postern_runtime::admin::Admin;
use postern_runtime::config::Vars;
use tempfile::TempDir;

/// The two hosts that are compared hold so many interfaces.
const SIZES: [u32; 2] = [100, 10_000];

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(prefix: &str, number: u32) -> T {
    format!("{prefix}-{number:017x}").parse().unwrap()
}

/// The VPC of this number, reached by loopback and without a resolver.
fn attachment(number: u32) -> Attachment {
    Attachment {
        id: id("hatt", number),
        vpc: id("vpc", number),
        cidr: format!("127.{number}.0.0/16").parse().unwrap(),
        dns_support: false,
        kind: AttachmentKind::Loopback,
    }
}

/// An interface that is bound and lets nobody in, in a VPC of its hundred.
fn interface(number: u32) -> Interface {
    let vpc = 101 + number / 100;
    let [.., last] = (number % 100 + 10).to_be_bytes();
    Interface {
        id: id("eni", number),
        endpoint: id("vpce", number),
        vpc: id("vpc", vpc),
        address: Ipv4Addr::new(127, vpc as u8, 7, last),
        epoch: 1,
        serving: false,
        ingress: Vec::new(),
        listeners: Vec::new(),
        target_vpc: id("vpc", 100),
        proxy_protocol_v2: false,
        idle_timeout_seconds: 350,
    }
}

fn names(number: u32) -> Names {
    let Interface { vpc, endpoint, address, .. } = interface(number);
    let base = "vpce-svc-1.us-east-1.vpce.amazonaws.com";
    let data = RecordData::Addresses(vec![address]);
    let record = Record { name: format!("e{number}.{base}"), ttl_seconds: 60, data };
    Names { vpc, endpoint, records: vec![record], base_name: base.to_owned(), private_zone: None }
}

struct Host {
    applier: Applier,
    metrics: Metrics,
    state: HostState,
    datapath: Arc<Datapath>,
    _dir: TempDir,
}

impl Host {
    /// A host that holds so many interfaces and their names.
    async fn holding(count: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = AgentConfig::load(&Vars::from_pairs([
            ("POSTERN_CONTROL_PLANE", "nowhere:1"),
            ("POSTERN_ZONE", "use1-az1"),
            ("POSTERN_CA_FILE", "/nowhere"),
            ("POSTERN_HOST_NAME", "flat"),
            ("POSTERN_DNS_FORWARDING", "off"),
        ]))
        .unwrap();
        let admin = Admin::new("test");
        let one = NonZeroUsize::MIN;
        let settings =
            postern_datapath::Config { workers: Some(one), ..postern_datapath::Config::default() };
        let datapath = Arc::new(Datapath::start(settings).unwrap());
        let metrics = Metrics::default();
        let addresses = Addresses::new(dir.path()).unwrap();
        let resolvers = Resolvers::new(&config, &admin).unwrap();
        let mut applier =
            Applier::new(Arc::clone(&datapath), addresses, resolvers, metrics.clone());
        let attachments = (100..=101 + count / 100).map(attachment).map(Object::Attachment);
        let interfaces = (0..count).map(interface).map(Object::Interface);
        let names = (0..count).map(names).map(Object::Names);
        let state = HostState::new(1, attachments.chain(interfaces).chain(names));
        applier.apply(&state).await;
        let told = applier.tell_all();
        assert_eq!(told.interfaces.len(), count as usize);
        assert!(told.interfaces.iter().all(|status| status.bound), "{:?}", told.interfaces[0]);
        Self { applier, metrics, state, datapath, _dir: dir }
    }

    /// Takes a change, and says how many objects were looked at and how many interfaces are told of.
    async fn change(&mut self, upserts: Vec<Object>, removals: Vec<Key>) -> (u64, usize) {
        let before = self.metrics.objects_touched.get();
        let (from, to) = (self.state.generation, self.state.generation + 1);
        let change = Change { from, to, upserts, removals };
        let keys: BTreeSet<Key> = change.keys();
        self.state.take(change).unwrap();
        self.applier.touch(&self.state, keys.clone()).await;
        let told = self.applier.tell(&keys);
        assert!(told.interfaces.iter().all(|status| status.bound), "{:?}", told.interfaces);
        (self.metrics.objects_touched.get() - before, told.interfaces.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_looks_at_what_it_touches_and_what_stands_on_it_whatever_the_host_holds() {
    for size in SIZES {
        let mut host = Host::holding(size).await;
        let mut rules = interface(5);
        rules.ingress = vec![rule()];
        assert_eq!(host.change(vec![Object::Interface(rules)], vec![]).await, (1, 1), "{size}");
        let mut moved = names(6);
        moved.records[0].ttl_seconds = 1;
        assert_eq!(host.change(vec![Object::Names(moved)], vec![]).await, (1, 0), "{size}");
        let gone = vec![Key::Interface(interface(7).id)];
        assert_eq!(host.change(vec![], gone).await, (1, 0), "{size}");
        assert_eq!(host.datapath.usage().len(), size as usize - 1);
        // The hundred of one VPC, one of which is gone, and their attachment.
        let there = vec![Object::Attachment(attachment(101))];
        let (touched, told) = host.change(there, vec![]).await;
        assert_eq!((touched, told), (100, 0), "{size}: nothing about them changed");
        // A retry looks at what failed.
        let mut lost = interface(8);
        lost.vpc = id("vpc", 999);
        let (from, to) = (host.state.generation, host.state.generation + 1);
        let upserts = vec![Object::Interface(lost)];
        let change = Change { from, to, upserts, removals: vec![] };
        let keys = change.keys();
        host.state.take(change).unwrap();
        host.applier.touch(&host.state, keys.clone()).await;
        let told = host.applier.tell(&keys).interfaces;
        assert!(told.len() == 1 && !told[0].bound, "{told:?}");
        let before = host.metrics.objects_touched.get();
        host.applier.retry(&host.state).await;
        assert_eq!(host.metrics.objects_touched.get() - before, 1);
        assert!(host.applier.take_news().is_empty(), "the same fault is no news");
        // And what is told again is what is there.
        assert_eq!(host.change(vec![Object::Interface(interface(8))], vec![]).await, (1, 1));
        assert!(!host.applier.wants_retry());
        host.applier.shut_down(std::time::Duration::ZERO).await;
    }
}

fn rule() -> postern_model::security::IngressRule {
    postern_model::security::IngressRule {
        source: "10.0.0.0/8".parse().unwrap(),
        protocol: "tcp".parse().unwrap(),
        ports: postern_model::security::PortRange::new(80, 80).unwrap(),
    }
}
