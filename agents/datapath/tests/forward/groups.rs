//! Security groups: who gets in, who gets no answer, and that flows outlive their rules.

use std::net::Ipv4Addr;
use std::time::Duration;

use postern_datapath::{CutReason, Ending, InterfaceSpec, Metrics, RefusedReason};
use postern_model::net::Cidr;
use postern_model::security::{PortRange, Protocol, allows};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::support::*;

/// Long enough for a SYN and its answer on loopback, and for no second SYN.
const SILENCE: Duration = Duration::from_millis(500);

fn assert_silence(source: Ipv4Addr, spec: &InterfaceSpec) {
    let error = connect_from(source, front(spec), SILENCE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{source}: {error}");
}

fn only(source: Ipv4Addr) -> Vec<postern_model::security::IngressRule> {
    vec![rule(&Cidr::host(source).to_string(), PortRange::single(PORT))]
}

#[test]
fn a_source_that_no_rule_allows_gets_no_answer_while_an_allowed_one_gets_through() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    let (friend, stranger) = (address(), address());
    spec.ingress = only(friend);
    datapath.apply(spec.clone()).unwrap();
    assert_silence(stranger, &spec);
    assert_echo(&mut connect_from(friend, front(&spec), PATIENCE).unwrap());
    assert_eq!(usage(&datapath, &spec).accepted, 1, "the stranger was never accepted");
}

#[test]
fn attempts_that_no_rule_allows_are_counted_for_their_interface_and_outlive_its_sockets() {
    let mut registry = Registry::default();
    let metrics = Metrics::register(registry.sub_registry_with_prefix("fw"));
    let datapath = start_with(|config| config.metrics = metrics);
    let (mut knocked, quiet) = (interface(&[echo()]), interface(&[echo()]));
    let friend = address();
    knocked.ingress = only(friend);
    datapath.apply(knocked.clone()).unwrap();
    datapath.apply(quiet.clone()).unwrap();
    assert_echo(&mut connect_from(friend, front(&knocked), PATIENCE).unwrap());
    assert_echo(&mut connect(front(&quiet)));
    assert_eq!(usage(&datapath, &knocked).dropped, 0, "nobody was kept out");

    for _ in 0..3 {
        assert_silence(address(), &knocked);
    }
    let counted = usage(&datapath, &knocked).dropped;
    assert!(counted >= 3, "each attempt is a packet at least, {counted} are counted");
    assert_eq!(usage(&datapath, &quiet).dropped, 0);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for (spec, count) in [(&knocked, counted), (&quiet, 0)] {
        let line = format!("fw_packets_dropped_total{{interface=\"{}\"}} {count}\n", spec.id);
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }

    knocked.serving = false;
    datapath.apply(knocked.clone()).unwrap();
    knocked.serving = true;
    datapath.apply(knocked.clone()).unwrap();
    assert_silence(address(), &knocked);
    assert!(usage(&datapath, &knocked).dropped > counted, "new sockets count on");
    datapath.remove(knocked.id, CutReason::Policy).unwrap();
    text.clear();
    encode(&mut text, &registry).unwrap();
    assert!(!text.contains(&knocked.id.to_string()), "a series outlives its interface");
}

#[test]
fn a_rule_for_another_port_lets_nobody_in() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    spec.ingress = vec![rule("0.0.0.0/0", PortRange::single(PORT + 1))];
    datapath.apply(spec.clone()).unwrap();
    assert_silence(address(), &spec);
}

#[test]
fn a_connection_outlives_the_rule_that_let_it_in_and_new_ones_get_no_answer() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    let friend = address();
    spec.ingress = only(friend);
    datapath.apply(spec.clone()).unwrap();
    let mut open = connect_from(friend, front(&spec), PATIENCE).unwrap();
    assert_echo(&mut open);

    spec.ingress = Vec::new();
    datapath.apply(spec.clone()).unwrap();
    assert_echo(&mut open);
    assert_silence(friend, &spec);
    assert_echo(&mut open);

    spec.ingress = only(friend);
    datapath.apply(spec.clone()).unwrap();
    assert_echo(&mut connect_from(friend, front(&spec), PATIENCE).unwrap());
    assert_echo(&mut open);
    assert_eq!(usage(&datapath, &spec).ended[&Ending::Policy], 0);
}

