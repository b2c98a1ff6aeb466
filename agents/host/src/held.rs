//! The last state that was taken, on disk: what the agent starts from, whether or not the control
//! plane is there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use postern_model::desired::HostState;

/// Keeps one state in a directory.
#[derive(Clone, Debug)]
pub struct Held {
    dir: PathBuf,
}

const FILE: &str = "state.json";

impl Held {
    /// The state kept in `dir`, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// The directory can't be made.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Reads the state. A file that can't be read as one is put aside: the control plane sends the
    /// state anew, and starting empty is better than not starting.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn load(&self) -> io::Result<HostState> {
        let path = self.dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(HostState::default());
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(state),
            Err(error) => {
                let aside = path.with_extension("unreadable");
                tracing::warn!(%error, aside = %aside.display(), "the state on disk is unreadable");
                fs::rename(&path, aside)?;
                Ok(HostState::default())
            }
        }
    }

    /// Keeps `state` in place of the one before: after a crash either is there, whole.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn save(&self, state: &HostState) -> io::Result<()> {
        write_whole(&self.dir.join(FILE), &serde_json::to_vec(state)?)
    }
}

/// Writes a file so that after a crash either the old or the new content is there, whole.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_found_again_and_an_unreadable_one_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let held = Held::new(dir.path()).unwrap();
        assert_eq!(held.load().unwrap(), HostState::default());
        let state = HostState::new(3, []);
        held.save(&state).unwrap();
        assert_eq!(held.load().unwrap(), state);
        fs::write(dir.path().join(FILE), b"{").unwrap();
        assert_eq!(held.load().unwrap(), HostState::default());
        assert!(dir.path().join("state.unreadable").exists());
    }
}
