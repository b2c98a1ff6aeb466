//! The last state that was taken, on disk: what the agent starts from, whether or not the control
//! plane is there. A change is appended to the journal; now and then the journal becomes a snapshot.

use std::fs;
use std::io;
use std::path::Path;

use postern_model::desired::{Change, HostState};

use crate::ledger::{Found, Ledger};

/// Keeps one state in a directory.
#[derive(Debug)]
pub struct Held {
    ledger: Ledger,
}

/// What the files are called, without their endings.
const NAME: &str = "state";

impl Held {
    /// Reads the state that is kept in `dir`, which is made when it is not there. What can't be read
    /// as a state is put aside: the control plane sends the state anew, and starting empty is better
    /// than not starting.
    ///
    /// # Errors
    ///
    /// The disk fails.
    pub fn open(dir: &Path) -> io::Result<(Self, HostState)> {
        fs::create_dir_all(dir)?;
        let (mut ledger, found) = Ledger::open(dir, NAME)?;
        let state = match read(found) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(%error, "the state on disk is no state of this version");
                ledger.put_aside()?;
                HostState::default()
            }
        };
        Ok((Self { ledger }, state))
    }

    /// Keeps a state in place of the one before.
    ///
    /// # Errors
    ///
    /// The disk fails; the old or the new state is kept then.
    pub fn replace(&mut self, state: &HostState) -> io::Result<()> {
        self.ledger.replace(&serde_json::to_vec(state)?)
    }

    /// Keeps a change of the state that is kept.
    ///
    /// # Errors
    ///
    /// The disk fails; the change is not kept then.
    pub fn append(&mut self, change: &Change) -> io::Result<()> {
        self.ledger.append(&serde_json::to_vec(change)?)
    }

    /// Turns the journal into a snapshot of `state`, which is the one kept, if the journal has
    /// outgrown the last.
    ///
    /// # Errors
    ///
    /// The disk fails; what was kept is kept.
    pub fn tidy(&mut self, state: &HostState) -> io::Result<()> {
        if self.ledger.is_due() { self.replace(state) } else { Ok(()) }
    }

    /// Bytes written since it was opened.
    pub fn written(&self) -> u64 {
        self.ledger.written()
    }
}