#[test]
fn rules_that_change_all_the_time_disturb_neither_flows_nor_those_they_always_allow() {
    let (datapath, mut spec) = (start(), interface(&[echo()]));
    let (friend, other) = (address(), address());
    spec.ingress = only(friend);
    datapath.apply(spec.clone()).unwrap();
    let mut open = connect_from(friend, front(&spec), PATIENCE).unwrap();
    for round in 0..200 {
        spec.ingress = only(friend);
        if round % 2 == 0 {
            spec.ingress.extend(only(other));
        }
        std::thread::scope(|scope| {
            let change = scope.spawn(|| datapath.apply(spec.clone()).unwrap());
            assert_echo(&mut connect_from(friend, front(&spec), PATIENCE).unwrap());
            change.join().unwrap();
        });
        assert_echo(&mut open);
    }
    let usage = usage(&datapath, &spec);
    assert_eq!((usage.accepted, usage.refused.values().sum::<u64>()), (201, 0), "{usage:?}");
}

#[test]
fn kernel_and_reference_agree_on_hundreds_of_rules() {
    let (datapath, mut spec) = (start(), interface(&[named("in")]));
    // Neighbouring hosts with gaps, and prefixes of several lengths among them.
    let base = u32::from(address());
    spec.ingress = (0..400)
        .map(|n| (Ipv4Addr::from((base & 0xffff_0000) | (0x4000 + 3 * n)), 32 - (n % 2) as u8))
        .map(|(host, length)| rule(&format!("{host}/{length}"), PortRange::single(PORT)))
        .collect();
    datapath.apply(spec.clone()).unwrap();
    let (mut let_in, mut kept_out) = (0, 0);
    std::thread::scope(|scope| {
        let probes: Vec<_> = (0..48)
            .map(|n| Ipv4Addr::from((base & 0xffff_0000) | (0x3ff0 + 26 * n)))
            .map(|source| {
                let spec = &spec;
                let probe =
                    move || connect_from(source, front(spec), Duration::from_secs(2)).is_ok();
                (source, scope.spawn(probe))
            })
            .collect();
        for (source, probe) in probes {
            let expected = allows(&spec.ingress, source, Protocol::Tcp, PORT);
            assert_eq!(probe.join().unwrap(), expected, "{source}");
            *(if expected { &mut let_in } else { &mut kept_out }) += 1;
        }
    });
    assert!(let_in > 5 && kept_out > 5, "{let_in} in, {kept_out} out");
}

#[test]
fn one_connection_more_than_an_interface_may_have_is_reset() {
    let datapath = start_with(|config| config.flows_per_interface = 2);
    let spec = interface(&[echo()]);
    datapath.apply(spec.clone()).unwrap();
    let (mut first, mut second) = (connect(front(&spec)), connect(front(&spec)));
    assert_echo(&mut first);
    assert_echo(&mut second);
    assert_connects_to_a_reset(front(&spec));
    assert_eq!(usage(&datapath, &spec).refused[&RefusedReason::InterfaceFull], 1);
    drop(first);
    wait_for("room", || (usage(&datapath, &spec).open == 1).then_some(()));
    assert_echo(&mut connect(front(&spec)));
}

#[test]
fn one_connection_more_than_the_process_may_have_is_reset() {
    let datapath = start_with(|config| config.flows = Some(1));
    let (spec, other) = (interface(&[echo()]), interface(&[echo()]));
    datapath.apply(spec.clone()).unwrap();
    datapath.apply(other.clone()).unwrap();
    let mut client = connect(front(&spec));
    assert_echo(&mut client);
    assert_connects_to_a_reset(front(&other));
    assert_eq!(usage(&datapath, &other).refused[&RefusedReason::ProcessFull], 1);
    assert_echo(&mut client);
}
