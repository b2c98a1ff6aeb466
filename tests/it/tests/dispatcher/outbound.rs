//! Hostile targets: nothing of what is inside may ever be reached (design 16).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use postern_dispatcher::deliver::Verdict;
use postern_dispatcher::deliver::dial::{Dialer, Resolver};
use postern_dispatcher::deliver::outbound::OutboundPolicy;
use postern_dispatcher::deliver::webhook::Webhooks;
use postern_dispatcher::store::deliveries::Claimed;
use postern_dispatcher::store::messages::MessageKind;
use postern_testkit::receiver::{Behaviour, Receiver};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::world::start;

/// Answers what a name's owner wants, which may be another thing each time.
#[derive(Debug, Default)]
struct Names {
    answers: BTreeMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let answers = self.answers.get(name.as_str()).ok_or(io::ErrorKind::NotFound)?;
        Ok(answers[asked.min(answers.len() - 1)].clone())
    }
}

fn claimed(endpoint: &str) -> Claimed {
    Claimed {
        id: Uuid::new_v4(),
        created_at: start(),
        claim: Uuid::new_v4(),
        target: String::new(),
        token: None,
        attempts: 0,
        replayed_after: 0,
        paced: false,
        due_at: start(),
        message_id: Uuid::new_v4(),
        kind: "Notification".to_owned(),
        event_id: None,
        subject: None,
        body: "secret".to_owned(),
        attributes: "{}".to_owned(),
        trace: sqlx::types::Json(BTreeMap::new()),
        published_at: start(),
        topic_owner_id: "111122223333".to_owned(),
        region: "us-east-1".to_owned(),
        topic_name: "doors".to_owned(),
        display_name: String::new(),
        signature_version: 2,
        topic_delivery_policy: None,
        subscription_id: Uuid::new_v4(),
        protocol: "http".to_owned(),
        endpoint: endpoint.to_owned(),
        raw: true,
        delivery_policy: None,
        subscription_state: "confirmed".to_owned(),
        redrive_policy: None,
        webhook_secret: None,
        webhook_secret_previous: None,
        webhook_secret_previous_until: None,
    }
}

fn webhooks(policy: OutboundPolicy, names: Arc<Names>) -> Webhooks {
    postern_runtime::tls::install_provider();
    let roots = rustls::RootCertStore::empty();
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let dialer = Dialer::new(policy, names, Arc::new(tls));
    Webhooks::new(dialer, Duration::from_secs(2))
}

/// Addresses that only this machine or its network can reach.
const INSIDE: [&str; 34] = [
    "0.0.0.0",
    "0.0.0.1",
    "0.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.17.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "254.1.1.1",
    "255.255.255.255",
];

/// The ways to write an IPv4 address that clients understand, or once did.
fn disguises(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let [high, low] = [number >> 16, number & 0xffff];
    let six = |text: Ipv6Addr| format!("[{text}]");
    let of = |prefix: [u16; 6]| {
        let [p, q, r, s, t, u] = prefix;
        six(Ipv6Addr::new(p, q, r, s, t, u, high as u16, low as u16))
    };
    vec![
        address.to_string(),
        format!("{address}."),
        number.to_string(),
        format!("{number:#x}"),
        format!("0{number:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("%3{}{}", a.to_string().remove(0), &address.to_string()[1..]),
        of([0, 0, 0, 0, 0, 0xffff]),
        of([0, 0, 0, 0, 0, 0]),
        of([0x64, 0xff9b, 0, 0, 0, 0]),
        of([0x64, 0xff9b, 1, 0, 0, 0]),
        six(Ipv6Addr::new(0x2002, high as u16, low as u16, 0, 0, 0, 0, 1)),
        // Teredo carries the client's address inverted.
        six(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !(high as u16), !(low as u16))),
    ]
}

