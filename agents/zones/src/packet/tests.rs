//! Packets in, packets out. What comes out is read with hickory's decoder, which is not ours.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType as Type};
use postern_model::desired::{Record, RecordData};
use proptest::prelude::*;

use super::*;

fn zones(addresses: u8) -> Zones {
    let mut builder = Zones::builder("vpce.amazonaws.com").unwrap();
    builder.zone("base.vpce.amazonaws.com").unwrap();
    builder.zone("example.com").unwrap();
    let list = (0..addresses).map(|last| [10, 0, 0, last].into()).collect();
    for (name, data) in [
        ("one.base.vpce.amazonaws.com", RecordData::Addresses(list)),
        ("*.example.com", RecordData::Alias("one.base.vpce.amazonaws.com".to_owned())),
        ("out.example.com", RecordData::Alias("www.elsewhere.org".to_owned())),
        ("loop.example.com", RecordData::Alias("loop.example.com".to_owned())),
    ] {
        builder.record(&Record { name: name.to_owned(), ttl_seconds: 60, data }).unwrap();
    }
    builder.build()
}

fn query(name: &str, record_type: Type) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Question::query(name, record_type));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn send(zones: &Zones, packet: &[u8], transport: Transport) -> (Verdict, Option<Message>) {
    let mut out = b"before".to_vec();
    let verdict = respond(zones, packet, transport, true, &mut out);
    let reply = out.strip_prefix(b"before").unwrap();
    let reply = (!reply.is_empty()).then(|| Message::from_vec(reply).expect("a reply is readable"));
    assert_eq!(matches!(verdict, Verdict::Reply(_)), reply.is_some());
    (verdict, reply)
}

fn reply(zones: &Zones, message: &Message) -> Message {
    let reply = send(zones, &message.to_vec().unwrap(), Transport::Udp).1.expect("a reply");
    assert_eq!(reply.id, 0x1234);
    assert_eq!(reply.message_type, MessageType::Response);
    assert_eq!(reply.queries, message.queries);
    reply
}

fn texts(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    records.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.data)).collect()
}

#[test]
fn addresses_come_with_authority_and_the_clients_own_spelling() {
    let asked = query("One.BASE.vpce.amazonaws.com", Type::A);
    let reply = reply(&zones(2), &asked);
    assert_eq!(reply.response_code, ResponseCode::NoError);
    assert!(reply.authoritative && reply.recursion_available && reply.recursion_desired);
    assert!(!reply.truncation && reply.edns.is_none());
    assert_eq!(reply.queries[0].name().to_ascii(), "One.BASE.vpce.amazonaws.com.");
    assert_eq!(
        texts(&reply.answers),
        ["One.BASE.vpce.amazonaws.com. 60 10.0.0.0", "One.BASE.vpce.amazonaws.com. 60 10.0.0.1"]
    );
}

#[test]
fn a_private_name_is_answered_with_the_alias_and_the_addresses() {
    let reply = reply(&zones(1), &query("any.example.com", Type::A));
    assert_eq!(
        texts(&reply.answers),
        [
            "any.example.com. 60 one.base.vpce.amazonaws.com.",
            "one.base.vpce.amazonaws.com. 60 10.0.0.0"
        ]
    );
}

#[test]
fn both_empty_answers_carry_the_start_of_the_zone_they_are_about() {
    let soa = "base.vpce.amazonaws.com. 60 ns.vpce.amazonaws.com. hostmaster.vpce.amazonaws.com. 1 \
               7200 900 1209600 60";
    for (name, record_type, code, answers) in [
        ("one.base.vpce.amazonaws.com", Type::AAAA, ResponseCode::NoError, 0),
        ("two.base.vpce.amazonaws.com", Type::A, ResponseCode::NXDomain, 0),
        ("any.example.com", Type::AAAA, ResponseCode::NoError, 1),
    ] {
        let reply = reply(&zones(1), &query(name, record_type));
        assert_eq!(reply.response_code, code, "{name}");
        assert!(reply.authoritative);
        assert_eq!((reply.answers.len(), texts(&reply.authorities)), (answers, vec![soa.into()]));
    }
}

