//! Which target a connection goes to, and what becomes of it when that one cannot be reached.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddrV4;
use std::time::Duration;

use postern_datapath::{ConnectFailure, Datapath, Ending, InterfaceSpec};

use crate::support::*;

fn ask(spec: &InterfaceSpec) -> String {
    let mut name = String::new();
    connect(front(spec)).read_to_string(&mut name).unwrap();
    name
}

fn impatient() -> Datapath {
    start_with(|config| config.connect_timeout = Duration::from_millis(200))
}

#[test]
fn a_target_that_refuses_shows_as_a_reset_and_the_count_says_why() {
    let refusing = refusing();
    let (datapath, spec) = (start(), interface(&[refusing]));
    datapath.apply(spec.clone()).unwrap();
    assert_connects_to_a_reset(front(&spec));
    assert_ended(&datapath, &spec, Ending::ConnectFailed, 1);
    let failures = usage(&datapath, &spec).failures;
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].target, failures[0].count), (refusing, 1));
    assert_eq!(failures[0].last_reason, ConnectFailure::Refused);
    assert!(failures[0].last_error.contains("refused"), "{failures:?}");
}

#[test]
fn a_target_that_hangs_is_given_up_and_shows_as_a_reset() {
    let (_socket, hanging) = hanging();
    let (datapath, spec) = (impatient(), interface(&[hanging]));
    datapath.apply(spec.clone()).unwrap();
    assert_connects_to_a_reset(front(&spec));
    assert_ended(&datapath, &spec, Ending::ConnectFailed, 1);
    assert_eq!(usage(&datapath, &spec).failures[0].last_reason, ConnectFailure::TimedOut);
}

#[test]
fn a_service_without_a_target_resets_its_clients() {
    let (datapath, spec) = (start(), interface(&[]));
    datapath.apply(spec.clone()).unwrap();
    assert_connects_to_a_reset(front(&spec));
    assert_ended(&datapath, &spec, Ending::ConnectFailed, 1);
    assert_eq!(usage(&datapath, &spec).without_target, 1);
}

#[test]
fn two_other_targets_are_tried_whether_the_first_refuses_or_hangs() {
    let (_socket, hanging) = hanging();
    let (datapath, spec) = (impatient(), interface(&[refusing(), hanging, named("third")]));
    datapath.apply(spec.clone()).unwrap();
    // Whatever target is first, the third in turn is the one that answers at the latest.
    for _ in 0..12 {
        assert_eq!(ask(&spec), "third");
    }
    let failures = usage(&datapath, &spec).failures;
    assert_eq!(failures.len(), 2, "{failures:?}");
}

#[test]
fn no_more_than_three_targets_are_tried() {
    let refusing: Vec<SocketAddrV4> = (0..5).map(|_| refusing()).collect();
    let (datapath, spec) = (start(), interface(&refusing));
    datapath.apply(spec.clone()).unwrap();
    assert_connects_to_a_reset(front(&spec));
    let failures = usage(&datapath, &spec).failures;
    assert_eq!(failures.len(), 3, "{failures:?}");
    assert!(failures.iter().all(|failure| failure.count == 1), "{failures:?}");
}

#[test]
fn a_client_that_gives_up_while_the_target_hangs_is_not_waited_for() {
    let (_socket, hanging) = hanging();
    let (datapath, spec) = (start(), interface(&[hanging]));
    datapath.apply(spec.clone()).unwrap();
    let client = connect(front(&spec));
    wait_for("the flow", || (usage(&datapath, &spec).open == 1).then_some(()));
    reset(client);
    assert_ended(&datapath, &spec, Ending::ResetByClient, 1);
}

#[test]
fn connections_spread_over_all_targets() {
    let names = ["a", "b", "c", "d"];
    let targets: Vec<SocketAddrV4> = names.into_iter().map(named).collect();
    let (datapath, spec) = (start(), interface(&targets));
    datapath.apply(spec.clone()).unwrap();
    let mut missing: BTreeSet<&str> = names.into();
    // Each is missed by 200 connections with a chance of one in 10^25.
    for _ in 0..200 {
        missing.remove(ask(&spec).as_str());
    }
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn new_targets_serve_new_connections_and_open_ones_stay_where_they_are() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut open = connect(front(&spec));
    assert_echo(&mut open);
    spec.listeners[0].targets = vec![named("new")];
    datapath.apply(spec.clone()).unwrap();
    assert_eq!(ask(&spec), "new");
    assert_echo(&mut open);
}

#[test]
fn the_target_sees_the_source_address_that_was_asked_for() {
    let (listener, at) = target();
    let (datapath, mut spec) = (start(), interface(&[at]));
    let source = address();
    spec.target_source = Some(source);
    datapath.apply(spec.clone()).unwrap();
    let _client = connect(front(&spec));
    assert_eq!(accept(&listener).peer_addr().unwrap().ip(), source);
}
