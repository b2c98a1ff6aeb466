//! Applying interfaces: what is bound, what is refused, and what is left alone.

use std::net::TcpListener;

use postern_datapath::{BindFailure, Listener};

use crate::support::*;

#[test]
fn applying_the_same_again_changes_nothing() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    let first = datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    assert_eq!(datapath.apply(spec.clone()).unwrap(), first);
    assert_eq!((first.address, first.ports), (spec.address, vec![PORT]));
    assert_echo(&mut client);
}

#[test]
fn ports_come_and_go_without_touching_the_others() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    spec.listeners.push(Listener { port: PORT + 1, targets: vec![echo()] });
    assert_eq!(datapath.apply(spec.clone()).unwrap().ports, [PORT, PORT + 1]);
    let second = std::net::SocketAddrV4::new(spec.address, PORT + 1);
    let mut other = connect(second);
    assert_echo(&mut other);

    spec.listeners.remove(0);
    assert_eq!(datapath.apply(spec.clone()).unwrap().ports, [PORT + 1]);
    let refused = connect_from(address(), front(&spec), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_echo(&mut client);
    assert_echo(&mut other);
}

#[test]
fn an_address_that_is_not_there_is_reported_whether_serving_or_not() {
    for serving in [true, false] {
        let (datapath, mut spec) = (start(), interface(&[echo()]));
        spec.address = "198.51.100.77".parse().unwrap();
        spec.serving = serving;
        let failure = datapath.apply(spec).unwrap_err();
        assert!(matches!(failure, BindFailure::NoSuchAddress { .. }), "{failure:?}");
        assert!(datapath.usage().is_empty());
    }
}

#[test]
fn a_port_that_another_program_has_is_reported_and_what_was_there_before_stays() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let _other = TcpListener::bind((spec.address, PORT + 1)).unwrap();
    spec.listeners.push(Listener { port: PORT + 1, targets: Vec::new() });
    let failure = datapath.apply(spec.clone()).unwrap_err();
    assert!(matches!(failure, BindFailure::InUse(at) if at.port() == PORT + 1), "{failure:?}");
    assert_echo(&mut connect(front(&spec)));
}

#[test]
fn two_interfaces_never_share_a_port_of_an_address() {
    let (datapath, spec) = (start(), interface(&[named("first")]));
    datapath.apply(spec.clone()).unwrap();
    let mut second = interface(&[named("second")]);
    second.address = spec.address;
    let failure = datapath.apply(second).unwrap_err();
    assert!(matches!(failure, BindFailure::InUse(_)), "{failure:?}");
}

#[test]
fn a_description_that_makes_no_sense_is_refused_with_the_field() {
    let datapath = start();
    let field = |change: fn(&mut postern_datapath::InterfaceSpec)| {
        let mut spec = interface(&["127.0.0.1:1".parse().unwrap()]);
        change(&mut spec);
        match datapath.apply(spec) {
            Err(BindFailure::Invalid(invalid)) => invalid.field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(|spec| spec.address = "0.0.0.0".parse().unwrap()), "address");
    assert_eq!(field(|spec| spec.listeners[0].port = 0), "listeners[0].port");
    assert_eq!(field(|spec| spec.listeners.push(spec.listeners[0].clone())), "listeners[1].port");
    assert_eq!(field(|spec| spec.listeners[0].targets[0].set_port(0)), "listeners[0].targets[0]");
    assert_eq!(field(|spec| spec.idle_timeout = std::time::Duration::ZERO), "idle_timeout");
}
