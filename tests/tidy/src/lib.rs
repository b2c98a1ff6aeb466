//! House rules held by tests.
//!
//! What ARCHITECTURE.md says about the rooms is true because the tests of this crate read the tree and fail
//! where it is not. This file is what they share: the files of the repository, and Rust sources taken
//! apart into code, comments and literals. The rules are in `tests/`, a file for each subject.

pub mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that are not the repository's text.
const NOT_OURS: [&str; 5] = [".git", "target", "node_modules", ".postern", ".build"];

/// The repository's top directory.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// All files whose name ends with `ending`, as paths from the top, sorted.
pub fn files(ending: &str) -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            if path.is_symlink() || NOT_OURS.iter().any(|not| name == *not) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if name.to_string_lossy().ends_with(ending) {
                found.extend(path.strip_prefix(&root).map(Path::to_owned));
            }
        }
    }
    found.sort();
    found
}

/// The text of a file, by its path from the top. A file that is not text is empty.
pub fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Whether a directory or a file (without its extension) on the way of `path` is called `name`.
pub fn is_within(path: &Path, name: &str) -> bool {
    path.with_extension("").components().any(|part| part.as_os_str() == name)
}

/// Fails a test with all that is wrong, so that one run shows every place.
///
/// # Panics
/// When `wrong` is not empty: that is the test's failure.
#[allow(clippy::panic)] // It is the assertion of this crate's tests.
pub fn none(rule: &str, wrong: &[String]) {
    if !wrong.is_empty() {
        panic!("{rule}:\n  {}", wrong.join("\n  "));
    }
}
