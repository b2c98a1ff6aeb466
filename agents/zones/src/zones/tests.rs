use std::collections::BTreeMap;

use postern_model::desired::{Names, Record, RecordData};
use proptest::prelude::*;

use super::*;

const SUFFIX: &str = "vpce.amazonaws.com";
const BASE: &str = "vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com";
const REGIONAL: &str =
    "vpce-0fe5b17a0707d6abc-29p5708s.vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com";
const ZONAL: &str = "vpce-0fe5b17a0707d6abc-29p5708s-us-east-1a.vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com";

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 5);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 5);

fn addresses(name: &str, list: &[Ipv4Addr]) -> Record {
    let data = RecordData::Addresses(list.to_vec());
    Record { name: name.to_owned(), ttl_seconds: 60, data }
}

fn alias(name: &str, target: &str) -> Record {
    let data = RecordData::Alias(target.to_owned());
    Record { name: name.to_owned(), ttl_seconds: 60, data }
}

fn endpoint(private: Option<&str>) -> Names {
    let mut records = vec![addresses(REGIONAL, &[ONE, TWO]), addresses(ZONAL, &[ONE])];
    records.extend(private.map(|name| alias(name, REGIONAL)));
    Names {
        vpc: "vpc-00000000000000001".parse().unwrap(),
        endpoint: "vpce-0fe5b17a0707d6abc".parse().unwrap(),
        records,
        base_name: BASE.to_owned(),
        private_zone: private.map(|name| name.trim_start_matches("*.").to_owned()),
    }
}

fn zones(private: Option<&str>) -> Zones {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    assert_eq!(builder.names(&endpoint(private)), []);
    builder.build()
}

/// The answer in short: the targets of aliases, then the end with its zone or addresses.
fn ask(zones: &Zones, name: &str, record_type: RecordType) -> String {
    let answer = zones.answer(&name.parse().unwrap(), record_type);
    let mut words: Vec<_> = answer.aliases().map(|alias| format!("={}", alias.target())).collect();
    words.push(match answer.outcome {
        Outcome::NotOurs => "not ours".to_owned(),
        Outcome::NoSuchName(zone) => format!("no such name in {}", zone.apex()),
        Outcome::NoData(zone) => format!("no data in {}", zone.apex()),
        Outcome::Addresses(addresses) => format!("{:?}", addresses.list()),
        Outcome::Authority(zone) => format!("SOA of {}", zone.apex()),
        Outcome::NameServers(zone) => format!("NS of {}", zone.apex()),
        Outcome::Alias => "alias".to_owned(),
        Outcome::Loop => "loop".to_owned(),
    });
    words.join(" ")
}

#[test]
fn an_endpoint_is_found_by_its_names_and_by_nothing_else() {
    let zones = zones(Some("api.example.com"));
    let a = |name: &str| ask(&zones, name, RecordType::A);
    assert_eq!(a(REGIONAL), "[10.0.1.5, 10.0.2.5]");
    assert_eq!(a(&REGIONAL.to_uppercase()), "[10.0.1.5, 10.0.2.5]");
    assert_eq!(a(ZONAL), "[10.0.1.5]");
    assert_eq!(a("api.example.com"), format!("={REGIONAL} [10.0.1.5, 10.0.2.5]"));
    assert_eq!(a("www.api.example.com"), "no such name in api.example.com");
    assert_eq!(a("example.com"), "not ours");
    assert_eq!(a("www.example.com"), "not ours");
    assert_eq!(a("."), "not ours");
    assert_eq!(a(&format!("other.{BASE}")), format!("no such name in {BASE}"));
}

#[test]
fn what_is_under_the_suffix_and_unknown_here_is_no_name_anywhere() {
    let zones = zones(None);
    let a = |name: &str| ask(&zones, name, RecordType::A);
    assert_eq!(
        a("vpce-1-a.vpce-svc-1.us-east-1.vpce.amazonaws.com"),
        "no such name in vpce.amazonaws.com"
    );
    assert_eq!(a("vpce.amazonaws.com"), "no data in vpce.amazonaws.com");
    assert_eq!(a("amazonaws.com"), "not ours");
    // With names below it, a name exists.
    assert_eq!(a("us-east-1.vpce.amazonaws.com"), "no data in vpce.amazonaws.com");
    assert_eq!(a("api.example.com"), "not ours");
}

