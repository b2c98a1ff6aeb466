use super::*;

fn attributes<'a>(list: &[(&'a str, &'a str, &'a str)]) -> Message<'a> {
    message(list, "")
}

fn message<'a>(list: &[(&'a str, &'a str, &'a str)], body: &'a str) -> Message<'a> {
    let attributes =
        list.iter().map(|&(name, data_type, value)| Attribute { name, data_type, value });
    Message::new(attributes.collect::<Vec<_>>(), body)
}

fn wants(policy: &str, message: &Message<'_>) -> bool {
    let policy = FilterPolicy::parse(policy, FilterScope::MessageAttributes);
    policy.unwrap_or_else(|fault| panic!("{fault}")).matches(message)
}

fn wants_body(policy: &str, body: &str) -> bool {
    let parsed = FilterPolicy::parse(policy, FilterScope::MessageBody);
    parsed.unwrap_or_else(|fault| panic!("{policy}: {fault}")).matches(&message(&[], body))
}

fn refused(policy: &str, scope: FilterScope) -> FilterFault {
    match FilterPolicy::parse(policy, scope) {
        Err(fault) => fault,
        Ok(parsed) => panic!("accepted {policy}: {parsed:?}"),
    }
}

#[test]
fn keys_are_anded_and_values_ored() {
    let policy = r#"{"event": ["Accept", "Reject"], "owner": ["111122223333"]}"#;
    for (event, owner, expected) in [
        ("Accept", "111122223333", true),
        ("Reject", "111122223333", true),
        ("Connect", "111122223333", false),
        ("Accept", "444455556666", false),
        ("accept", "111122223333", false),
    ] {
        let list = [("event", "String", event), ("owner", "String", owner)];
        assert_eq!(wants(policy, &attributes(&list)), expected, "{event} {owner}");
    }
    assert!(!wants(policy, &attributes(&[("event", "String", "Accept")])), "a key is missing");
    assert!(wants("{}", &attributes(&[])), "an empty policy wants everything");
}

