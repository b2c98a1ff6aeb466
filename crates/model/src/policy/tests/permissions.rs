//! AddPermission and RemovePermission.

use super::*;

const DOCUMENT: &str = r#"{"Id": "mine", "Version": "2012-10-17", "Statement":
    {"Action": ["sns:Publish"], "Sid": "kept", "Effect": "Allow", "Principal": {"AWS": "111122223333"},
     "Resource": "arn:aws:sns:us-east-1:111122223333:doors",
     "Condition": {"NumericLessThan": {"AWS:epochTIME": 5}}}}"#;
const KEPT: &str = r#"{"Action":["sns:Publish"],"Sid":"kept","Effect":"Allow","Principal":{"AWS":"111122223333"},"Resource":"arn:aws:sns:us-east-1:111122223333:doors","Condition":{"NumericLessThan":{"AWS:epochTIME":5}}}"#;

fn add(
    document: &str,
    label: &str,
    accounts: &[&str],
    actions: &[&str],
) -> Result<String, PermissionFault> {
    let accounts: Vec<AccountId> = accounts.iter().map(|text| account(text)).collect();
    add_permission(document, &TOPIC.parse().unwrap(), label, &accounts, actions)
}

#[test]
fn a_permission_is_a_statement_more_and_the_rest_stays_as_it_was() {
    let one = add(DOCUMENT, "one", &["444455556666"], &["publish"]).unwrap();
    let added = r#"{"Sid":"one","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::444455556666:root"},"Action":"SNS:Publish","Resource":"arn:aws:sns:us-east-1:111122223333:doors"}"#;
    let head = r#"{"Id":"mine","Version":"2012-10-17","Statement":"#;
    assert_eq!(one, format!("{head}[{KEPT},{added}]}}"));
    let accounts = ["444455556666", "777788889999", "444455556666"];
    let two = add(&one, "two", &accounts, &["Publish", "Subscribe", "publish"]).unwrap();
    let several = r#"{"Sid":"two","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::444455556666:root","arn:aws:iam::777788889999:root"]},"Action":["SNS:Publish","SNS:Subscribe"],"Resource":"arn:aws:sns:us-east-1:111122223333:doors"}"#;
    assert_eq!(two, format!("{head}[{KEPT},{added},{several}]}}"));
    assert_eq!(remove_permission(&two, "two").unwrap(), one);
    let none = remove_permission(&remove_permission(&one, "one").unwrap(), "kept").unwrap();
    assert_eq!(none, format!("{head}[]}}"));
    assert!(Policy::parse_for(&none, &TOPIC.parse().unwrap()).is_ok(), "it can be set again");
}

#[test]
fn an_added_permission_lets_the_account_do_it() {
    let document = add("{\"Statement\": []}", "one", &["444455556666"], &["Publish"]).unwrap();
    let bob = Requester::Account {
        account: account("444455556666"),
        principal: "arn:aws:iam::444455556666:user/bob",
    };
    assert!(allows(&document, bob));
}

#[test]
fn bad_permissions_are_refused() {
    let one: &[&str] = &["444455556666"];
    for (label, accounts, actions, expected) in [
        ("", one, ["Publish"].as_slice(), PermissionFault::Label),
        ("a b", one, &["Publish"], PermissionFault::Label),
        ("one", &[], &["Publish"], PermissionFault::NoAccount),
        ("one", one, &[], PermissionFault::NoAction),
        ("one", one, &["Nope"], PermissionFault::UnknownAction("Nope".to_owned())),
        ("one", one, &["SNS:Publish"], PermissionFault::UnknownAction("SNS:Publish".to_owned())),
        ("one", one, &["*"], PermissionFault::UnknownAction("*".to_owned())),
        ("kept", one, &["Publish"], PermissionFault::Exists("kept".to_owned())),
    ] {
        assert_eq!(add(DOCUMENT, label, accounts, actions).unwrap_err(), expected, "{label}");
    }
    let absent = remove_permission(DOCUMENT, "one").unwrap_err();
    assert_eq!(absent, PermissionFault::NoSuchLabel("one".to_owned()));
    assert!(matches!(add("{", "one", one, &["Publish"]), Err(PermissionFault::Policy(_))));
    let mut full = DOCUMENT.to_owned();
    for number in 1..MAX_STATEMENTS {
        full = add(&full, &format!("s{number}"), one, &["Publish"]).unwrap();
    }
    let fault = add(&full, "over", one, &["Publish"]).unwrap_err().to_string();
    assert!(fault.contains("at most 100 statements"), "{fault}");
}