#[test]
fn a_name_has_no_records_of_other_types() {
    let zones = zones(Some("api.example.com"));
    for record_type in [RecordType::AAAA, RecordType::CNAME, RecordType(16), RecordType(65)] {
        assert_eq!(ask(&zones, REGIONAL, record_type), format!("no data in {BASE}"));
    }
    assert_eq!(
        ask(&zones, "api.example.com", RecordType::AAAA),
        format!("={REGIONAL} no data in {BASE}")
    );
    assert_eq!(ask(&zones, "api.example.com", RecordType::CNAME), format!("={REGIONAL} alias"));
    assert_eq!(ask(&zones, "api.example.com", RecordType::ANY), format!("={REGIONAL} alias"));
    assert_eq!(ask(&zones, REGIONAL, RecordType::ANY), "[10.0.1.5, 10.0.2.5]");
}

#[test]
fn an_apex_has_its_own_records() {
    let zones = zones(Some("api.example.com"));
    for apex in [SUFFIX, BASE, "api.example.com"] {
        assert_eq!(ask(&zones, apex, RecordType::SOA), format!("SOA of {apex}"));
        assert_eq!(ask(&zones, apex, RecordType::NS), format!("NS of {apex}"));
    }
    assert_eq!(ask(&zones, BASE, RecordType::ANY), format!("SOA of {BASE}"));
    assert_eq!(ask(&zones, REGIONAL, RecordType::SOA), format!("no data in {BASE}"));
    assert_eq!(ask(&zones, "ns.vpce.amazonaws.com", RecordType::A), format!("no data in {SUFFIX}"));
}

#[test]
fn an_endpoint_without_addresses_keeps_its_name() {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    builder.zone(BASE).unwrap();
    builder.record(&addresses(REGIONAL, &[])).unwrap();
    let zones = builder.build();
    assert_eq!(ask(&zones, REGIONAL, RecordType::A), format!("no data in {BASE}"));
    assert_eq!(ask(&zones, REGIONAL, RecordType::ANY), format!("no data in {BASE}"));
}

#[test]
fn a_wildcard_stands_for_all_names_below_and_not_for_its_zone() {
    let zones = zones(Some("*.example.com"));
    let found = format!("={REGIONAL} [10.0.1.5, 10.0.2.5]");
    for name in ["a.example.com", "a.b.example.com", "*.example.com"] {
        assert_eq!(ask(&zones, name, RecordType::A), found);
    }
    assert_eq!(ask(&zones, "example.com", RecordType::A), "no data in example.com");
}

#[test]
fn of_two_private_zones_the_longer_wins() {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    for (zone, name, address) in [("x.com", "*.x.com", ONE), ("a.x.com", "a.x.com", TWO)] {
        builder.zone(zone).unwrap();
        builder.record(&addresses(name, &[address])).unwrap();
    }
    let zones = builder.build();
    assert_eq!(ask(&zones, "b.x.com", RecordType::A), "[10.0.1.5]");
    assert_eq!(ask(&zones, "a.x.com", RecordType::A), "[10.0.2.5]");
    assert_eq!(ask(&zones, "b.a.x.com", RecordType::A), "no such name in a.x.com");
}

#[test]
fn each_answer_begins_with_the_next_address() {
    let zones = zones(None);
    let first = || {
        let answer = zones.answer(&REGIONAL.parse().unwrap(), RecordType::A);
        let Outcome::Addresses(addresses) = answer.outcome else { panic!("{answer:?}") };
        let list: Vec<_> = addresses.rotated().collect();
        assert_eq!(list.len(), 2);
        list[0]
    };
    assert_eq!([first(), first(), first()], [ONE, TWO, ONE]);
}

#[test]
fn aliases_that_go_round_end() {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    builder.zone("x.com").unwrap();
    builder.record(&alias("a.x.com", "b.x.com")).unwrap();
    builder.record(&alias("b.x.com", "a.x.com")).unwrap();
    builder.record(&alias("c.x.com", "gone.x.com")).unwrap();
    builder.record(&alias("d.x.com", "elsewhere.org")).unwrap();
    let zones = builder.build();
    assert!(ask(&zones, "a.x.com", RecordType::A).ends_with("loop"));
    assert_eq!(ask(&zones, "c.x.com", RecordType::A), "=gone.x.com no such name in x.com");
    assert_eq!(ask(&zones, "d.x.com", RecordType::A), "=elsewhere.org not ours");
}

