//! What a Rust file may hold, and where.

use postern_tidy::source::Source;
use postern_tidy::{files, is_within, none, text};
use std::path::Path;

/// A file that is longer holds two things.
const LONGEST: usize = 700;

fn sources() -> impl Iterator<Item = (String, Source)> {
    files(".rs").into_iter().map(|path| (path.display().to_string(), Source::of(&text(&path))))
}

#[test]
fn unsafe_code_is_in_the_datapath_alone() {
    let mut wrong = Vec::new();
    for (path, source) in sources().filter(|(path, _)| !path.starts_with("agents/datapath/")) {
        wrong.extend(source.lines_with_word("unsafe").iter().map(|line| format!("{path}:{line}")));
    }
    none("unsafe outside agents/datapath", &wrong);
}

#[test]
fn generated_types_stop_at_the_api_of_a_service() {
    let mut wrong = Vec::new();
    for (path, source) in sources().filter(|(path, _)| path.starts_with("services/")) {
        let is_edge = is_within(Path::new(&path), "api") || path.contains("/tests/");
        // Whoever puts the process together mounts the generated servers; messages he never sees.
        let is_message =
            |line: &str| line.contains("postern_proto::v1") && !line.contains("_server::");
        if !is_edge {
            let lines = source.lines_where(is_message);
            wrong.extend(lines.iter().map(|line| format!("{path}:{line}")));
        }
    }
    none("the public API's generated types outside an api module", &wrong);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    // A module's own tests are about the module, which says what it is.
    let wrong: Vec<_> = files(".rs")
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| !text(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    none("files without //! at their top", &wrong);
}

#[test]
fn no_file_is_too_long_to_be_about_one_thing() {
    let wrong: Vec<_> = files(".rs")
        .into_iter()
        .map(|path| (text(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{} ({lines})", path.display()))
        .collect();
    none(&format!("files of more than {LONGEST} lines"), &wrong);
}
