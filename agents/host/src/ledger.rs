//! Something that is kept on disk as a *snapshot* and a *journal* of what changed since, so that a
//! change costs what it is large, and not what the whole is.
//!
//! The snapshot is replaced whole, by a rename. The journal is only appended to, and each of its
//! records carries a checksum over itself, all records before it, and the snapshot that it continues.
//! So whatever a crash leaves behind, what is read is the snapshot and the first so many records after
//! it: a torn record and what comes after it are left out, and so is a journal that continues another
//! snapshot, whose changes the present one has already.
//!
//! Not promised: that two processes may have one ledger open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A journal that is larger than its snapshot is due to become one, but not before it has this many
/// bytes: a small snapshot would be written again with every change.
const JOURNAL_MIN: u64 = 64 * 1024;
/// No record is larger, so that a torn length can't ask for all memory. A snapshot on the wire has 64
/// MiB at most.
const RECORD_MAX: usize = 256 * 1024 * 1024;
const SUM: usize = 32;
const LENGTH: usize = 4;

type Sum = [u8; SUM];

/// A snapshot and its journal.
#[derive(Debug)]
pub struct Ledger {
    snapshot: PathBuf,
    journal: PathBuf,
    file: File,
    /// The checksum of the last record, or of the snapshot when there is none.
    last: Sum,
    /// Bytes of the journal that are good. More may be there after a write that failed.
    length: u64,
    /// Bytes of the snapshot.
    whole: u64,
    /// Bytes written since it was opened.
    written: u64,
    /// Whether the end of the journal is not what it should be.
    torn: bool,
}

/// What was found on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The snapshot; none when there is none, or none that is whole.
    pub snapshot: Option<Vec<u8>>,
    /// What was appended since, in order.
    pub records: Vec<Vec<u8>>,
}

impl Ledger {
    /// Opens the ledger `name` in `dir`, which is there: `NAME.json` and `NAME.journal`. A snapshot
    /// that is not whole is put aside, as `NAME.unreadable`.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn open(dir: &Path, name: &str) -> io::Result<(Self, Found)> {
        let snapshot = dir.join(format!("{name}.json"));
        let journal = dir.join(format!("{name}.journal"));
        let content = match fs::read(&snapshot) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let whole = content.as_deref().and_then(check);
        if content.is_some() && whole.is_none() {
            put_aside(&snapshot)?;
        }
        let first = sum_of(whole.unwrap_or_default());
        let text = match fs::read(&journal) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let (records, last, length) = records(&text, first);
        if length < text.len() {
            let lost = text.len() - length;
            tracing::info!(journal = %journal.display(), bytes = lost, "the journal's end is left out");
        }
        let file = OpenOptions::new().create(true).append(true).open(&journal)?;
        let this = Self {
            torn: length < text.len(),
            length: length as u64,
            whole: whole.map_or(0, |whole| whole.len() as u64),
            written: 0,
            snapshot,
            journal,
            file,
            last,
        };
        Ok((this, Found { snapshot: whole.map(<[u8]>::to_vec), records }))
    }

    /// Puts everything aside, because what was found means nothing to the caller: the ledger is empty
    /// then.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn put_aside(&mut self) -> io::Result<()> {
        match put_aside(&self.snapshot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        (self.last, self.whole, self.length, self.torn) = (sum_of(&[]), 0, 0, true);
        self.mend()
    }

    /// Adds a record: when this returns, it survives a crash.
    ///
    /// # Errors
    ///
    /// The disk fails; the record is then not there.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if record.len() > RECORD_MAX {
            return Err(io::Error::other("a record is too large for the journal"));
        }
        self.mend()?;
        let sum = sum_after(self.last, record);
        let mut bytes = Vec::with_capacity(LENGTH + SUM + record.len());
        bytes.extend((record.len() as u32).to_be_bytes());
        bytes.extend(sum);
        bytes.extend(record);
        self.torn = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.torn = false;
        self.last = sum;
        self.length += bytes.len() as u64;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Whether the journal has outgrown the snapshot: writing a new one then costs, for each byte that
    /// was appended, at most a byte or two.
    pub fn is_due(&self) -> bool {
        self.length > self.whole.max(JOURNAL_MIN)
    }

    /// Begins anew with a snapshot that has everything.
    ///
    /// # Errors
    ///
    /// The disk fails; either the old content or the new one is there then.
    pub fn replace(&mut self, content: &[u8]) -> io::Result<()> {
        let sum = sum_of(content);
        let mut bytes = Vec::with_capacity(content.len() + 2 + 2 * SUM);
        bytes.extend(content);
        bytes.push(b'\n');
        bytes.extend(hex(&sum).as_bytes());
        bytes.push(b'\n');
        write_whole(&self.snapshot, &bytes)?;
        self.written += bytes.len() as u64;
        // From here on no old record counts, whether or not it is still there.
        (self.last, self.whole, self.length, self.torn) = (sum, content.len() as u64, 0, true);
        self.mend()
    }

    /// Bytes written since it was opened.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Cuts the journal to what of it is good, so that what is appended follows on that.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.file.sync_data()?;
            if let Some(dir) = self.journal.parent() {
                File::open(dir)?.sync_all()?;
            }
            self.torn = false;
        }
        Ok(())
    }
}

