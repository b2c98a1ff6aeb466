//! What may go wrong between "start a database" and its address.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private server could not be had. Each text is one line and says what to do where there is
/// something to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server programs on the machine, and fetching was not asked for.
    #[error(
        "no PostgreSQL server programs found: install them (Debian: apt-get install postgresql) or \
         name a database with --database-url"
    )]
    NoPrograms,
    /// No server programs on the machine, and the download could not be had.
    #[error(
        "no PostgreSQL server programs found and none could be fetched from github.com ({0}): install \
         them (Debian: apt-get install postgresql) or name a database with --database-url"
    )]
    NotFetched(String),
    /// The directory that the caller named has no server programs.
    #[error("{0} does not hold initdb, pg_ctl and postgres")]
    NotABinDir(PathBuf),
    /// The cluster's files belong to a major version that the programs at hand cannot read.
    #[error(
        "the cluster in {data_dir} was made by PostgreSQL {made_by}, and only {found} is installed: \
         install PostgreSQL {made_by} or move the directory away"
    )]
    Version {
        /// The directory.
        data_dir: PathBuf,
        /// Its PG_VERSION.
        made_by: String,
        /// The major versions found, as text.
        found: String,
    },
    /// The server may not run as root, and the account it runs under cannot reach its files.
    #[error(
        "the account {account}, under which the database runs, cannot enter {directory}: keep the \
         state in a directory that everybody may pass through"
    )]
    NotTraversable {
        /// The account's name.
        account: String,
        /// The first directory on the way that it may not enter.
        directory: PathBuf,
    },
    /// Root needs another account to run the server, and the machine has neither of the usual ones.
    #[error("PostgreSQL refuses to run as root, and there is no account postgres or nobody")]
    NoAccount,
    /// Another process owns the cluster.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A program of PostgreSQL ended with an error.
    #[error("{program} failed: {output}")]
    Program {
        /// Which one.
        program: &'static str,
        /// The last lines of what it wrote.
        output: String,
    },
    /// The server runs and does not answer as it should.
    #[error("the database answered: {0}")]
    Server(String),
    /// The server did not do as told in time.
    #[error("the database took more than {seconds} s to {what}")]
    TooSlow {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// A name that cannot be a database's.
    #[error("{0:?} is no database name: it takes 1 to 63 of a-z, 0-9, _ and -")]
    Name(String),
    /// A file or a process could not be handled.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said. It stands in the text too, because users of this error show one line.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: `what` is a verb such as "reading".
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }
}
