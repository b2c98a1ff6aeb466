//! The compiled filters against the model's reference evaluation.

use postern_model::net::Cidr;
use postern_model::security::{PortRange, allows};
use proptest::prelude::*;

use super::*;

/// Runs a program as the kernel would on a packet from `source`.
fn verdict(program: &[Instruction], source: Ipv4Addr) -> bool {
    let (mut at, mut accumulator) = (0, 0);
    for _ in 0..program.len() {
        let Instruction { code, if_true, if_false, operand } = program[at];
        at += 1;
        match code {
            LOAD_WORD => {
                assert_eq!(operand, (libc::SKF_NET_OFF + 12) as u32);
                accumulator = u32::from(source);
            }
            JUMP => at += operand as usize,
            JUMP_IF_AT_LEAST if accumulator >= operand => at += usize::from(if_true),
            JUMP_IF_AT_LEAST => at += usize::from(if_false),
            RETURN => return operand == ACCEPT,
            other => panic!("instruction {other:#x} is not one of ours"),
        }
    }
    panic!("the program does not come to a verdict")
}

fn rule(source: Cidr, protocol: Protocol, ports: PortRange) -> IngressRule {
    IngressRule { source, protocol, ports }
}

fn hosts(count: u32) -> Vec<IngressRule> {
    // Every second address, so that no two can be merged.
    (0..count)
        .map(|index| Cidr::host(Ipv4Addr::from(0x0a00_0000 + 2 * index)))
        .map(|source| rule(source, Protocol::Tcp, PortRange::single(443)))
        .collect()
}

fn rules() -> impl Strategy<Value = Vec<IngressRule>> {
    // Few distinct high bits, so that prefixes nest, touch and repeat.
    let source = (0u32..4, any::<u32>(), 0u8..=32).prop_map(|(high, low, length)| {
        let address = Ipv4Addr::from((high << 30) | (low & 0x0003_ffff));
        format!("{address}/{length}").parse::<Cidr>().unwrap()
    });
    let protocol = prop_oneof![
        Just(Protocol::All),
        Just(Protocol::Tcp),
        Just(Protocol::Tcp),
        Just(Protocol::Number(17))
    ];
    let ports = (440u16..450, 0u16..4)
        .prop_map(|(first, more)| PortRange::new(first, first + more).unwrap());
    prop::collection::vec((source, protocol, ports).prop_map(|(s, p, r)| rule(s, p, r)), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_program_and_the_set_agree_with_the_reference(rules in rules(), random in any::<[u32; 16]>()) {
        let port = 443;
        let set = SourceSet::of(&rules, port);
        let program = set.program().unwrap();
        // The places where a mistake would show: the edges of every prefix and their neighbours.
        let edges = rules.iter().flat_map(|rule| {
            let (low, high) = (u32::from(rule.source.net().network()), u32::from(rule.source.net().broadcast()));
            [low.wrapping_sub(1), low, high, high.wrapping_add(1)]
        });
        for source in edges.chain(random).chain([0, u32::MAX]) {
            let source = Ipv4Addr::from(source);
            let expected = allows(&rules, source, Protocol::Tcp, port);
            prop_assert_eq!(set.contains(source), expected, "set, {}", source);
            prop_assert_eq!(verdict(&program, source), expected, "program, {}", source);
        }
    }
}

#[test]
fn with_no_rule_for_the_port_everything_is_dropped() {
    let other = [rule("0.0.0.0/0".parse().unwrap(), Protocol::Tcp, PortRange::single(80))];
    let program = SourceSet::of(&other, 443).program().unwrap();
    assert_eq!(program.len(), 2);
    assert!(!verdict(&program, Ipv4Addr::LOCALHOST));
}

#[test]
fn a_rule_for_everybody_is_one_comparison() {
    let everybody = [rule("0.0.0.0/0".parse().unwrap(), Protocol::All, PortRange::ALL)];
    let set = SourceSet::of(&everybody, 443);
    assert!(verdict(&set.program().unwrap(), Ipv4Addr::BROADCAST));
    assert!(verdict(&set.program().unwrap(), Ipv4Addr::UNSPECIFIED));
}

#[test]
fn as_many_rules_as_an_interface_may_have_fit_even_when_none_can_be_merged() {
    let rules = hosts(1_000);
    let program = SourceSet::of(&rules, 443).program().unwrap();
    assert!(program.len() < 2_100, "{}", program.len());
    for offset in 0..2_002 {
        let source = Ipv4Addr::from(0x0a00_0000 + offset);
        assert_eq!(verdict(&program, source), offset % 2 == 0 && offset < 2_000, "{source}");
    }
}

#[test]
fn more_ranges_than_a_program_can_hold_are_refused_with_the_number() {
    let refused = SourceSet::of(&hosts(2_100), 443).program().unwrap_err();
    assert!(refused.to_string().starts_with("2100 separate source ranges"), "{refused}");
}

#[test]
fn the_kernel_takes_the_largest_program_of_an_interface() {
    use socket2::{Domain, Socket, Type};
    let program = SourceSet::of(&hosts(1_000), 443).program().unwrap();
    let program: Vec<SockFilter> = program.into_iter().map(Into::into).collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.attach_filter(&program).unwrap();
}
