//! Conditions: a table for each rule of spec 8.6.

use super::*;

const ALL: &[(ConditionKey, &str)] = &[
    (ConditionKey::SourceArn, SOURCE),
    (ConditionKey::SourceAccount, "111122223333"),
    (ConditionKey::PrincipalOrgId, "o-Doors"),
    (ConditionKey::SourceIp, "10.1.2.3"),
    (ConditionKey::SecureTransport, "true"),
    (ConditionKey::CurrentTime, "2026-11-24T10:00:00Z"),
    (ConditionKey::EpochTime, "1795514400"),
    (ConditionKey::UserAgent, "a*b"),
    (ConditionKey::Protocol, "https"),
];

fn context<'a>(values: &[(ConditionKey, &'a str)]) -> Context<'a> {
    values.iter().fold(Context::default(), |context, (key, value)| context.with(*key, *value))
}

fn holds_in(version: &str, condition: &str, context: Context<'_>) -> bool {
    let document = statement(&format!("\"Condition\": {{{condition}}}"));
    let document = document.replacen('{', &format!("{{\"Version\": \"{version}\", "), 1);
    let mut request = publish(EVENTS);
    request.context = context;
    parse(&document).evaluate(&request).is_allowed()
}

fn holds(condition: &str, values: &[(ConditionKey, &str)]) -> bool {
    holds_in("2012-10-17", condition, context(values))
}

fn table(cases: &[(&str, bool)]) {
    for (condition, expected) in cases {
        assert_eq!(holds(condition, ALL), *expected, "{condition}");
    }
}

