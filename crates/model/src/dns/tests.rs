use proptest::prelude::*;

use super::*;

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn service() -> ServiceId {
    "vpce-svc-0a1b2c3d4e5f60718".parse().unwrap()
}

#[test]
fn an_endpoint_is_called_as_the_specification_says() {
    let endpoint: EndpointId = "vpce-0fe5b17a0707d6abc".parse().unwrap();
    let label: Label = "29p5708s".parse().unwrap();
    let base = Suffixes::default().base_name(&region(), service());
    assert_eq!(base.as_str(), "vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com");
    assert_eq!(
        base.regional(endpoint, label),
        "vpce-0fe5b17a0707d6abc-29p5708s.vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com"
    );
    assert_eq!(
        base.zonal(endpoint, label, &region().zone_name(1)),
        "vpce-0fe5b17a0707d6abc-29p5708s-us-east-1b.vpce-svc-0a1b2c3d4e5f60718.us-east-1.vpce.amazonaws.com"
    );
}

#[test]
fn a_built_in_service_has_a_base_name_and_a_private_name() {
    let suffixes = Suffixes::default();
    let base = suffixes.built_in_base_name(&region(), "kinesis-streams").unwrap();
    assert_eq!(base.as_str(), "kinesis-streams.us-east-1.vpce.amazonaws.com");
    let private = suffixes.built_in_private_name(&region(), "ecr.api").unwrap();
    assert_eq!(private.as_str(), "ecr.api.us-east-1.amazonaws.com");
    assert!(suffixes.built_in_base_name(&region(), "no_such").is_err());
}

#[test]
fn a_deployment_may_have_a_suffix_of_its_own() {
    let suffixes: Suffixes = "doors.corp.internal".parse().unwrap();
    assert_eq!(suffixes.built_in(), "corp.internal");
    let base = suffixes.base_name(&region(), service());
    assert_eq!(base.as_str(), "vpce-svc-0a1b2c3d4e5f60718.us-east-1.doors.corp.internal");
    for text in ["", "internal", "Doors.corp", ".a.b", "a.b.", "*.a.b"] {
        assert!(text.parse::<Suffixes>().is_err(), "{text:?}");
    }
    assert!(format!("{}.test", "a.".repeat(40).trim_end_matches('.')).parse::<Suffixes>().is_err());
}

#[test]
fn names_of_services_are_told_apart() {
    let text = "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718";
    assert_eq!(text.parse(), Ok(ServiceName::endpoint(&region(), service())));
    let built_in = ServiceName::BuiltIn { region: region(), service: "ecr.api".to_owned() };
    assert_eq!("com.amazonaws.us-east-1.ecr.api".parse(), Ok(built_in));
    for text in [
        "",
        "com.amazonaws.",
        "com.amazonaws.us-east-1",
        "com.amazonaws.us-east-1.",
        "com.amazonaws.us-east-1.a..b",
        "com.amazonaws.vpce.us-east-1",
        "com.amazonaws.vpce.us-east-1.ecr",
        "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718.more",
        "COM.amazonaws.us-east-1.ecr",
    ] {
        assert!(text.parse::<ServiceName>().is_err(), "{text:?}");
    }
}

#[test]
fn a_private_name_has_a_zone_and_may_be_a_wildcard() {
    let exact: PrivateDnsName = "api.example.com".parse().unwrap();
    assert_eq!((exact.zone(), exact.is_wildcard()), ("api.example.com", false));
    let wildcard: PrivateDnsName = "*.example.com".parse().unwrap();
    assert_eq!((wildcard.zone(), wildcard.is_wildcard()), ("example.com", true));
}

#[test]
fn names_meant_for_private_use_or_tests_are_allowed() {
    for text in ["api.corp.internal", "api.example.test", "1.example.com", "xn--bcher-kva.example"]
    {
        assert!(Suffixes::default().private_name(text).is_ok(), "{text}");
    }
}