#[test]
fn one_bad_record_takes_no_other_name_away() {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    let mut names = endpoint(Some("api.example.com"));
    names.records.push(addresses(REGIONAL, &[TWO]));
    names.records.push(addresses("www.example.org", &[TWO]));
    names.records.push(addresses("a..b", &[TWO]));
    names.records.push(alias("b.api.example.com", "é.com"));
    names.records.push(addresses("c.api.example.com", &[ONE; 3_000]));
    let refused: Vec<_> = builder.names(&names).iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    for (refused, word) in
        refused.iter().zip(["taken", "no zone", "\"a..b\"", "not a DNS name", "3000"])
    {
        assert!(refused.contains(word), "{refused}");
    }
    let zones = builder.build();
    assert_eq!(ask(&zones, REGIONAL, RecordType::A), "[10.0.1.5, 10.0.2.5]");
    assert_eq!(ask(&zones, "api.example.com", RecordType::CNAME), format!("={REGIONAL} alias"));
}

#[test]
fn no_zone_takes_a_whole_top_level_domain() {
    let mut builder = Zones::builder(SUFFIX).unwrap();
    for apex in ["", ".", "com", "*.example.com", "a..b"] {
        assert!(builder.zone(apex).is_err(), "{apex:?}");
    }
    assert!(Zones::builder("com").is_err());
}

/// Names of few labels out of few, so that they stand above and below each other.
fn small_name() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 0..4)
        .prop_map(|labels| labels.into_iter().chain(["z.test"]).collect::<Vec<_>>().join("."))
}

const APEXES: [&str; 3] = ["z.test", "a.z.test", "vpce.test"];

/// RFC 1034 and 4592 word for word, over a list instead of a map.
fn by_the_book(records: &BTreeMap<String, Ipv4Addr>, name: &str) -> String {
    let is_under = |name: &str, end: &str| name == end || name.ends_with(&format!(".{end}"));
    let longest = APEXES.iter().filter(|apex| is_under(name, apex)).max_by_key(|apex| apex.len());
    let Some(zone) = longest else { return "not ours".to_owned() };
    let owners = || records.keys().map(String::as_str).chain(APEXES);
    let exists = |name: &str| owners().any(|owner| is_under(owner, name));
    let data = |name: &str| match records.get(name) {
        Some(address) => format!("[{address}]"),
        None => format!("no data in {zone}"),
    };
    if exists(name) {
        return data(name);
    }
    let mut closest = name;
    while !exists(closest) {
        closest = closest.split_once('.').unwrap().1;
    }
    let wildcard = format!("*.{closest}");
    if exists(&wildcard) { data(&wildcard) } else { format!("no such name in {zone}") }
}

proptest! {
    #[test]
    fn answers_are_those_of_the_book(
        records in proptest::collection::btree_map(small_name(), any::<u32>().prop_map(Ipv4Addr::from), 0..12),
        asked in proptest::collection::vec(small_name(), 1..12),
    ) {
        let mut builder = Zones::builder("vpce.test").unwrap();
        for apex in &APEXES[..2] {
            builder.zone(apex).unwrap();
        }
        for (name, address) in &records {
            builder.record(&addresses(name, &[*address])).unwrap();
        }
        let zones = builder.build();
        for name in asked.iter().chain(records.keys()) {
            prop_assert_eq!(ask(&zones, name, RecordType::A), by_the_book(&records, name), "{}", name);
        }
    }

    #[test]
    fn every_name_put_in_is_found_in_any_spelling(
        names in proptest::collection::btree_set("[a-z0-9_-]{1,20}(\\.[a-z0-9]{1,10}){0,4}", 1..40),
        upper in any::<bool>(),
    ) {
        let mut builder = Zones::builder(SUFFIX).unwrap();
        for name in &names {
            builder.record(&addresses(&format!("{name}.{SUFFIX}"), &[ONE])).unwrap();
        }
        let zones = builder.build();
        for name in &names {
            let name = format!("{name}.{SUFFIX}");
            let asked = if upper { name.to_uppercase() } else { name };
            prop_assert_eq!(ask(&zones, &asked, RecordType::A), "[10.0.1.5]");
            prop_assert_eq!(ask(&zones, &asked, RecordType::AAAA), format!("no data in {SUFFIX}"));
        }
    }
}
