//! Files of keys and certificates: written whole or not at all, keys readable by their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::TlsError;

/// Far more than a chain of certificates takes: longer is the wrong file.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) const PRIVATE: u32 = 0o600;
pub(super) const PUBLIC: u32 = 0o644;

pub(super) fn fault(
    path: &Path,
    action: &'static str,
) -> impl FnOnce(std::io::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::File { path, action, source }
}

/// Creates the directory for its owner alone, unless it is there.
pub(super) fn ensure_dir(dir: &Path) -> Result<(), TlsError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fault(dir, "created"))
}

/// Creates a directory that everybody may look into, unless it is there.
pub(super) fn ensure_open_dir(dir: &Path) -> Result<(), TlsError> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(fault(dir, "created"))
}

/// Reads a text file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, TlsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(path, "read")(error)),
    };
    let mut content = String::new();
    file.take(MAX_BYTES).read_to_string(&mut content).map_err(fault(path, "read"))?;
    Ok(Some(content))
}

/// Whether others than the owner may read the file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Replaces the file in one step: a reader, or a machine that lost power, sees the old or the new.
pub(super) fn write(path: &Path, content: &str, mode: u32) -> Result<(), TlsError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch(dir.join(format!(".{name}.{}", Uuid::new_v4())));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&scratch.0)
        .map_err(fault(path, "written"))?;
    file.write_all(content.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&scratch.0, path))
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(fault(path, "written"))
}

/// A half-written file that goes away unless it was renamed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // Normally gone already, under its new name.
    }
}