#[test]
fn each_operator_matches_as_its_name_says() {
    for (value, data_type, text, expected) in [
        (r#""a""#, "String", "a", true),
        (r#""a""#, "String.label", "a", true),
        (r#""a""#, "String", "A", false),
        (r#""1""#, "Number", "1", false),
        ("1", "String", "1", false),
        ("300", "Number", "300.0", true),
        ("300", "Number.int", "3e2", true),
        ("300", "Number", "301", false),
        ("true", "String", "true", false),
        (r#"{"prefix": "vpce-"}"#, "String", "vpce-1", true),
        (r#"{"prefix": "vpce-"}"#, "String", "svc-vpce-1", false),
        (r#"{"suffix": ".test"}"#, "String", "a.test", true),
        (r#"{"suffix": ".test"}"#, "String", "a.test.", false),
        (r#"{"equals-ignore-case": "accept"}"#, "String", "ACCEPT", true),
        ("{\"equals-ignore-case\": \"stra\u{df}e \u{c9}\"}", "String", "STRA\u{df}E \u{e9}", true),
        (r#"{"equals-ignore-case": "accept"}"#, "String", "accepted", false),
        (r#"{"anything-but": ["a", "b"]}"#, "String", "c", true),
        (r#"{"anything-but": ["a", "b"]}"#, "String", "b", false),
        (r#"{"anything-but": "a"}"#, "String", "a", false),
        (r#"{"anything-but": [1, 2]}"#, "Number", "3", true),
        (r#"{"anything-but": [1, 2]}"#, "Number", "2.0", false),
        (r#"{"anything-but": [1, "a"]}"#, "String", "1", true),
        (r#"{"anything-but": {"prefix": "x-"}}"#, "String", "y-", true),
        (r#"{"anything-but": {"prefix": "x-"}}"#, "String", "x-1", false),
        (r#"{"anything-but": {"suffix": "-x"}}"#, "String", "1-x", false),
        (r#"{"anything-but": {"suffix": "-x"}}"#, "Number", "1", true),
        (r#"{"numeric": ["=", 5]}"#, "Number", "5.00", true),
        (r#"{"numeric": ["=", 5]}"#, "String", "5", false),
        (r#"{"numeric": [">", 5]}"#, "Number", "5", false),
        (r#"{"numeric": [">=", 5]}"#, "Number", "5", true),
        (r#"{"numeric": ["<", 5]}"#, "Number", "4.99999999999", true),
        (r#"{"numeric": ["<=", 5]}"#, "Number", "5.00000000001", false),
        (r#"{"numeric": [">", 0, "<=", 5]}"#, "Number", "5", true),
        (r#"{"numeric": [">", 0, "<=", 5]}"#, "Number", "0", false),
        (r#"{"numeric": [">=", -1, "<", 1]}"#, "Number", "-1", true),
        (r#"{"exists": true}"#, "String", "", true),
        (r#"{"exists": false}"#, "String", "", false),
        (r#"{"exists": true}"#, "Binary", "AAAA", false),
        (r#"{"exists": false}"#, "Binary", "AAAA", true),
        (r#"{"exists": true}"#, "Number", "abc", false),
        (r#"{"cidr": "10.0.0.0/24"}"#, "String", "10.0.0.255", true),
        (r#"{"cidr": "10.0.0.0/24"}"#, "String", "10.0.1.0", false),
        (r#"{"cidr": "10.0.0.0/24"}"#, "String", "door", false),
        (r#"{"cidr": "2001:db8::/32"}"#, "String", "2001:db8::1", true),
    ] {
        let policy = format!("{{\"k\": [{value}]}}");
        let message = attributes(&[("k", data_type, text)]);
        assert_eq!(wants(&policy, &message), expected, "{value} {data_type} {text}");
    }
}

#[test]
fn an_array_matches_when_one_of_its_elements_does() {
    for (value, array, expected) in [
        (r#""b""#, r#"["a", "b"]"#, true),
        (r#""c""#, r#"["a", "b"]"#, false),
        ("2", r#"["a", 2]"#, true),
        ("true", "[true]", true),
        ("null", "[null]", true),
        ("false", "[true, null]", false),
        (r#"{"anything-but": ["a"]}"#, r#"["a", "b"]"#, true),
        (r#"{"anything-but": ["a", "b"]}"#, r#"["a", "b"]"#, false),
        (r#"{"exists": true}"#, "[]", false),
        (r#"{"exists": false}"#, "[]", true),
        (r#"{"exists": false}"#, "[1", true),
        (r#"{"numeric": [">", 1]}"#, "[1, 1.5]", true),
        (r#"{"prefix": "b"}"#, r#"["abc", "bcd"]"#, true),
    ] {
        let policy = format!("{{\"k\": [{value}]}}");
        let message = attributes(&[("k", "String.Array", array)]);
        assert_eq!(wants(&policy, &message), expected, "{value} {array}");
    }
}

#[test]
fn a_missing_key_matches_exists_false_alone() {
    for (value, expected) in [
        (r#"{"exists": false}"#, true),
        (r#""a", {"exists": false}"#, true),
        (r#"{"exists": true}"#, false),
        (r#"{"anything-but": ["a"]}"#, false),
        (r#"{"anything-but": {"prefix": "a"}}"#, false),
        ("null", false),
    ] {
        assert_eq!(wants(&format!("{{\"k\": [{value}]}}"), &attributes(&[])), expected, "{value}");
        assert_eq!(wants_body(&format!("{{\"k\": [{value}]}}"), "{}"), expected, "{value}");
    }
}

#[test]
fn one_branch_of_an_or_must_match_beside_the_other_keys() {
    let policy = r#"{"source": ["s"], "$or": [{"a": ["1"]}, {"b": ["2"], "c": ["3"]}]}"#;
    for (list, expected) in [
        (vec![("source", "s"), ("a", "1")], true),
        (vec![("source", "s"), ("b", "2"), ("c", "3")], true),
        (vec![("source", "s"), ("b", "2")], false),
        (vec![("source", "s")], false),
        (vec![("source", "x"), ("a", "1")], false),
    ] {
        let list: Vec<_> = list.into_iter().map(|(name, value)| (name, "String", value)).collect();
        assert_eq!(wants(policy, &attributes(&list)), expected, "{list:?}");
    }
}

#[test]
fn bodies_are_matched_at_every_depth() {
    let policy = r#"{"a": {"b": ["x"], "$or": [{"c": [1]}, {"d": [{"exists": false}]}]}}"#;
    for (body, expected) in [
        (r#"{"a": {"b": "x", "c": 1, "d": 5}}"#, true),
        (r#"{"a": {"b": "x"}}"#, true),
        (r#"{"a": {"b": "x", "d": null}}"#, false),
        (r#"{"a": {"b": ["y", "x"], "c": [2, [1]], "d": 0}}"#, true),
        (r#"{"a": [{"b": "y"}, {"b": "x"}]}"#, true),
        (r#"{"a": [{"b": "x", "d": 1}, {"b": "y"}]}"#, false),
        (r#"{"a": "x"}"#, false),
        (r#"["a"]"#, false),
        ("no json", false),
    ] {
        assert_eq!(wants_body(policy, body), expected, "{body}");
    }
    assert!(wants_body(r#"{"a": {"b": [{"exists": false}]}}"#, r#"{"a": 1}"#));
    assert!(wants_body(r#"{"a": [{"exists": false}]}"#, r#"{"a": {"b": 1}}"#));
    assert!(wants_body(r#"{"n": [0.1]}"#, r#"{"n": 1e-1}"#));
    assert!(wants_body("{}", "no json"));
    assert!(!wants_body(r#"{"n": [1]}"#, r#"{"n": 1.000000001}"#));
}

#[test]
fn what_is_no_filter_policy_is_refused_with_the_reason_and_the_place() {
    use FilterScope::{MessageAttributes as A, MessageBody as B};
    for (policy, scope, path, reason) in [
        ("", A, "", "the document ends too early"),
        ("[]", A, "", "Filter policy must be a JSON object"),
        (r#"{"k": ["a"], "k": ["b"]}"#, A, "", "the key \"k\" comes twice"),
        (r#"{"k": []}"#, A, "k", "Empty arrays are not allowed"),
        (r#"{"k": "a"}"#, A, "k", "\"k\" must be an object or an array"),
        (r#"{"k": {"l": ["a"]}}"#, A, "k", "does not support nested filter policy"),
        (r#"{"k": {}}"#, B, "k", "Empty objects are not allowed"),
        (r#"{"k": [["a"]]}"#, A, "k[0]", "Match value must be String, number, true, false"),
        (r#"{"k": ["a", {"near": 1}]}"#, A, "k[1].near", "Unrecognized match type near"),
        (r#"{"k": [{"prefix": "a", "suffix": "b"}]}"#, A, "k[0]", "Only one key allowed"),
        (r#"{"k": [{}]}"#, A, "k[0]", "Only one key allowed"),
        (r#"{"k": [{"prefix": 1}]}"#, A, "k[0].prefix", "prefix match pattern must be a string"),
        (r#"{"k": [{"suffix": ""}]}"#, A, "k[0].suffix", "must not be empty"),
        (r#"{"k": [{"exists": 1}]}"#, A, "k[0].exists", "must be either true or false"),
        (r#"{"k": [{"cidr": "10.0.0.0/33"}]}"#, A, "k[0].cidr", "Malformed CIDR"),
        (r#"{"k": [{"anything-but": []}]}"#, A, "k[0].anything-but", "Empty arrays"),
        (r#"{"k": [{"anything-but": true}]}"#, A, "k[0].anything-but", "strings or numbers"),
        (
            r#"{"k": [{"anything-but": {"cidr": "a"}}]}"#,
            A,
            "k[0].anything-but.cidr",
            "Unsupported anything-but pattern: cidr",
        ),
        (r#"{"k": [{"numeric": 1}]}"#, A, "k[0].numeric", "must be an array"),
        (r#"{"k": [{"numeric": []}]}"#, A, "k[0].numeric", "Empty arrays"),
        (r#"{"k": [{"numeric": [">"]}]}"#, A, "k[0].numeric", "Value of > must be numeric"),
        (r#"{"k": [{"numeric": [">", "1"]}]}"#, A, "k[0].numeric", "Value of > must be numeric"),
        (r#"{"k": [{"numeric": ["!", 1]}]}"#, A, "k[0].numeric", "Unrecognized numeric range"),
        (r#"{"k": [{"numeric": [1, 1]}]}"#, A, "k[0].numeric", "Invalid member"),
        (r#"{"k": [{"numeric": [">", 1, ">", 2]}]}"#, A, "k[0].numeric", "Bad numeric range"),
        (r#"{"k": [{"numeric": [">", 2, "<", 2]}]}"#, A, "k[0].numeric", "Bottom must be less"),
        (r#"{"k": [{"numeric": ["<", 2, ">", 1]}]}"#, A, "k[0].numeric", "Too many elements"),
        (r#"{"k": [{"numeric": ["=", 2, "<", 3]}]}"#, A, "k[0].numeric", "Too many elements"),
        (r#"{"k": [{"numeric": [">", 1, "<", 2, "<", 3]}]}"#, A, "k[0].numeric", "Too many"),
        (r#"{"k": [1000000001]}"#, A, "k[0]", "Numbers are from"),
        (r#"{"k": [0.123456]}"#, A, "k[0]", "Numbers are from"),
        (r#"{"$or": {"k": ["a"]}}"#, A, "$or", "at least two objects"),
        (r#"{"$or": [{"k": ["a"]}]}"#, A, "$or", "at least two objects"),
        (r#"{"$or": [{"k": ["a"]}, "k"]}"#, A, "$or[1]", "at least two objects"),
        (r#"{"$or": [{"k": ["a"]}, {}]}"#, A, "$or[1]", "Empty objects"),
    ] {
        let fault = refused(policy, scope);
        assert_eq!(fault.path, path, "{policy}: {fault}");
        assert!(fault.position.is_some(), "{policy}: {fault}");
        let text = fault.to_string();
        assert!(text.starts_with("FilterPolicy: ") && text.contains(reason), "{policy}: {text}");
    }
    let fault = refused("{\n  \"k\": [\n    {\"near\": 1}\n  ]\n}", A);
    let text = "FilterPolicy: Unrecognized match type near (k[0].near, line 3, column 6)";
    assert_eq!(fault.to_string(), text);
}

#[test]
fn a_policy_has_at_most_5_keys_and_150_combinations_with_depth() {
    let keys = |count: usize| {
        let keys: Vec<_> = (0..count).map(|key| format!("\"k{key}\": [\"a\"]")).collect();
        format!("{{{}}}", keys.join(","))
    };
    assert!(FilterPolicy::parse(&keys(5), FilterScope::MessageAttributes).is_ok());
    let fault = refused(&keys(6), FilterScope::MessageAttributes);
    assert_eq!(fault.to_string(), "FilterPolicy: Filter policy can not have more than 5 keys");
    let values = |count: usize| vec!["\"a\""; count].join(",");
    for (policy, is_good) in [
        (format!("{{\"a\": [{}]}}", values(150)), true),
        (format!("{{\"a\": [{}]}}", values(151)), false),
        (format!("{{\"a\": [{}], \"b\": [{}]}}", values(15), values(10)), true),
        (format!("{{\"a\": [{}], \"b\": [{}]}}", values(16), values(10)), false),
        // Two values at depth three are six combinations.
        (
            format!("{{\"a\": {{\"b\": {{\"c\": [{}]}}}}, \"d\": [{}]}}", values(2), values(25)),
            true,
        ),
        (
            format!("{{\"a\": {{\"b\": {{\"c\": [{}]}}}}, \"d\": [{}]}}", values(2), values(26)),
            false,
        ),
        // Branches add up.
        (format!("{{\"$or\": [{{\"a\": [{}]}}, {{\"b\": [{}]}}]}}", values(75), values(75)), true),
        (format!("{{\"$or\": [{{\"a\": [{}]}}, {{\"b\": [{}]}}]}}", values(75), values(76)), false),
    ] {
        let parsed = FilterPolicy::parse(&policy, FilterScope::MessageBody);
        assert_eq!(parsed.is_ok(), is_good, "{policy}");
        if let Err(fault) = parsed {
            assert!(fault.to_string().contains("too complex"), "{fault}");
        }
    }
    let same_key = r#"{"$or": [{"a": ["1"], "b": ["1"], "c": ["1"]},
        {"a": ["2"], "b": ["2"], "d": ["1"], "e": ["1"]}]}"#;
    assert!(FilterPolicy::parse(same_key, FilterScope::MessageAttributes).is_ok());
    assert!(refused(&" ".repeat(MAX_BYTES + 1), FilterScope::MessageBody).reason.contains("bytes"));
}

#[test]
fn a_scope_is_one_of_two() {
    assert_eq!("MessageBody".parse(), Ok(FilterScope::MessageBody));
    let error = "body".parse::<FilterScope>().unwrap_err().to_string();
    assert!(error.contains("MessageBody") && error.contains("[body]"), "{error}");
}