/// The content of a snapshot file; none when its checksum is another. What was written by a version
/// that knew no checksum is one line.
fn check(file: &[u8]) -> Option<&[u8]> {
    let end = file.iter().rposition(|byte| *byte != b'\n').map(|last| last + 1)?;
    let Some(line) = file[..end].iter().rposition(|byte| *byte == b'\n') else {
        return Some(&file[..end]);
    };
    let content = &file[..line];
    (file[line + 1..end] == *hex(&sum_of(content)).as_bytes()).then_some(content)
}

/// The records at the start of a journal that follow on one another, the last one's checksum, and
/// their length with all.
fn records(text: &[u8], first: Sum) -> (Vec<Vec<u8>>, Sum, usize) {
    let (mut records, mut last, mut at) = (Vec::new(), first, 0);
    while let Some((length, rest)) = text[at..].split_first_chunk::<LENGTH>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((sum, rest)) = rest.split_first_chunk::<SUM>() else { break };
        let Some(record) = rest.get(..length) else { break };
        if length > RECORD_MAX || *sum != sum_after(last, record) {
            break;
        }
        records.push(record.to_vec());
        last = *sum;
        at += LENGTH + SUM + length;
    }
    (records, last, at)
}

fn sum_of(content: &[u8]) -> Sum {
    Sha256::digest(content).into()
}

fn sum_after(before: Sum, record: &[u8]) -> Sum {
    Sha256::new().chain_update(before).chain_update(record).finalize().into()
}

fn hex(sum: &Sum) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put_aside(path: &Path) -> io::Result<()> {
    let aside = path.with_extension("unreadable");
    fs::rename(path, &aside)?;
    tracing::warn!(aside = %aside.display(), "what was kept on disk is unreadable and was put aside");
    Ok(())
}

/// Writes a file so that after a crash either the old or the new content is there, whole.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
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

    fn found(snapshot: Option<&str>, records: &[&str]) -> Found {
        Found {
            snapshot: snapshot.map(|text| text.as_bytes().to_vec()),
            records: records.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn what_was_appended_is_found_after_the_snapshot_that_it_follows_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, before) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(before, Found::default());
        ledger.append(b"a").unwrap();
        ledger.replace(b"whole").unwrap();
        ledger.append(b"b").unwrap();
        ledger.append(b"c").unwrap();
        let (_, after) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(after, found(Some("whole"), &["b", "c"]));
    }

    #[test]
    fn a_crash_between_the_snapshot_and_the_end_of_the_old_journal_repeats_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), "x").unwrap();
        ledger.append(b"a").unwrap();
        let old = fs::read(dir.path().join("x.journal")).unwrap();
        ledger.replace(b"whole with a").unwrap();
        fs::write(dir.path().join("x.journal"), old).unwrap();
        let (mut ledger, after) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(after, found(Some("whole with a"), &[]));
        ledger.append(b"b").unwrap();
        let (_, after) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(after, found(Some("whole with a"), &["b"]));
    }

    #[test]
    fn a_snapshot_of_a_version_without_checksums_is_taken_and_a_changed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.json"), "{}").unwrap();
        let (mut ledger, before) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(before, found(Some("{}"), &[]));
        ledger.replace(b"whole").unwrap();
        let text = fs::read_to_string(dir.path().join("x.json")).unwrap();
        fs::write(dir.path().join("x.json"), text.replace("whole", "whale")).unwrap();
        let (_, after) = Ledger::open(dir.path(), "x").unwrap();
        assert_eq!(after, Found::default());
        assert!(dir.path().join("x.unreadable").exists());
    }
}