/// The state that the files say.
fn read(found: Found) -> io::Result<HostState> {
    let mut state = match found.snapshot {
        Some(snapshot) => serde_json::from_slice(&snapshot)?,
        None => HostState::default(),
    };
    for record in found.records {
        let change: Change = serde_json::from_slice(&record)?;
        state.take(change).map_err(io::Error::other)?;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use postern_model::desired::{Attachment, AttachmentKind, Object};
    use proptest::prelude::*;

    use super::*;

    fn attachment(number: impl Into<u32>, dns_support: bool) -> Object {
        let number = number.into();
        Object::Attachment(Attachment {
            id: format!("hatt-{number:017x}").parse().unwrap(),
            vpc: format!("vpc-{number:017x}").parse().unwrap(),
            cidr: "10.0.0.0/16".parse().unwrap(),
            dns_support,
            kind: AttachmentKind::Loopback,
        })
    }

    fn upsert(state: &HostState, number: u8, on: bool) -> Change {
        let (from, to) = (state.generation, state.generation + 1);
        Change { from, to, upserts: vec![attachment(number, on)], removals: vec![] }
    }

    fn removal(state: &HostState, number: u8) -> Change {
        let (from, to) = (state.generation, state.generation + 1);
        Change { from, to, upserts: vec![], removals: vec![attachment(number, true).key()] }
    }

    #[test]
    fn a_state_is_found_again_and_an_unreadable_one_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (mut held, mut state) = Held::open(dir.path()).unwrap();
        assert_eq!(state, HostState::default());
        state = HostState::new(3, []);
        held.replace(&state).unwrap();
        let change = upsert(&state, 1, true);
        held.append(&change).unwrap();
        state.take(change).unwrap();
        assert_eq!(Held::open(dir.path()).unwrap().1, state);
        fs::write(dir.path().join("state.json"), b"{").unwrap();
        let (mut held, empty) = Held::open(dir.path()).unwrap();
        assert_eq!(empty, HostState::default());
        assert!(dir.path().join("state.unreadable").exists());
        held.replace(&state).unwrap();
        assert_eq!(Held::open(dir.path()).unwrap().1, state);
    }

    #[test]
    fn a_change_writes_as_much_whatever_the_state_holds_and_snapshots_pay_for_themselves() {
        let mut written = Vec::new();
        for size in [100_u32, 10_000] {
            let dir = tempfile::tempdir().unwrap();
            let (mut held, _) = Held::open(dir.path()).unwrap();
            let objects = (0..size).map(|number| attachment(number, true));
            let mut state = HostState::new(1, objects);
            held.replace(&state).unwrap();
            let (before, changes) = (held.written(), 50);
            for number in 0..changes {
                let change = upsert(&state, number, false);
                held.append(&change).unwrap();
                state.take(change).unwrap();
                held.tidy(&state).unwrap();
            }
            written.push((held.written() - before) / u64::from(changes));
            // However many changes: at most three times what they are large themselves.
            let (whole, start) = (serde_json::to_vec(&state).unwrap().len() as u64, held.written());
            let mut appended = 0;
            while appended < 3 * whole.max(64 * 1024) {
                let change = Change {
                    upserts: (0..200_u32).map(|number| attachment(number, true)).collect(),
                    ..upsert(&state, 0, true)
                };
                appended += serde_json::to_vec(&change).unwrap().len() as u64;
                held.append(&change).unwrap();
                state.take(change).unwrap();
                held.tidy(&state).unwrap();
            }
            let all = held.written() - start;
            assert!(all < 3 * appended, "{all} bytes for {appended}");
        }
        assert_eq!(written[0], written[1], "bytes for a change at 100 and at 10,000 objects");
        assert!(written[0] < 500, "{written:?}");
    }

    /// What is done to a state, and where it is cut afterwards.
    #[derive(Clone, Debug)]
    enum Step {
        Upsert(u8, bool),
        Remove(u8),
        Replace(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..8_u8, any::<bool>()).prop_map(|(number, on)| Step::Upsert(number, on)),
            2 => (0..8_u8).prop_map(Step::Remove),
            1 => (0..8_u8).prop_map(Step::Replace),
        ];
        prop::collection::vec(step, 1..12)
    }

    fn cut(path: &PathBuf, keep: prop::sample::Index) {
        if let Ok(text) = fs::read(path) {
            fs::write(path, &text[..keep.index(text.len() + 1)]).unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn files_cut_at_any_byte_hold_a_state_that_was_once_held_and_go_on_from_it(
            steps in steps(),
            of_snapshot in prop::option::weighted(0.3, any::<prop::sample::Index>()),
            of_journal in prop::option::weighted(0.8, any::<prop::sample::Index>()),
            old_journal in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (snapshot, journal) =
                (dir.path().join("state.json"), dir.path().join("state.journal"));
            let (mut held, mut state) = Held::open(dir.path()).unwrap();
            let (mut once, mut journals) = (vec![state.clone()], Vec::new());
            for step in steps {
                match step {
                    Step::Replace(number) => {
                        state = HostState::new(state.generation + 1, [attachment(number, true)]);
                        held.replace(&state).unwrap();
                    }
                    step => {
                        let change = match step {
                            Step::Upsert(number, on) => upsert(&state, number, on),
                            Step::Remove(number) | Step::Replace(number) => removal(&state, number),
                        };
                        held.append(&change).unwrap();
                        state.take(change).unwrap();
                    }
                }
                once.push(state.clone());
                journals.push(fs::read(&journal).unwrap());
            }
            drop(held);
            let untouched =
                of_snapshot.is_none() && of_journal.is_none() && old_journal.is_none();
            if let Some(which) = old_journal {
                fs::write(&journal, &journals[which.index(journals.len())]).unwrap();
            }
            if let Some(keep) = of_snapshot {
                cut(&snapshot, keep);
            }
            if let Some(keep) = of_journal {
                cut(&journal, keep);
            }
            let (mut held, found) = Held::open(dir.path()).unwrap();
            prop_assert!(once.contains(&found), "{found:?} was never held");
            if untouched {
                prop_assert_eq!(&found, &state);
            }
            // What comes after a crash is kept as well as what came before.
            let change = upsert(&found, 9, true);
            held.append(&change).unwrap();
            let mut next = found;
            next.take(change).unwrap();
            prop_assert_eq!(Held::open(dir.path()).unwrap().1, next);
        }
    }
}
