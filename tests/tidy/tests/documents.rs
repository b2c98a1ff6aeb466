//! What the documents point at exists.

use postern_tidy::{files, none, root, text};
use std::path::Path;

/// A word in backticks that begins with one of these is a path from the repository's top.
const TOPS: [&str; 14] = [
    "agents/",
    "cli/",
    "crates/",
    "migrations/",
    "proto/",
    "services/",
    "tests/",
    "docs/",
    "deploy/",
    ".ci/",
    ".config/",
    "./tests/",
    "./agents/",
    "./deploy/",
];

/// The targets of `[text](target)` in a line of prose.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The words in backticks in a line of prose.
fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The first word of a piece of code as a path, unless it stands for many or for something to fill in.
fn path_of(code: &str) -> Option<&str> {
    let word = code.split_whitespace().next()?;
    let word = word.split("::").next()?.trim_end_matches([',', '.', ';', ':']);
    let is_pattern = word.contains(['*', '<', '{', '$', '…']);
    (TOPS.iter().any(|top| word.starts_with(top)) && !is_pattern).then_some(word)
}

#[test]
fn paths_and_links_in_documents_exist() {
    let mut wrong = Vec::new();
    for document in files(".md") {
        let directory = root().join(document.parent().unwrap_or(Path::new("")));
        let whole = text(&document);
        let mut is_block = false;
        for (number, line) in whole.lines().enumerate() {
            let place = format!("{}:{}", document.display(), number + 1);
            if line.trim_start().starts_with("```") {
                is_block = !is_block;
                continue;
            }
            // In a block of commands only the first word is known to be a path.
            let block = is_block.then(|| path_of(line.trim_start_matches("$ ").trim())).flatten();
            let prose = (!is_block).then(|| codes(line).filter_map(path_of)).into_iter().flatten();
            for path in prose.chain(block) {
                if !root().join(path).exists() {
                    wrong.push(format!("{place}: {path}"));
                }
            }
            for link in links(line).filter(|_| !is_block) {
                let file = link.split('#').next().unwrap_or_default();
                let is_here = !link.contains("://") && !link.starts_with("mailto:");
                if is_here && !file.is_empty() && !directory.join(file).exists() {
                    wrong.push(format!("{place}: {link}"));
                }
            }
        }
    }
    none("documents point at what is not there", &wrong);
}

#[test]
fn a_path_in_prose_is_told_from_other_code() {
    assert_eq!(path_of("tests/run --fast"), Some("tests/run"));
    assert_eq!(path_of("crates/model/src/id.rs,"), Some("crates/model/src/id.rs"));
    assert_eq!(path_of("tests/load/*.json"), None);
    assert_eq!(path_of("cargo test"), None);
    assert_eq!(path_of("postern_model::id"), None);
}