#[test]
fn strings_are_compared_with_case_without_case_or_with_wildcards() {
    table(&[
        (r#""StringEquals": {"aws:PrincipalOrgID": "o-Doors"}"#, true),
        (r#""StringEquals": {"aws:PrincipalOrgID": "o-doors"}"#, false),
        (r#""StringEquals": {"aws:PrincipalOrgID": "o-*"}"#, false),
        (r#""StringEquals": {"aws:UserAgent": "a*b"}"#, true),
        (r#""StringEquals": {"AWS:PRINCIPALORGID": ["x", "o-Doors"]}"#, true),
        (r#""StringNotEquals": {"aws:PrincipalOrgID": "o-Doors"}"#, false),
        (r#""StringNotEquals": {"aws:PrincipalOrgID": ["x", "y"]}"#, true),
        (r#""StringNotEquals": {"aws:PrincipalOrgID": ["x", "o-Doors"]}"#, false),
        (r#""StringEqualsIgnoreCase": {"aws:PrincipalOrgID": "O-DOORS"}"#, true),
        (r#""StringNotEqualsIgnoreCase": {"aws:PrincipalOrgID": "O-DOORS"}"#, false),
        (r#""StringLike": {"aws:PrincipalOrgID": "o-*"}"#, true),
        (r#""StringLike": {"aws:PrincipalOrgID": "o-Door?"}"#, true),
        (r#""StringLike": {"aws:PrincipalOrgID": "O-*"}"#, false),
        (r#""StringNotLike": {"aws:PrincipalOrgID": "o-*"}"#, false),
        (r#""StringNotLike": {"aws:PrincipalOrgID": "p-*"}"#, true),
    ]);
}

#[test]
fn numbers_are_compared_as_numbers() {
    table(&[
        (r#""NumericEquals": {"aws:EpochTime": "1795514400.0"}"#, true),
        (r#""NumericEquals": {"aws:EpochTime": 1795514400}"#, true),
        (r#""NumericNotEquals": {"aws:EpochTime": "1795514400"}"#, false),
        (r#""NumericNotEquals": {"aws:EpochTime": ["1", "2"]}"#, true),
        (r#""NumericLessThan": {"aws:EpochTime": "1795514400"}"#, false),
        (r#""NumericLessThan": {"aws:EpochTime": "1795514400.1"}"#, true),
        (r#""NumericLessThanEquals": {"aws:EpochTime": "1795514400"}"#, true),
        (r#""NumericGreaterThan": {"aws:EpochTime": "9"}"#, true),
        (r#""NumericGreaterThan": {"aws:EpochTime": "1795514400"}"#, false),
        (r#""NumericGreaterThanEquals": {"aws:EpochTime": "1795514400"}"#, true),
        (r#""NumericLessThan": {"aws:PrincipalOrgID": "5"}"#, false),
        (r#""NumericNotEquals": {"aws:PrincipalOrgID": "5"}"#, true),
    ]);
}

#[test]
fn dates_are_moments_in_either_spelling() {
    table(&[
        (r#""DateEquals": {"aws:CurrentTime": "2026-11-24T10:00:00Z"}"#, true),
        (r#""DateEquals": {"aws:CurrentTime": "2026-11-24T11:00+01:00"}"#, true),
        (r#""DateEquals": {"aws:CurrentTime": "1795514400"}"#, true),
        (r#""DateEquals": {"aws:EpochTime": "2026-11-24T10:00:00.000Z"}"#, true),
        (r#""DateNotEquals": {"aws:CurrentTime": 1795514400}"#, false),
        (r#""DateLessThan": {"aws:CurrentTime": "2026-11-25"}"#, true),
        (r#""DateLessThan": {"aws:CurrentTime": "2026-11-24T10:00Z"}"#, false),
        (r#""DateLessThanEquals": {"aws:CurrentTime": "2026-11-24T10:00Z"}"#, true),
        (r#""DateGreaterThan": {"aws:CurrentTime": "2026-11-24"}"#, true),
        (r#""DateGreaterThan": {"aws:CurrentTime": "2026-11-24T10:00:00Z"}"#, false),
        (r#""DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-24T10:00:00Z"}"#, true),
    ]);
}

#[test]
fn booleans_bytes_and_addresses_are_compared_as_such() {
    table(&[
        (r#""Bool": {"aws:SecureTransport": "true"}"#, true),
        (r#""Bool": {"aws:SecureTransport": true}"#, true),
        (r#""Bool": {"aws:SecureTransport": "false"}"#, false),
        (r#""Bool": {"aws:PrincipalOrgID": "false"}"#, false),
        (r#""BinaryEquals": {"sns:Protocol": "aHR0cHM="}"#, true),
        (r#""BinaryEquals": {"sns:Protocol": "aHR0cA=="}"#, false),
        (r#""IpAddress": {"aws:SourceIp": "10.1.0.0/16"}"#, true),
        (r#""IpAddress": {"aws:SourceIp": "10.1.2.3"}"#, true),
        (r#""IpAddress": {"aws:SourceIp": "10.1.2.4"}"#, false),
        (r#""IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "10.1.2.99/24"]}"#, true),
        (r#""IpAddress": {"aws:SourceIp": "2001:db8::/32"}"#, false),
        (r#""NotIpAddress": {"aws:SourceIp": "10.1.0.0/16"}"#, false),
        (r#""NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}"#, true),
        (r#""NotIpAddress": {"aws:UserAgent": "10.1.0.0/16"}"#, true),
    ]);
    let mapped = [(ConditionKey::SourceIp, "::ffff:10.1.2.3")];
    assert!(holds(r#""IpAddress": {"aws:SourceIp": "10.1.0.0/16"}"#, &mapped));
}

#[test]
fn arns_are_compared_part_by_part_and_equals_is_like() {
    for (pattern, expected) in [
        ("arn:aws:ec2:us-east-1:111122223333:vpc-endpoint-service/vpce-svc-1", true),
        ("arn:aws:ec2:*:111122223333:vpc-endpoint-service/*", true),
        ("arn:*:ec2:us-east-?:*:vpc-*/vpce-svc-1", true),
        ("arn:aws:*:*:*:*", true),
        ("arn:aws:ec2:*:444455556666:*", false),
        ("arn:aws:*:111122223333:vpc-endpoint-service/vpce-svc-1:*", false),
        ("ARN:aws:ec2:*:111122223333:*", false),
    ] {
        for (operator, negated) in
            [("ArnEquals", false), ("ArnLike", false), ("ArnNotEquals", true), ("ArnNotLike", true)]
        {
            let condition = format!(r#""{operator}": {{"aws:SourceArn": "{pattern}"}}"#);
            assert_eq!(holds(&condition, ALL), expected != negated, "{condition}");
        }
    }
    let no_arn = [(ConditionKey::SourceArn, "door")];
    assert!(!holds(r#""ArnLike": {"aws:SourceArn": "*:*:*:*:*:*"}"#, &no_arn));
    assert!(holds(r#""ArnNotLike": {"aws:SourceArn": "*:*:*:*:*:*"}"#, &no_arn));
}

#[test]
fn a_missing_key_lets_negated_operators_hold_and_no_others() {
    const VALUE: &[(&str, &str)] = &[
        ("String", "x"),
        ("Numeric", "1"),
        ("Date", "1"),
        ("Bool", "true"),
        ("Binary", "YQ=="),
        ("Ip", "10.0.0.1"),
        ("NotIp", "10.0.0.1"),
        ("Arn", "a:b:c:d:e:f"),
    ];
    for comparison in Comparison::ALL.iter().filter(|one| **one != Comparison::Null) {
        let name = comparison.as_str();
        let value = VALUE.iter().find(|(prefix, _)| name.starts_with(prefix)).unwrap().1;
        let is_held = |operator: &str| {
            holds(&format!(r#""{operator}": {{"aws:SourceVpce": "{value}"}}"#), ALL)
        };
        assert_eq!(is_held(name), comparison.is_negated(), "{name}");
        assert!(is_held(&format!("{name}IfExists")), "{name}");
        assert!(!is_held(&format!("ForAnyValue:{name}")), "{name}");
        assert!(is_held(&format!("ForAllValues:{name}")), "{name}");
        assert!(is_held(&format!("ForAnyValue:{name}IfExists")), "{name}");
        assert!(is_held(&format!("ForAllValues:{name}IfExists")), "{name}");
    }
    table(&[
        (r#""StringEqualsIfExists": {"aws:PrincipalOrgID": "x"}"#, false),
        (r#""StringEqualsIfExists": {"aws:PrincipalOrgID": "o-Doors"}"#, true),
        (r#""StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-Doors"}"#, false),
    ]);
}

#[test]
fn null_asks_whether_the_key_is_missing() {
    table(&[
        (r#""Null": {"aws:SourceVpce": "true"}"#, true),
        (r#""Null": {"aws:SourceVpce": false}"#, false),
        (r#""Null": {"aws:SourceIp": "true"}"#, false),
        (r#""Null": {"aws:SourceIp": "false"}"#, true),
        (r#""Null": {"aws:SourceIp": ["true", "false"]}"#, true),
    ]);
}

#[test]
fn several_values_of_the_request_count_as_the_quantifier_says() {
    let several = [
        (ConditionKey::SourceVpc, "vpc-1"),
        (ConditionKey::SourceVpc, "vpc-2"),
        (ConditionKey::SourceIp, "10.0.0.1"),
    ];
    for (operator, values, expected) in [
        ("ForAnyValue:StringEquals", r#""vpc-1""#, true),
        ("ForAnyValue:StringEquals", r#""vpc-3""#, false),
        ("ForAnyValue:StringNotEquals", r#""vpc-1""#, true),
        ("ForAnyValue:StringNotEquals", r#"["vpc-1", "vpc-2"]"#, false),
        ("ForAllValues:StringEquals", r#""vpc-1""#, false),
        ("ForAllValues:StringEquals", r#"["vpc-1", "vpc-2", "vpc-3"]"#, true),
        ("ForAllValues:StringLike", r#""vpc-?""#, true),
        ("ForAllValues:StringNotEquals", r#""vpc-3""#, true),
        ("ForAllValues:StringNotEquals", r#""vpc-2""#, false),
        ("StringEquals", r#""vpc-2""#, true),
        ("StringNotEquals", r#""vpc-2""#, false),
        ("StringNotEquals", r#""vpc-3""#, true),
    ] {
        let condition = format!(r#""{operator}": {{"aws:SourceVpc": {values}}}"#);
        assert_eq!(holds(&condition, &several), expected, "{condition}");
    }
}

#[test]
fn variables_are_of_2012_and_one_without_a_value_equals_nothing() {
    let here = context(&[
        (ConditionKey::SourceAccount, "111122223333"),
        (ConditionKey::PrincipalAccount, "111122223333"),
        (ConditionKey::UserAgent, "a*b"),
    ]);
    for (condition, expected) in [
        (r#""StringEquals": {"aws:SourceAccount": "${aws:PrincipalAccount}"}"#, true),
        (r#""StringEquals": {"aws:SourceAccount": "${aws:SourceVpc}"}"#, false),
        (r#""StringNotEquals": {"aws:SourceAccount": "${aws:SourceVpc}"}"#, true),
        (r#""StringEquals": {"aws:SourceAccount": "${aws:SourceVpc, '111122223333'}"}"#, true),
        (r#""StringLike": {"aws:UserAgent": "a${*}b"}"#, true),
        (r#""StringLike": {"aws:SourceAccount": "1${*}3"}"#, false),
        (r#""StringLike": {"aws:SourceAccount": "1${?}3"}"#, false),
        (r#""StringEquals": {"aws:UserAgent": "a${*}b"}"#, true),
    ] {
        assert_eq!(holds_in("2012-10-17", condition, here.clone()), expected, "{condition}");
        // In the old edition these are ordinary texts.
        let old = condition.contains("Not");
        assert_eq!(holds_in("2008-10-17", condition, here.clone()), old, "{condition}");
    }
    let arn = r#""ArnLike": {"aws:SourceArn": "arn:aws:ec2:*:${aws:PrincipalAccount}:vpc-*"}"#;
    let source = here.with(ConditionKey::SourceArn, SOURCE);
    assert!(holds_in("2012-10-17", arn, source));
}

#[test]
fn blocks_and_keys_must_all_hold() {
    table(&[
        (
            r#""StringEquals": {"aws:SourceAccount": "111122223333"},
               "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}"#,
            true,
        ),
        (
            r#""StringEquals": {"aws:SourceAccount": "111122223333"},
               "IpAddress": {"aws:SourceIp": "11.0.0.0/8"}"#,
            false,
        ),
        (r#""StringLike": {"aws:SourceAccount": "*", "sns:Protocol": "http*"}"#, true),
        (r#""StringLike": {"aws:SourceAccount": "*", "sns:Protocol": "email*"}"#, false),
    ]);
}

#[test]
fn a_request_says_who_asks_and_when() {
    let asks = |principal: &'static str| {
        let requester = Requester::Account { account: account("111122223333"), principal };
        Context::of(requester, now())
    };
    let first = |context: &Context<'_>, key| context.values(key).next().map(str::to_owned);
    for (principal, kind) in [
        ("arn:aws:iam::111122223333:root", "Account"),
        ("arn:aws:iam::111122223333:user/bob", "User"),
        ("arn:aws:iam::111122223333:role/ci", "AssumedRole"),
    ] {
        let context = asks(principal);
        assert_eq!(first(&context, ConditionKey::PrincipalArn).as_deref(), Some(principal));
        assert_eq!(first(&context, ConditionKey::PrincipalType).as_deref(), Some(kind));
        let account = first(&context, ConditionKey::PrincipalAccount);
        assert_eq!(account.as_deref(), Some("111122223333"));
        assert_eq!(first(&context, ConditionKey::EpochTime).as_deref(), Some("1795514400"));
        let time = first(&context, ConditionKey::CurrentTime);
        assert_eq!(time.as_deref(), Some("2026-11-24T10:00:00Z"));
    }
    let service = Context::of(EVENTS, now());
    assert_eq!(first(&service, ConditionKey::PrincipalArn), None);
}
