//! Two VPCs with the same addresses, in two network namespaces, served by one process.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};
use postern_datapath::{BindFailure, Place};

use crate::support::*;

/// A network namespace with one address, which is gone when the test is over.
struct Namespace {
    name: String,
}

impl Namespace {
    fn create(role: &str, address: &str) -> Self {
        let this = Self { name: format!("postern-{role}-{}", std::process::id()) };
        ip(&["netns", "add", &this.name]);
        ip(&["-n", &this.name, "link", "set", "lo", "up"]);
        ip(&["-n", &this.name, "address", "add", address, "dev", "lo"]);
        this
    }

    fn path(&self) -> PathBuf {
        format!("/run/netns/{}", self.name).into()
    }

    /// Runs something on a thread inside.
    fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).unwrap();
        thread::scope(|scope| {
            let visit = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                run()
            });
            visit.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn may_make_namespaces() -> bool {
    let may = nix::unistd::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok();
    if !may {
        eprintln!("SKIPPED: making network namespaces needs root and the `ip` program");
    }
    may
}

#[test]
fn a_client_in_one_namespace_reaches_a_target_in_another_that_has_the_same_address() {
    if !may_make_namespaces() {
        return;
    }
    let consumer = Namespace::create("consumer", "10.9.0.5/24");
    let provider = Namespace::create("provider", "10.9.0.5/24");
    let at: SocketAddrV4 = "10.9.0.5:80".parse().unwrap();
    let target = provider.inside(|| TcpListener::bind(at)).unwrap();
    let answering = thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"from the other side").unwrap();
    });

    let (datapath, mut spec) = (start(), interface(&[at]));
    let elsewhere = interface(&[named("at home")]);
    spec.address = "10.9.0.5".parse().unwrap();
    spec.place = Place::Namespace(consumer.path());
    spec.target_place = Place::Namespace(provider.path());
    datapath.apply(spec.clone()).unwrap();
    datapath.apply(elsewhere.clone()).unwrap();

    let mut heard = String::new();
    consumer.inside(|| connect(front(&spec)).read_to_string(&mut heard)).unwrap();
    assert_eq!(heard, "from the other side");
    answering.join().unwrap();
    // A worker that was elsewhere for one target finds its way back for the next.
    for _ in 0..8 {
        let mut heard = String::new();
        connect(front(&elsewhere)).read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "at home");
    }
}

#[test]
fn a_namespace_that_was_made_anew_under_its_old_name_is_noticed() {
    if !may_make_namespaces() {
        return;
    }
    let first = Namespace::create("anew", "10.9.0.6/24");
    let (datapath, mut spec) = (start(), interface(&[named("here")]));
    spec.address = "10.9.0.6".parse().unwrap();
    spec.place = Place::Namespace(first.path());
    datapath.apply(spec.clone()).unwrap();
    drop(first);
    let second = Namespace::create("anew", "10.9.0.6/24");
    datapath.apply(spec.clone()).unwrap();
    let mut heard = String::new();
    second.inside(|| connect(front(&spec)).read_to_string(&mut heard)).unwrap();
    assert_eq!(heard, "here");
}

#[test]
fn a_namespace_that_is_not_there_is_reported() {
    let (datapath, mut spec) = (start(), interface(&[]));
    spec.place = Place::Namespace("/run/netns/postern-none".into());
    let failure = datapath.apply(spec).unwrap_err();
    assert!(matches!(failure, BindFailure::Namespace { .. }), "{failure:?}");
}
