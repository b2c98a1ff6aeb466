//! What is no policy, and the place that each fault points at.

use super::*;

fn condition(text: &str) -> String {
    format!("\"Condition\": {{{text}}}")
}

fn path_of(extra: &str) -> String {
    refused(&statement(extra)).path
}

#[test]
fn what_is_not_understood_is_refused_and_never_ignored() {
    for (extra, path) in [
        (r#""Effct": "Allow""#, "Effct"),
        (r#""Effect": "allow""#, "Effect"),
        (r#""Effect": ["Allow"]"#, "Effect"),
        (r#""Sid": 1"#, "Sid"),
        (r#""Action": "SQS:SendMessage""#, "Action"),
        (r#""Action": ["SNS:Publish", "SNS:Nope"]"#, "Action[1]"),
        (r#""Action": "SNS:${aws:PrincipalArn}""#, "Action"),
        (r#""Action": []"#, "Action"),
        (r#""Action": {}"#, "Action"),
        (r#""Principal": "111122223333""#, "Principal"),
        (r#""Principal": {"AWS": "1111*"}"#, "Principal.AWS"),
        (r#""Principal": {"AWS": ["*", "arn:aws:iam::*:user/bob"]}"#, "Principal.AWS[1]"),
        (r#""Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}"#, "Principal.AWS"),
        (r#""Principal": {"Service": "*"}"#, "Principal.Service"),
        (r#""Principal": {"Service": ["vpce.amazonaws.com", 1]}"#, "Principal.Service[1]"),
        (r#""Principal": {"Federated": "x"}"#, "Principal.Federated"),
        (r#""Principal": {"Federated": "arn:aws:iam::1:saml-provider/x"}"#, "Principal.Federated"),
        (r#""Principal": {"CanonicalUser": "x"}"#, "Principal.CanonicalUser"),
        (r#""Principal": {}"#, "Principal"),
        (r#""Principal": []"#, "Principal"),
        (r#""Resource": """#, "Resource"),
        (r#""Resource": []"#, "Resource"),
        (r#""Condition": []"#, "Condition"),
        (r#""Action": "*", "NotAction": "SNS:Publish""#, "NotAction"),
        (r#""Resource": "*", "NotResource": "*""#, "NotResource"),
    ] {
        assert_eq!(path_of(extra), format!("Statement[0].{path}"), "{extra}");
    }
    for document in [
        "",
        "[]",
        "{}",
        r#"{"Statement": "x"}"#,
        r#"{"Statement": [], "X": 1}"#,
        r#"{"Statement": [], "Version": "2012"}"#,
        r#"{"Statement": [], "Id": 1}"#,
        r#"{"Statement": [1]}"#,
    ] {
        refused(document);
    }
    assert!(refused(r#"{"Statement": [], "Statement": []}"#).reason.contains("twice"));
}

#[test]
fn operators_and_keys_that_there_are_not_are_refused() {
    for (text, path) in [
        (r#""StringEqual": {"aws:SourceIp": "1"}"#, "StringEqual"),
        (r#""stringEquals": {"aws:SourceIp": "1"}"#, "stringEquals"),
        (r#""NullIfExists": {"aws:SourceIp": "true"}"#, "NullIfExists"),
        (r#""ForAnyValue:Null": {"aws:SourceIp": "true"}"#, "ForAnyValue:Null"),
        (r#""ForEachValue:StringEquals": {"aws:SourceIp": "1"}"#, "ForEachValue:StringEquals"),
        (
            r#""StringEqualsIfExistsIfExists": {"aws:SourceIp": "1"}"#,
            "StringEqualsIfExistsIfExists",
        ),
        (r#""StringEquals": {"aws:username": "1"}"#, "StringEquals.aws:username"),
        (r#""StringEquals": {}"#, "StringEquals"),
        (r#""StringEquals": "x""#, "StringEquals"),
        (
            r#""StringEquals": {"aws:SourceIp": "1", "AWS:sourceip": "2"}"#,
            "StringEquals.AWS:sourceip",
        ),
    ] {
        assert_eq!(path_of(&condition(text)), format!("Statement[0].Condition.{path}"), "{text}");
    }
}

#[test]
fn values_that_the_operator_cannot_read_are_refused() {
    for (operator, value) in [
        ("StringEquals", "1"),
        ("StringEquals", "true"),
        ("StringEquals", "null"),
        ("StringEquals", "[]"),
        ("StringEquals", "\"\\u00e9\""),
        ("NumericEquals", "\"one\""),
        ("NumericEquals", "\"\""),
        ("NumericEquals", "\"0x10\""),
        ("NumericEquals", "\"0.1234567890123\""),
        ("NumericEquals", "1e40"),
        ("NumericEquals", "true"),
        ("DateEquals", "\"yesterday\""),
        ("DateEquals", "\"2026-13-01\""),
        ("DateEquals", "\"2026-11-24T10:00:00\""),
        ("DateEquals", "\"2026-11-24 10:00:00Z\""),
        ("DateEquals", "\"999999999999999\""),
        ("DateEquals", "1.5"),
        ("Bool", "\"True\""),
        ("Bool", "\"yes\""),
        ("Bool", "1"),
        ("Null", "\"maybe\""),
        ("BinaryEquals", "\"a\""),
        ("BinaryEquals", "\"YQ\""),
        ("IpAddress", "\"10.0.0\""),
        ("IpAddress", "\"10.0.0.0/33\""),
        ("IpAddress", "\"10.0.0.*\""),
        ("NotIpAddress", "\"door\""),
        ("ArnLike", "\"*\""),
        ("ArnNotEquals", "\"arn:aws:sns\""),
    ] {
        let text = format!("\"{operator}\": {{\"aws:SourceIp\": {value}}}");
        let path = format!("Statement[0].Condition.{operator}.aws:SourceIp");
        assert_eq!(path_of(&condition(&text)), path, "{text}");
    }
    let second = condition(r#""NumericEquals": {"aws:EpochTime": [1, "x"]}"#);
    assert_eq!(path_of(&second), "Statement[0].Condition.NumericEquals.aws:EpochTime[1]");
    let variable = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": "*", "Action": "*", "Resource": "${aws:username}"}]}"#;
    assert!(refused(variable).reason.contains("aws:username"));
}

#[test]
fn not_principal_stands_with_deny_alone_and_lists_the_account_too() {
    let with = |effect: &str, list: &str| {
        format!(
            r#"{{"Statement": {{"Effect": "{effect}", "NotPrincipal": {list}, "Action": "*",
                "Resource": "{TOPIC}"}}}}"#
        )
    };
    let bob = r#""arn:aws:iam::111122223333:user/bob""#;
    let both = format!(r#"{{"AWS": [{bob}, "111122223333"]}}"#);
    parse(&with("Deny", &both));
    parse(&with("Deny", r#"{"Service": "vpce.amazonaws.com"}"#));
    for (document, reason) in [
        (with("Allow", &both), "stands with Deny alone"),
        (with("Deny", &format!(r#"{{"AWS": {bob}}}"#)), "denied with its account"),
        (
            with("Deny", &format!(r#"{{"AWS": [{bob}, "444455556666"]}}"#)),
            "denied with its account",
        ),
        (with("Deny", "\"*\""), "deny nobody"),
    ] {
        let fault = refused(&document);
        assert_eq!(fault.path, "Statement.NotPrincipal", "{document}");
        assert!(fault.reason.contains(reason), "{fault}");
    }
}

#[test]
fn a_statement_to_be_set_names_its_topic_and_nothing_else() {
    let topic: TopicArn = TOPIC.parse().unwrap();
    let set = |resource: &str| {
        Policy::parse_for(&statement(&format!("\"Resource\": {resource}")), &topic)
    };
    assert!(set(&format!("\"{TOPIC}\"")).is_ok() && set(&format!("[\"{TOPIC}\"]")).is_ok());
    for (resource, path) in [
        ("\"*\"".to_owned(), ""),
        ("\"arn:aws:sns:*:111122223333:doors\"".to_owned(), ""),
        ("\"arn:aws:sns:us-east-1:111122223333:other\"".to_owned(), ""),
        (format!("[\"{TOPIC}\", \"{TOPIC}\"]"), ""),
        (format!("[\"{TOPIC}\", \"*\"]"), "[1]"),
    ] {
        let fault = set(&resource).unwrap_err();
        assert_eq!(fault.path, format!("Statement[0].Resource{path}"), "{resource}");
        assert!(fault.position.is_some(), "{fault}");
    }
    let not = statement("\"NotResource\": \"*\"");
    assert_eq!(Policy::parse_for(&not, &topic).unwrap_err().path, "Statement[0].NotResource");
}

#[test]
fn a_statement_has_1_to_200_principals() {
    let with = |count: usize| {
        let accounts: Vec<_> = (0..count).map(|one| format!("\"{one:012}\"")).collect();
        statement(&format!("\"Principal\": {{\"AWS\": [{}]}}", accounts.join(",")))
    };
    parse(&with(1));
    parse(&with(MAX_PRINCIPALS));
    assert!(refused(&with(MAX_PRINCIPALS + 1)).reason.contains("1 to 200"));
}