#[test]
fn an_apex_answers_with_its_own_records() {
    let of = |record_type| texts(&reply(&zones(1), &query("example.com", record_type)).answers);
    assert_eq!(of(Type::NS), ["example.com. 60 ns.vpce.amazonaws.com."]);
    assert!(of(Type::SOA)[0].starts_with("example.com. 60 ns.vpce.amazonaws.com. hostmaster."));
}

#[test]
fn aliases_that_go_round_are_a_failure() {
    let reply = reply(&zones(1), &query("loop.example.com", Type::A));
    assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::ServFail, 0));
}

#[test]
fn what_is_too_long_for_a_datagram_is_cut_and_whole_over_tcp() {
    let zones = zones(100);
    let plain = query("one.base.vpce.amazonaws.com", Type::A);
    for (asked, limit) in [
        (plain.clone(), 512),
        (with_edns(plain.clone(), 100), 512),
        (with_edns(plain.clone(), 65_535), 1_232),
    ] {
        let cut = reply(&zones, &asked);
        assert!(cut.truncation, "{limit}");
        assert_eq!((cut.answers.len(), cut.edns.is_some()), (0, asked.edns.is_some()));
        let packet = asked.to_vec().unwrap();
        let whole = send(&zones, &packet, Transport::Tcp).1.unwrap();
        assert_eq!((whole.truncation, whole.answers.len()), (false, 100));
    }
    // 12 + 33 bytes before the records, 16 for each: 29 fit, 30 do not.
    for (count, cut) in [(29, false), (30, true)] {
        let reply = reply(&self::zones(count), &plain);
        assert_eq!(
            (reply.truncation, reply.answers.len() as u8),
            (cut, if cut { 0 } else { count })
        );
    }
    let reply = reply(&self::zones(70), &with_edns(plain, 1_232));
    assert_eq!((reply.truncation, reply.answers.len()), (false, 70));
}

#[test]
fn edns_is_echoed_and_a_version_from_the_future_is_refused() {
    let mut asked = with_edns(query("one.base.vpce.amazonaws.com", Type::A), 4_096);
    let answered = reply(&zones(1), &asked);
    let edns = answered.edns.as_ref().expect("an OPT record");
    assert_eq!((edns.max_payload(), edns.version()), (1_232, 0));
    assert!(edns.flags().dnssec_ok);
    asked.edns.as_mut().unwrap().set_version(1);
    let refused = reply(&zones(1), &asked);
    // Hickory reads the number as BADSIG, which it shares with BADVERS (RFC 6895, 2.3).
    assert_eq!(u16::from(refused.response_code), 16);
    assert_eq!((refused.answers.len(), refused.edns.unwrap().version()), (0, 0));
}

#[test]
fn other_classes_transfers_and_operations_are_turned_away() {
    let name = "one.base.vpce.amazonaws.com";
    let mut chaos = query(name, Type::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(reply(&zones(1), &chaos).response_code, ResponseCode::Refused);
    for meta in [Type::AXFR, Type::IXFR, Type::TSIG, Type::ZERO] {
        assert_eq!(reply(&zones(1), &query(name, meta)).response_code, ResponseCode::Refused);
    }
    for operation in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = query(name, Type::A);
        message.metadata.op_code = operation;
        let reply = send(&zones(1), &message.to_vec().unwrap(), Transport::Udp).1.unwrap();
        assert_eq!((reply.response_code, reply.op_code), (ResponseCode::NotImp, operation));
    }
}

#[test]
fn any_type_is_answered_with_one_and_never_forwarded() {
    let answered = reply(&zones(2), &query("one.base.vpce.amazonaws.com", Type::ANY));
    assert_eq!(answered.answers.len(), 2);
    let elsewhere = reply(&zones(2), &query("www.elsewhere.org", Type::ANY));
    assert_eq!(elsewhere.response_code, ResponseCode::NotImp);
}

