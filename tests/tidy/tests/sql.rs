//! Where SQL is, and that none of it is forgotten.

use postern_tidy::source::Source;
use postern_tidy::{files, is_within, none, text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The crates that run, as against those that test.
const RUNNING: [&str; 5] = ["services", "agents", "crates", "cli", "proto"];

fn is_statement(literal: &str) -> bool {
    let start = literal.trim_start();
    ["SELECT ", "SELECT\n", "INSERT INTO ", "DELETE FROM "]
        .iter()
        .any(|word| start.starts_with(word))
        || (start.starts_with("UPDATE ") && start.contains("SET "))
        || (start.starts_with("WITH ") && start.contains(" AS ("))
}

#[test]
fn statements_are_in_a_store_alone() {
    let mut wrong = Vec::new();
    for path in files(".rs") {
        let runs = RUNNING.iter().any(|room| path.starts_with(room)) && !is_within(&path, "tests");
        if !runs || is_within(&path, "store") {
            continue;
        }
        let source = Source::of(&text(&path));
        let calls = ["sqlx::query", "sqlx::raw_sql", "query_file"];
        let calls = calls.iter().flat_map(|call| source.lines_with(call));
        let statements = source.literals.iter().filter(|(_, literal)| is_statement(literal));
        for line in calls.chain(statements.map(|(line, _)| *line)) {
            wrong.push(format!("{}:{line}", path.display()));
        }
    }
    none("SQL outside a store", &wrong);
}

#[test]
fn sql_files_are_in_a_store_or_are_migrations() {
    let wrong: Vec<_> = files(".sql")
        .into_iter()
        .filter(|path| {
            !path.starts_with("migrations") && !path.to_string_lossy().contains("/store/sql/")
        })
        .map(|path| path.display().to_string())
        .collect();
    none(".sql files out of place", &wrong);
}

#[test]
fn every_statement_in_a_file_is_used() {
    let mut wrong = Vec::new();
    let stores: Vec<_> = files(".rs").into_iter().filter(|path| is_within(path, "store")).collect();
    let literals: Vec<(PathBuf, String)> = stores
        .into_iter()
        .flat_map(|path| {
            let literals = Source::of(&text(&path)).literals;
            literals.into_iter().map(move |(_, literal)| (path.clone(), literal))
        })
        .collect();
    for path in files(".sql") {
        let whole = path.to_string_lossy().into_owned();
        let Some((store, statement)) = whole.split_once("/store/sql/") else { continue };
        // As `sql/topics/find.sql` in an include, or as `topics/find` in a macro that adds the rest.
        let bare = statement.trim_end_matches(".sql");
        let is_named = literals.iter().any(|(rust, literal)| {
            rust.starts_with(store) && (literal.ends_with(statement) || literal == bare)
        });
        if !is_named {
            wrong.push(whole);
        }
    }
    none("statements that no code names", &wrong);
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let mut numbers: BTreeMap<PathBuf, Vec<u32>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for path in files(".sql").into_iter().filter(|path| path.starts_with("migrations")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.split_once('_').filter(|(digits, _)| digits.len() == 4);
        match number.and_then(|(digits, _)| digits.parse().ok()) {
            Some(number) => {
                let directory = path.parent().unwrap_or(Path::new("")).to_owned();
                numbers.entry(directory).or_default().push(number);
            }
            None => wrong.push(format!("{}: not NNNN_name.sql", path.display())),
        }
    }
    for (directory, numbers) in numbers {
        if !numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).unwrap()) {
            wrong.push(format!("{}: {numbers:?}", directory.display()));
        }
    }
    none("migrations", &wrong);
}
