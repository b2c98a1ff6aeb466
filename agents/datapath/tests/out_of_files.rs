//! A process that is out of files: in a process of its own, because the limit is the process's.

// Helpers of tests may fail like tests; clippy only knows the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "forward/support.rs"]
#[allow(dead_code)] // Shared with the other tests; this one needs little of it.
mod support;

use std::fs::File;
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, setrlimit};
use postern_datapath::{Datapath, InterfaceSpec, RefusedReason};
use support::*;

/// The limit is all tests' of this process: one at a time.
static FILES: Mutex<()> = Mutex::new(());

/// An interface with one flow, and a connection that the kernel has completed and no worker can
/// accept until the files are closed.
fn with_a_connection_waiting(
    datapath: &Datapath,
) -> (InterfaceSpec, TcpStream, TcpStream, Vec<File>) {
    let spec = interface(&[echo()]);
    datapath.apply(spec.clone()).unwrap();
    let mut open = connect(front(&spec));
    assert_echo(&mut open);
    let mut files: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One file is left, and the client's socket takes it.
    files.pop();
    let waiting = connect(front(&spec));
    assert!(File::open("/dev/null").is_err(), "there are still files");
    assert_echo(&mut open);
    assert_eq!(usage(datapath, &spec).accepted, 1, "it could not be accepted");
    (spec, open, waiting, files)
}

#[test]
fn out_of_files_accepting_pauses_and_goes_on_by_itself_when_there_are_some() {
    let _alone = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    setrlimit(Resource::RLIMIT_NOFILE, 128, 128).unwrap();
    let datapath = start();
    let (_, mut open, mut waiting, files) = with_a_connection_waiting(&datapath);
    drop(files);
    assert_echo(&mut waiting);
    assert_echo(&mut open);
}

#[test]
fn a_connection_that_waits_to_be_accepted_while_its_rule_goes_away_is_reset() {
    let _alone = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    setrlimit(Resource::RLIMIT_NOFILE, 128, 128).unwrap();
    let datapath = start();
    let (mut spec, mut open, mut waiting, files) = with_a_connection_waiting(&datapath);
    spec.ingress.clear();
    datapath.apply(spec.clone()).unwrap();
    drop(files);
    assert_reset(&mut waiting);
    assert_eq!(usage(&datapath, &spec).refused[&RefusedReason::Filtered], 1);
    assert_echo(&mut open);
}