#[test]
fn what_is_not_ours_is_forwarded_only_when_asked_to_and_able_to() {
    let mut asked = query("www.elsewhere.org", Type::A);
    let mut out = Vec::new();
    let mut verdict = |asked: &Message, recursion| {
        out.clear();
        let packet = asked.to_vec().unwrap();
        respond(&zones(1), &packet, Transport::Udp, recursion, &mut out)
    };
    assert!(matches!(verdict(&asked, true), Verdict::Forward(_)));
    assert!(matches!(verdict(&asked, false), Verdict::Reply(Ending::NotForwarded)));
    asked.metadata.recursion_desired = false;
    assert!(matches!(verdict(&asked, true), Verdict::Reply(Ending::NotForwarded)));
    assert_eq!(Message::from_vec(&out).unwrap().response_code, ResponseCode::Refused);
}

#[test]
fn an_alias_that_leads_elsewhere_is_forwarded_under_the_other_name() {
    let packet = query("Out.example.com", Type::A).to_vec().unwrap();
    let Verdict::Forward(question) = send(&zones(1), &packet, Transport::Udp).0 else {
        panic!("not forwarded")
    };
    assert_eq!(question.name().to_ascii(), "www.elsewhere.org.");
    let reply = question.reply(ResponseCode::NoError, vec![], vec![]);
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(texts(&reply.answers), ["Out.example.com. 60 www.elsewhere.org."]);
    assert!(!reply.authoritative);
}

#[test]
fn what_is_no_query_is_a_fault_or_met_with_silence() {
    let zones = zones(1);
    let good = with_edns(query("one.base.vpce.amazonaws.com", Type::A), 1_232).to_vec().unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        send(&zones, &packet, Transport::Udp)
    };
    let silent = |(verdict, _): (Verdict, _)| matches!(verdict, Verdict::Silent(_));
    assert!(silent(changed(&|p| p.truncate(11))), "shorter than a header");
    assert!(silent(changed(&|p| p.clear())), "empty");
    assert!(silent(changed(&|p| p[2] |= 0x80)), "a reply");
    type Change<'c> = &'c dyn Fn(&mut Vec<u8>);
    let faults: [(&str, Change<'_>); 11] = [
        ("no question", &|p| p[5] = 0),
        ("two questions", &|p| p[5] = 2),
        ("a record that is not there", &|p| p[7] = 1),
        ("bytes behind the end", &|p| p.push(0)),
        ("a label that goes past the end", &|p| p[12] = 63),
        ("a pointer for a name", &|p| p[12] = 0xc0),
        ("a label of no known kind", &|p| p[12] = 0x80),
        ("a question cut short", &|p| p.truncate(20)),
        ("an OPT with half an option", &|p| {
            let at = p.len() - 1;
            p[at] = 3;
            p.extend([0, 10, 0]);
        }),
        ("two OPTs", &|p| {
            let opt = p[p.len() - 11..].to_vec();
            p.extend(opt);
            p[11] = 2;
        }),
        ("an OPT among the answers", &|p| (p[7], p[11]) = (1, 0)),
    ];
    for (what, change) in faults {
        let (verdict, reply) = changed(change);
        assert!(matches!(verdict, Verdict::Reply(Ending::Malformed)), "{what}: {verdict:?}");
        assert_eq!(reply.unwrap().response_code, ResponseCode::FormErr, "{what}");
    }
    let mut long = good[..12].to_vec();
    long[11] = 0;
    long.extend([&[63_u8][..], &[b'a'; 63]].concat().repeat(4));
    long.extend([0, 0, 1, 0, 1]);
    assert!(matches!(send(&zones, &long, Transport::Udp).0, Verdict::Reply(Ending::Malformed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_packet_makes_it_panic_or_write_what_cannot_be_read(
        packet in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        send(&zones(3), &packet, Transport::Udp);
    }

    #[test]
    fn no_damaged_query_does_either(
        name in prop_oneof![
            Just("one.base.vpce.amazonaws.com"), Just("a.example.com"), Just("b.org"), Just(".")
        ],
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        tcp in any::<bool>(),
    ) {
        let mut packet = with_edns(query(name, Type::A), 1_232).to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let (Verdict::Forward(question), _) = send(&zones(3), &packet, transport) {
            let reply = question.reply(ResponseCode::ServFail, vec![], vec![]);
            prop_assert!(Message::from_vec(&reply).is_ok());
        }
    }
}
