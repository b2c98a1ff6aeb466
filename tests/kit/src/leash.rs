//! Seeing to it that a server does not outlive the tests that started it.
//!
//! A test process ends by `exit`, by a panic, by Ctrl-C or by the runner's SIGKILL, and statics are never
//! dropped. So a shell waits at the other end of a pipe: when this process is gone, by whatever way,
//! the pipe closes and the shell stops the server and removes its directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// The shell and this process's end of the pipe. Dropping it runs the script at once and waits for it.
#[derive(Debug)]
pub struct Leash {
    shell: Child,
}

impl Leash {
    /// `script` is POSIX shell and finds `arguments` as `$1`, `$2`, ... It must end by itself.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn new<S: AsRef<OsStr>>(
        script: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let shell = Command::new("sh")
            .arg("-c")
            .arg(format!("trap '' INT TERM HUP; cat >/dev/null; {script}"))
            .arg("leash")
            .args(arguments)
            .process_group(0) // Ctrl-C is for the tests; the shell acts when they have ended.
            .stdin(Stdio::piped())
            // A runner waits until nobody holds a test's output any more.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