#[test]
fn what_can_be_no_private_name_is_refused_with_the_reason() {
    let long_label = format!("{}.example.com", "a".repeat(64));
    let long = format!("{}example.com", "abcdefg.".repeat(31));
    for (text, reason) in [
        ("", "empty label"),
        ("example", "fewer than two"),
        ("*.com", "fewer than two"),
        ("*", "wildcard"),
        ("a.*.example.com", "wildcard"),
        ("*a.example.com", "wildcard"),
        ("*.*.example.com", "wildcard"),
        ("Api.example.com", "lower case"),
        ("a_b.example.com", "lower case"),
        ("bücher.example.com", "lower case"),
        ("a b.example.com", "lower case"),
        ("-a.example.com", "hyphen"),
        ("a-.example.com", "hyphen"),
        ("example.com.", "empty label"),
        ("a..example.com", "empty label"),
        ("10.0.0.1", "address"),
        (&long_label, "63"),
        (&long, "253"),
        ("db.localhost", "special use"),
        ("printer.local", "special use"),
        ("1.0.10.in-addr.arpa", "special use"),
        ("*.vpce.amazonaws.com", "endpoints"),
        ("vpce.amazonaws.com", "endpoints"),
        ("a.us-east-1.vpce.amazonaws.com", "endpoints"),
    ] {
        let refused = Suffixes::default().private_name(text).unwrap_err().to_string();
        assert!(refused.contains(reason), "{text:?}: {refused}");
    }
    // Not under it, only alike.
    assert!(Suffixes::default().private_name("myvpce.amazonaws.com").is_ok());
    assert!("my-local.example.notlocal".parse::<PrivateDnsName>().is_ok());
}

#[test]
fn a_generated_label_is_drawn_from_the_whole_alphabet() {
    let mut seen: Vec<u8> = (0..200).flat_map(|_| Label::generate(&mut rand::rng()).0).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.iter().all(|byte| ALPHABET.contains(byte)));
    assert!(seen.len() > 30, "{}", seen.len());
}

fn round_trip<T>(value: &T) -> T
where
    T: serde::Serialize + for<'de> serde::Deserialize<'de>,
{
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn labels_read_back(text in "[a-z0-9]{8}") {
        let label: Label = text.parse().unwrap();
        prop_assert_eq!(label.to_string(), text);
        prop_assert_eq!(round_trip(&label), label);
    }

    #[test]
    fn other_texts_are_no_labels(text in "[a-z0-9]{0,7}|[a-z0-9]{9,12}|[A-Z-_.]{8}") {
        prop_assert!(text.parse::<Label>().is_err());
    }

    #[test]
    fn private_names_read_back(
        text in r"(\*\.)?([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\.){1,6}(com|internal|test|x)"
    ) {
        let name: PrivateDnsName = text.parse().unwrap();
        prop_assert_eq!(name.as_str(), text);
        prop_assert_eq!(round_trip(&name), name);
    }

    #[test]
    fn a_private_name_that_is_taken_fits_into_a_packet(text in r"[a-z0-9.*-]{0,300}|\PC{0,80}") {
        if let Ok(name) = text.parse::<PrivateDnsName>() {
            prop_assert!(name.as_str().len() <= NAME_MAX);
            prop_assert!(name.as_str().split('.').all(|l| !l.is_empty() && l.len() <= LABEL_MAX));
            prop_assert_eq!(name.as_str(), name.as_str().to_lowercase());
        }
    }

    #[test]
    fn names_of_services_read_back(seed in any::<u64>(), service in "[a-z0-9]{1,9}(\\.[a-z]{1,9})?") {
        use rand::SeedableRng as _;
        let id = ServiceId::generate(&mut rand::rngs::StdRng::seed_from_u64(seed));
        let built_in = ServiceName::BuiltIn { region: region(), service };
        for name in [ServiceName::endpoint(&region(), id), built_in] {
            prop_assert_eq!(name.to_string().parse(), Ok(name.clone()));
            prop_assert_eq!(round_trip(&name), name);
        }
    }
}