fn corpus(canary: u16) -> Vec<String> {
    let mut all = Vec::new();
    for address in INSIDE {
        for host in disguises(address.parse().unwrap()) {
            all.push(format!("http://{host}:{canary}/"));
        }
    }
    for host in [
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1]",
        "[fe80::a9fe:a9fe]",
        "[febf::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fdff::1]",
        "[ff02::1]",
        "[ff05::1:3]",
        "[100::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[2001:10::1]",
        "[2001:20::1]",
        "[5f00::1]",
        "[4000::1]",
        "[::2]",
        "[fe80::1%25lo]",
    ] {
        all.push(format!("http://{host}:{canary}/"));
    }
    // Digits and dots that only look like others, in letters that are mapped to them.
    for host in [
        "\u{ff11}\u{ff12}\u{ff17}.\u{ff10}.\u{ff10}.\u{ff11}",
        "\u{2460}\u{2461}\u{2466}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "127\u{ff0e}0\u{ff0e}0\u{ff0e}1",
        "\u{24db}ocalhost",
        "\u{ff4c}ocalhost",
        "loc\u{aad}alhost",
        "local\u{200d}host",
        "LOCALHOST",
        "localhost.",
        "\u{2113}ocalhost",
        "localh\u{1d52}st",
    ] {
        all.push(format!("http://{host}:{canary}/"));
    }
    for name in [
        "inside.example",
        "mixed.example",
        "mapped.example",
        "metadata.example",
        "changes.example",
        "six.example",
        "nat64.example",
        "localhost",
        "metadata.google.internal",
    ] {
        all.push(format!("http://{name}:{canary}/"));
        all.push(format!("https://{name}:{canary}/"));
        all.push(format!("http://user:password@{name}:{canary}/"));
    }
    for url in [
        format!("http://good.example@127.0.0.1:{canary}/"),
        format!("http://good.example:80@127.0.0.1:{canary}/"),
        format!("http://good.example%40127.0.0.1:{canary}/"),
        format!("http://127.0.0.1:{canary}#@good.example/"),
        format!("http://127.0.0.1:{canary}?@good.example/"),
        format!("http://127.0.0.1:{canary}\\@good.example/"),
        format!("http:\\\\127.0.0.1:{canary}\\"),
        format!("http:127.0.0.1:{canary}/"),
        format!("http:///127.0.0.1:{canary}/"),
        format!("http://127.0.0.1:{canary}\t/"),
        format!("http://127.0.\n0.1:{canary}/"),
        format!(" http://127.0.0.1:{canary}/ "),
        format!("HTTP://127.0.0.1:{canary}/"),
        format!("http://1\t27.0.0.1:{canary}/"),
        format!("file://127.0.0.1:{canary}/etc/passwd"),
        format!("gopher://127.0.0.1:{canary}/_x"),
        format!("ftp://127.0.0.1:{canary}/"),
        format!("ws://127.0.0.1:{canary}/"),
        format!("unix://127.0.0.1:{canary}/"),
        "http://".to_owned(),
        "http://:80/".to_owned(),
        "//127.0.0.1/".to_owned(),
        "javascript:alert(1)".to_owned(),
        "data:,x".to_owned(),
    ] {
        all.push(url);
    }
    // Ports of services that a POST could talk to.
    for port in
        [0, 1, 7, 19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 514, 587, 631]
    {
        all.push(format!("http://allowed.example:{port}/"));
    }
    all
}

fn names() -> Names {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let answers = BTreeMap::from([
        ("inside.example", vec![vec![ip("127.0.0.1")]]),
        // One address that may be dialled and one that may not: none is.
        ("mixed.example", vec![vec![ip("127.0.0.9"), ip("127.0.0.1")]]),
        ("mapped.example", vec![vec![ip("::ffff:127.0.0.1")]]),
        ("metadata.example", vec![vec![ip("169.254.169.254")]]),
        ("changes.example", vec![vec![ip("127.0.0.1")]]),
        ("six.example", vec![vec![ip("::1")]]),
        ("nat64.example", vec![vec![ip("64:ff9b::7f00:1")]]),
        ("localhost", vec![vec![ip("127.0.0.1"), ip("::1")]]),
        ("metadata.google.internal", vec![vec![ip("169.254.169.254")]]),
        ("allowed.example", vec![vec![ip("127.0.0.9")]]),
    ]);
    Names { answers, ..Names::default() }
}

