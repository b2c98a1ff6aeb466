//! Under whose name the server runs.
//!
//! PostgreSQL refuses to run as root, so root hands the directory to `postgres`, else to `nobody`.
//! Anybody else runs it as themselves.

use crate::Error;
use nix::unistd::{Gid, Uid, User};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The account that owns the server's files and process.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    name: String,
    uid: Uid,
    gid: Gid,
    /// Whether this process must change to it: only root can, and only root must.
    switch: bool,
}

impl Account {
    /// The account for this process.
    pub(crate) fn choose() -> Result<Self, Error> {
        let euid = Uid::effective();
        if !euid.is_root() {
            let name = User::from_uid(euid).ok().flatten().map(|user| user.name);
            return Ok(Self {
                name: name.unwrap_or_else(|| euid.to_string()),
                uid: euid,
                gid: Gid::effective(),
                switch: false,
            });
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { name: user.name, uid: user.uid, gid: user.gid, switch: true })
            .ok_or(Error::NoAccount)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether commands run under another account than this process does.
    pub(crate) fn is_other(&self) -> bool {
        self.switch
    }

    /// A command that runs under this account, without this process's other groups (std drops them
    /// when root sets a uid).
    pub(crate) fn command(&self, program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        if self.switch {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        // The server looks at these, and the caller's are about some other database.
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGOPTIONS", "PGDATABASE"] {
            command.env_remove(name);
        }
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        command
    }

    /// Makes this account the owner of `path` alone, not of what is below.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        if !self.switch {
            return Ok(());
        }
        std::os::unix::fs::chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .map_err(Error::io("changing the owner of", path))
    }

    /// The first directory on the way to `path` that this account may not enter, if any. `path` itself
    /// is looked at too when it exists. Only mode bits count: an ACL that gives more is not seen.
    pub(crate) fn stopped_at(&self, path: &Path) -> Option<PathBuf> {
        let mut ways: Vec<&Path> = path.ancestors().collect();
        ways.reverse();
        ways.into_iter()
            .find(|directory| {
                std::fs::metadata(directory).is_ok_and(|metadata| !self.may_enter(&metadata))
            })
            .map(Path::to_owned)
    }

    fn may_enter(&self, metadata: &std::fs::Metadata) -> bool {
        let shift = if metadata.uid() == self.uid.as_raw() {
            6
        } else if metadata.gid() == self.gid.as_raw() {
            3
        } else {
            0
        };
        self.uid.is_root() || metadata.mode() >> shift & 0o1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_parent_is_named_as_what_stops_the_account() {
        let directory = tempfile::tempdir().unwrap();
        let private = directory.path().join("home");
        std::fs::create_dir_all(private.join("state/postgres")).unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
        // Nobody's id and no file of it: neither owner nor group of anything made here.
        let stranger = Account {
            name: "stranger".to_owned(),
            uid: Uid::from_raw(54_321),
            gid: Gid::from_raw(54_321),
            switch: true,
        };
        assert_eq!(stranger.stopped_at(&private.join("state/postgres")), Some(private.clone()));
        std::fs::set_permissions(&private, PermissionsExt::from_mode(0o711)).unwrap();
        assert_eq!(stranger.stopped_at(&private.join("state/postgres")), None);
    }
}
