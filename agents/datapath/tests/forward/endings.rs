//! How connections end, and that every way is told apart by the peers and in the counts.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use postern_datapath::{CutReason, Ending};

use crate::support::*;

#[test]
fn a_reset_by_the_client_reaches_the_target() {
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let client = connect(front(&spec));
    let mut target = accept(&listener);
    reset(client);
    assert_reset(&mut target);
    assert_ended(&datapath, &spec, Ending::ResetByClient, 1);
}

#[test]
fn a_reset_by_the_target_reaches_the_client() {
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    reset(accept(&listener));
    assert_reset(&mut client);
    assert_ended(&datapath, &spec, Ending::ResetByTarget, 1);
}

#[test]
fn a_reset_after_half_a_close_is_passed_on_too() {
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let client = connect(front(&spec));
    let mut target = accept(&listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(target.read(&mut [0; 8]).unwrap(), 0, "the client's end");
    reset(client);
    // Nothing is left to read for the target: it finds out when it writes.
    wait_for("the reset", || target.write_all(b"anybody there?").err());
    assert_ended(&datapath, &spec, Ending::ResetByClient, 1);
}

#[test]
fn a_reset_of_a_stalled_stream_is_passed_on_without_waiting_for_the_reader() {
    let (listener, at) = target();
    let (datapath, spec) = (start(), interface(&[at]));
    datapath.apply(spec.clone()).unwrap();
    let client = connect(front(&spec));
    let _never_reads = accept(&listener);
    client.set_nonblocking(true).unwrap();
    let block = noise(1, 1 << 20);
    let mut quiet = 0;
    while quiet < 1_000 {
        match (&client).write(&block) {
            Ok(_) => quiet = 0,
            Err(_) => quiet += 1,
        }
        thread::yield_now();
    }
    reset(client);
    assert_ended(&datapath, &spec, Ending::ResetByClient, 1);
}

#[test]
fn an_idle_connection_is_reset_on_both_sides() {
    let (listener, at) = target();
    let (datapath, mut spec) = (start(), interface(&[at]));
    spec.idle_timeout = Duration::from_millis(300);
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    let mut target = accept(&listener);
    assert_reset(&mut client);
    assert_reset(&mut target);
    assert_ended(&datapath, &spec, Ending::Idle, 1);
}

#[test]
fn a_connection_with_traffic_outlives_the_idle_timeout() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    spec.idle_timeout = Duration::from_millis(600);
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_echo(&mut client);
        thread::yield_now();
    }
    assert_reset(&mut client);
    assert_ended(&datapath, &spec, Ending::Idle, 1);
}

#[test]
fn a_shorter_idle_timeout_holds_for_connections_that_are_open_already() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    spec.idle_timeout = Duration::from_millis(200);
    datapath.apply(spec.clone()).unwrap();
    assert_reset(&mut client);
    assert_ended(&datapath, &spec, Ending::Idle, 1);
}

#[test]
fn an_interface_that_stops_serving_cuts_its_flows_and_refuses_new_ones() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    let other = interface(&[echo()]);
    datapath.apply(spec.clone()).unwrap();
    datapath.apply(other.clone()).unwrap();
    let (mut client, mut bystander) = (connect(front(&spec)), connect(front(&other)));
    assert_echo(&mut client);
    assert_echo(&mut bystander);

    spec.serving = false;
    assert!(datapath.apply(spec.clone()).unwrap().ports.is_empty());
    // Both hold when `apply` returns.
    assert_eq!(usage(&datapath, &spec).ended[&Ending::Policy], 1);
    let refused = connect_from(address(), front(&spec), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_reset(&mut client);
    assert_echo(&mut bystander);

    spec.serving = true;
    assert_eq!(datapath.apply(spec.clone()).unwrap().ports, [PORT]);
    assert_echo(&mut connect(front(&spec)));
}

#[test]
fn removing_an_interface_cuts_its_flows_and_returns_what_it_counted() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    let usage = datapath.remove(spec.id, CutReason::Policy).unwrap().unwrap();
    assert_eq!((usage.open, usage.ended[&Ending::Policy], usage.bytes_in), (0, 1, 6));
    assert_reset(&mut client);
    assert!(datapath.usage().is_empty());
    assert_eq!(datapath.remove(spec.id, CutReason::Policy).unwrap(), None);
}

#[test]
fn a_shutdown_lets_connections_finish_and_takes_no_new_ones() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| datapath.shutdown(PATIENCE));
        wait_for("the port to close", || connect_from(address(), front(&spec), PATIENCE).err());
        assert_echo(&mut client);
        drop(client);
        assert_eq!(shutdown.join().unwrap(), 0, "none was cut");
    });
    let usage = usage(&datapath, &spec);
    assert_eq!((usage.open, usage.ended[&Ending::Closed]), (0, usage.accepted), "{usage:?}");
    assert!(datapath.apply(spec).is_err(), "it is over");
}

#[test]
fn a_shutdown_cuts_what_is_left_at_its_deadline() {
    let (datapath, spec) = (start(), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    assert!(datapath.is_running());
    assert_eq!(datapath.shutdown(Duration::from_millis(50)), 1);
    assert!(!datapath.is_running());
    assert_reset(&mut client);
    assert_ended(&datapath, &spec, Ending::Shutdown, 1);
}
