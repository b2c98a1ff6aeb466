//! Where the server programs are.

use crate::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a directory must hold to be of use.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Debian keeps each major version's programs in a directory of its own, off the PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The server programs of one PostgreSQL installation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Programs {
    directory: PathBuf,
    major: String,
}

impl Programs {
    /// The programs in `directory`.
    ///
    /// # Errors
    /// [`Error::NotABinDir`] when one is missing or `postgres --version` does not run.
    pub fn at(directory: &Path) -> Result<Self, Error> {
        let missing = || Error::NotABinDir(directory.to_owned());
        if !holds_all(directory) {
            return Err(missing());
        }
        let output = Command::new(directory.join("postgres"))
            .arg("--version")
            .output()
            .map_err(Error::io("running", &directory.join("postgres")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let major = major(&text).ok_or_else(missing)?;
        Ok(Self { directory: directory.to_owned(), major })
    }

    /// All installations of this machine, the best first: the one that `pg_config` names, then
    /// Debian's, newest first, then the one on the PATH.
    pub fn installed() -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let path = std::env::var_os("PATH").unwrap_or_default();
        for directory in places(pg_config(), Path::new(DEBIAN), &path) {
            if found.iter().any(|programs| programs.directory == directory) {
                continue;
            }
            found.extend(Self::at(&directory));
        }
        found
    }

    /// The directory they are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The major version, as in a cluster's PG_VERSION: "15".
    pub fn major(&self) -> &str {
        &self.major
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}

/// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" is 15.
fn major(version: &str) -> Option<String> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

fn holds_all(directory: &Path) -> bool {
    NEEDED.iter().all(|program| directory.join(program).is_file())
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| PathBuf::from(text.trim()))
}

/// The directories that hold the programs, the best first, each perhaps more than once.
fn places(pg_config: Option<PathBuf>, debian: &Path, path: &OsStr) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    pg_config
        .into_iter()
        .chain(versions.into_iter().map(|(_, directory)| directory))
        .chain(std::env::split_paths(&OsString::from(path)).filter_map(|directory| {
            // A link in /usr/local/bin must be followed: the server finds its libraries and its
            // siblings beside where it really is.
            let real = directory.join("postgres").canonicalize().ok()?;
            real.parent().map(Path::to_owned)
        }))
        .filter(|directory| holds_all(directory))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn programs_in(directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        for program in NEEDED {
            fs::write(directory.join(program), "").unwrap();
        }
    }

    #[test]
    fn pg_config_comes_first_then_the_newest_of_debian_then_the_path_behind_its_links() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (config, debian, real) = (root.join("config"), root.join("debian"), root.join("real"));
        for directory in [&config, &debian.join("9/bin"), &debian.join("15/bin"), &real] {
            programs_in(directory);
        }
        fs::create_dir_all(debian.join("17/bin")).unwrap(); // Client programs only.
        let links = root.join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(real.join("postgres"), links.join("postgres")).unwrap();

        let found = places(Some(config.clone()), &debian, links.as_os_str());

        assert_eq!(found, [config, debian.join("15/bin"), debian.join("9/bin"), real]);
    }

    #[test]
    fn a_directory_without_the_server_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let refused = Programs::at(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&*directory.path().to_string_lossy()), "{refused}");
    }

    #[test]
    fn the_major_version_is_read_from_what_the_server_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0)").as_deref(), Some("15"));
        assert_eq!(major("postgres (PostgreSQL) 18beta1").as_deref(), Some("18"));
        assert_eq!(major("something else"), None);
    }
}