/// One port of this machine's addresses that must never see a connection.
async fn canary() -> (u16, Vec<TcpListener>) {
    let four = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = four.local_addr().unwrap().port();
    let mut all = vec![four];
    all.extend(TcpListener::bind(("::1", port)).await);
    (port, all)
}

/// Whether anybody has connected; a connection that was made is in the queue.
async fn touched(listeners: &[TcpListener]) -> bool {
    for listener in listeners {
        if tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_ok() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn no_hostile_target_of_the_corpus_is_reached() {
    let (port, canary) = canary().await;
    let policy =
        OutboundPolicy { allow: vec!["127.0.0.9/32".parse().unwrap()], ..Default::default() };
    let webhooks = webhooks(policy, Arc::new(names()));
    let corpus = corpus(port);
    assert!(corpus.len() >= 200, "{}", corpus.len());
    let tried = futures_util::stream::iter(corpus.clone()).map(|url| {
        let webhooks = webhooks.clone();
        async move {
            let kind = MessageKind::Notification;
            let attempt = webhooks.post(&claimed(&url), kind, "secret".into(), None, start()).await;
            (url, attempt)
        }
    });
    let mut escapes = Vec::new();
    for (url, attempt) in tried.buffer_unordered(16).collect::<Vec<_>>().await {
        if attempt.verdict == Verdict::Delivered
            || attempt.status != 0
            || !attempt.address.is_empty()
        {
            escapes.push(format!("{url}: {attempt:?}"));
        }
    }
    assert!(escapes.is_empty(), "{} of {}: {escapes:#?}", escapes.len(), corpus.len());
    assert!(!touched(&canary).await, "the canary was reached");
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_asked_once() {
    let (port, canary) = canary().await;
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    // Nothing listens at the first; whoever asks again is led inside.
    let answers =
        BTreeMap::from([("rebind.example", vec![vec![ip("127.0.0.9")], vec![ip("127.0.0.1")]])]);
    let names = Arc::new(Names { answers, ..Names::default() });
    let policy =
        OutboundPolicy { allow: vec!["127.0.0.9/32".parse().unwrap()], ..Default::default() };
    drop(canary);
    let inside = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let webhooks = webhooks(policy, Arc::clone(&names));
    let url = format!("http://rebind.example:{port}/");
    let kind = MessageKind::Notification;
    let attempt = webhooks.post(&claimed(&url), kind, "x".into(), None, start()).await;
    assert_eq!((attempt.verdict, attempt.status), (Verdict::Retry, 0));
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    // The next attempt asks again, and what it hears is checked again.
    let attempt = webhooks.post(&claimed(&url), kind, "x".into(), None, start()).await;
    assert!(attempt.error.contains("not a public address"), "{attempt:?}");
    assert!(!touched(&[inside]).await);
}

#[tokio::test]
async fn a_redirect_to_the_inside_is_not_followed() {
    let (port, canary) = canary().await;
    let outside = Receiver::start_at("127.0.0.9:0".parse().unwrap(), None).await.unwrap();
    outside.always("/hook", Behaviour::Redirect(format!("http://127.0.0.1:{port}/")));
    let policy =
        OutboundPolicy { allow: vec!["127.0.0.9/32".parse().unwrap()], ..Default::default() };
    let webhooks = webhooks(policy, Arc::new(names()));
    let url = outside.url("/hook");
    let kind = MessageKind::Notification;
    let attempt = webhooks.post(&claimed(&url), kind, "x".into(), None, start()).await;
    assert_eq!((attempt.verdict, attempt.status), (Verdict::Permanent, 302));
    assert!(!touched(&canary).await);
}

#[tokio::test]
async fn a_host_that_the_policy_names_may_lead_to_a_private_network_but_not_to_this_machine() {
    let names = Arc::new(names());
    let policy =
        OutboundPolicy { names: vec!["inside.example".parse().unwrap()], ..Default::default() };
    let webhooks = webhooks(policy, names);
    let kind = MessageKind::Notification;
    let attempt = webhooks
        .post(&claimed("http://inside.example:8080/"), kind, "x".into(), None, start())
        .await;
    assert!(attempt.error.contains("not a public address"), "{attempt:?}");
}
