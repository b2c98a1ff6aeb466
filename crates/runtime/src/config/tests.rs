use std::io::Write;
use std::net::SocketAddr;

use super::*;

fn faults(read: impl FnOnce(&mut Faults)) -> Vec<String> {
    let mut faults = Faults::new();
    read(&mut faults);
    faults.iter().map(|fault| format!("{} {}", fault.name, fault.reason)).collect()
}

fn file(content: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(content.as_bytes()).expect("written");
    let path = file.path().to_str().expect("a Unicode path").to_owned();
    (file, path)
}

#[test]
fn every_mistake_is_reported_at_once_with_its_name_and_value() {
    let vars = Vars::from_pairs([
        ("POSTERN_LISTEN", "nowhere"),
        ("POSTERN_DRAIN_SECONDS", "-3"),
        ("POSTERN_TLS", "perhaps"),
        ("POSTERN_NAMES", "127.0.0.1:1, nobody"),
    ]);
    let mut faults = Faults::new();
    let listen = required::<SocketAddr>(&vars, "POSTERN_LISTEN", &mut faults);
    let drain = optional(&vars, "POSTERN_DRAIN_SECONDS", Seconds(20), &mut faults);
    let tls = flag(&vars, "POSTERN_TLS", true, &mut faults);
    let names = list::<SocketAddr>(&vars, "POSTERN_NAMES", &mut faults);
    let key = required_secret(&vars, "POSTERN_KEY", &mut faults);
    assert_eq!((listen, drain, tls, names.len(), key), (None, Seconds(20), true, 1, None));
    let told = faults.check().expect_err("five mistakes").to_string();
    for part in [
        "POSTERN_LISTEN is `nowhere`",
        "POSTERN_DRAIN_SECONDS is `-3`, which is not valid: not a whole number of seconds",
        "POSTERN_TLS is `perhaps`",
        "POSTERN_NAMES is `nobody`",
        "POSTERN_KEY is not given",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn values_are_trimmed_and_an_empty_one_counts_as_not_given() {
    let vars = Vars::from_pairs([("A", " 7 "), ("B", ""), ("C", "  "), ("L", "a,, b ,")]);
    let mut faults = Faults::new();
    assert_eq!(required::<u16>(&vars, "A", &mut faults), Some(7));
    assert_eq!(maybe::<u16>(&vars, "B", &mut faults), None);
    assert_eq!(optional(&vars, "C", 9u16, &mut faults), 9);
    assert_eq!(list::<String>(&vars, "L", &mut faults), ["a", "b"]);
    assert!(list::<String>(&vars, "M", &mut faults).is_empty());
    assert!(faults.check().is_ok());
}

#[test]
fn switches_take_the_usual_words() {
    for (text, expected) in
        [("true", true), ("YES", true), ("on", true), ("1", true), ("False", false), ("0", false)]
    {
        let vars = Vars::from_pairs([("SWITCH", text)]);
        let mut faults = Faults::new();
        assert_eq!(flag(&vars, "SWITCH", !expected, &mut faults), expected, "{text}");
        assert!(faults.is_empty());
    }
}

#[test]
fn a_setting_may_come_from_a_file() {
    let (_file, path) = file("hunter2\n");
    let vars = Vars::from_pairs([("PASSWORD_FILE", path)]);
    let mut faults = Faults::new();
    let secret = required_secret(&vars, "PASSWORD", &mut faults).expect("a secret");
    assert_eq!(secret.expose(), "hunter2");
    assert!(faults.check().is_ok());
}

#[test]
fn a_setting_given_directly_and_by_a_file_is_a_mistake() {
    let (_file, path) = file("a");
    let vars = Vars::from_pairs([("NAME", "b".to_owned()), ("NAME_FILE", path)]);
    let told = faults(|faults| assert_eq!(maybe::<String>(&vars, "NAME", faults), None));
    assert_eq!(told, ["NAME is given twice, also as NAME_FILE: give one of them"]);
}

#[test]
fn a_file_that_is_missing_empty_or_huge_is_a_mistake_of_its_variable() {
    let (_empty, empty) = file("  \n");
    let (_huge, huge) = file(&"x".repeat(70_000));
    for (path, part) in [
        ("/nonexistent/secret", "`/nonexistent/secret` cannot be read"),
        (&empty, "is empty"),
        (&huge, "is longer than 65536 bytes"),
    ] {
        let vars = Vars::from_pairs([("NAME_FILE", path)]);
        let told = faults(|faults| assert_eq!(required::<String>(&vars, "NAME", faults), None));
        assert!(told.len() == 1 && told[0].starts_with("NAME_FILE "), "{told:?}");
        assert!(told[0].contains(part), "{told:?}");
    }
}

#[test]
fn a_secret_prints_nowhere() {
    let secret = Secret::new("hunter2");
    assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
    assert_eq!(secret, Secret::new("hunter2"));
    assert_ne!(secret, Secret::new("hunter3"));
    assert_ne!(secret, Secret::new("hunter22"));
}

#[test]
fn a_duration_has_whole_units_and_a_sane_size() {
    for (text, expected) in [("0", Ok(0)), ("90", Ok(90)), ("1.5", Err(())), ("", Err(()))] {
        assert_eq!(text.parse::<Seconds>().map(|s| s.0).map_err(drop), expected, "{text}");
        assert_eq!(text.parse::<Millis>().map(|m| m.0).map_err(drop), expected, "{text}");
    }
    assert!("18446744073709551615".parse::<Seconds>().is_err());
    assert_eq!(Duration::from(Millis(1500)), Duration::from_secs_f64(1.5));
}

#[test]
fn a_long_value_is_cut_in_messages() {
    let vars = Vars::from_pairs([("PORT", "é".repeat(5000))]);
    let told = faults(|faults| assert_eq!(maybe::<u16>(&vars, "PORT", faults), None));
    assert!(told[0].len() < 500 && told[0].contains('…'), "{told:?}");
}
