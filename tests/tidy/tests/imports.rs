//! Which room may know which.

use postern_tidy::{files, none, text};
use std::path::Path;
use toml::{Table, Value};

/// The rooms and what of ours each may import. A new crate is a change of architecture: give it a line.
const ROOMS: [(&str, &str, &[&str]); 10] = [
    ("crates/model", "postern-model", &[]),
    ("crates/runtime", "postern-runtime", &[]),
    ("crates/local", "postern-local", &[]),
    ("proto", "postern-proto", &["postern-model"]),
    ("services/control-plane", "postern-control-plane", SERVICE),
    ("services/dispatcher", "postern-dispatcher", SERVICE),
    ("agents/datapath", "postern-datapath", &["postern-model"]),
    ("agents/zones", "postern-zones", &["postern-model"]),
    ("agents/host", "postern-agent", AGENT),
    ("cli", "postern-cli", ANY),
];
const SERVICE: &[&str] = &["postern-model", "postern-proto", "postern-runtime"];
const AGENT: &[&str] =
    &["postern-model", "postern-proto", "postern-runtime", "postern-datapath", "postern-zones"];
const ANY: &[&str] = &["*"];

/// Tests may reach for the kit, whatever they are tests of.
const FOR_TESTS: [&str; 2] = ["postern-testkit", "postern-local"];

/// What does I/O or waits: no business of the model's. Nor of the two engines': these are told what to
/// do by a plain value and know neither gRPC nor a database.
const FAR_FROM_MODEL: [&str; 8] =
    ["tokio", "tonic", "prost", "sqlx", "lapin", "reqwest", "axum", "hyper"];
const FAR_FROM_ENGINES: [&str; 5] = ["tonic", "prost", "sqlx", "lapin", "reqwest"];

fn manifest(directory: &str) -> Table {
    let path = Path::new(directory).join("Cargo.toml");
    // One that cannot be read has no dependencies here, and cargo complains of it before this does.
    text(&path).parse().unwrap_or_default()
}

/// The names in the tables of dependencies called `kinds`, those for a target included.
fn names(manifest: &Table, kinds: &[&str]) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let mut tables = vec![manifest];
    tables.extend(targets.into_iter().flatten().filter_map(|(_, target)| target.as_table()));
    let mut found = Vec::new();
    for table in tables {
        for kind in kinds {
            let names = table.get(*kind).and_then(Value::as_table);
            found.extend(names.into_iter().flat_map(Table::keys).cloned());
        }
    }
    found
}

#[test]
fn each_room_imports_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for (directory, name, allowed) in ROOMS {
        let manifest = manifest(directory);
        let is_allowed = |other: &str| allowed.contains(&"*") || allowed.contains(&other);
        for other in names(&manifest, &["dependencies", "build-dependencies"]) {
            if other.starts_with("postern-") && !is_allowed(&other) {
                wrong.push(format!("{name} imports {other}"));
            }
        }
        for other in names(&manifest, &["dev-dependencies"]) {
            let for_tests = FOR_TESTS.contains(&other.as_str());
            if other.starts_with("postern-") && !is_allowed(&other) && !for_tests {
                wrong.push(format!("the tests of {name} import {other}"));
            }
        }
    }
    none("a room knows another that it must not", &wrong);
}

#[test]
fn every_crate_outside_tests_is_a_room_on_the_map() {
    let wrong: Vec<_> = files("Cargo.toml")
        .into_iter()
        .filter_map(|path| path.parent().and_then(Path::to_str).map(str::to_owned))
        .filter(|directory| !directory.is_empty() && !directory.starts_with("tests/"))
        .filter(|directory| ROOMS.iter().all(|(room, ..)| room != directory))
        .collect();
    none("crates that the table of this test does not name", &wrong);
}

#[test]
fn the_model_does_no_io_and_the_engines_know_neither_grpc_nor_a_database() {
    let far = [
        ("crates/model", &FAR_FROM_MODEL[..]),
        ("agents/datapath", &FAR_FROM_ENGINES[..]),
        ("agents/zones", &FAR_FROM_ENGINES[..]),
    ];
    let mut wrong = Vec::new();
    for (directory, far) in far {
        for name in names(&manifest(directory), &["dependencies"]) {
            if far.contains(&name.as_str()) {
                wrong.push(format!("{directory} depends on {name}"));
            }
        }
    }
    none("a pure crate reaches outside", &wrong);
}

#[test]
fn versions_and_features_of_dependencies_are_chosen_in_the_workspace_alone() {
    let mut wrong = Vec::new();
    for path in files("Cargo.toml").into_iter().filter(|path| path != Path::new("Cargo.toml")) {
        let manifest: Table = text(&path).parse().unwrap_or_default();
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(kind).and_then(Value::as_table);
            for (name, value) in table.into_iter().flatten() {
                let inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
                if !inherited {
                    wrong.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    none("dependencies that do not say `workspace = true`", &wrong);
}
