//! A program as a process: its settings, its log, its life and death.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::netns::Namespace;

/// For a process that is asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A program, running or not.
#[derive(Debug)]
pub struct Process {
    name: String,
    executable: PathBuf,
    settings: Vec<(String, String)>,
    directory: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    inside: Option<String>,
    child: Option<Child>,
}

/// The path of one of this workspace's programs, which is built beside the tests.
pub fn program(name: &str) -> PathBuf {
    // target/debug/deps/TEST-HASH
    let test = std::env::current_exe().expect("the test's own path");
    let built = test.parent().and_then(Path::parent).expect("a target directory").join(name);
    assert!(
        built.exists(),
        "{} is not there: `cargo build --workspace --bins` builds it",
        built.display()
    );
    built
}

impl Process {
    /// The program `executable`, called `name`, with its log, its process id and its files in
    /// `directory`. It has these settings, serves its admin pages at `admin`, and sees nothing else of
    /// our environment. Not started.
    pub fn new(
        executable: &str,
        name: &str,
        directory: &Path,
        admin: SocketAddr,
        settings: &[(&str, String)],
    ) -> Self {
        let own = [
            ("POSTERN_ADMIN_LISTEN", admin.to_string()),
            ("POSTERN_LOG", std::env::var("POSTERN_LOG").unwrap_or_else(|_| "info".to_owned())),
            ("NO_COLOR", "1".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ];
        let all = settings.iter().chain(&own);
        Self {
            name: name.to_owned(),
            executable: program(executable),
            settings: all.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            directory: directory.to_owned(),
            log: directory.join(format!("{name}.log")),
            admin,
            inside: None,
            child: None,
        }
    }

    /// The same, to run inside a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.inside = Some(namespace.name().to_owned());
        self
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join(format!("{}.pid", self.name))
    }

    /// Starts it. Whether it is ready is another question.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut log: File =
            OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        writeln!(log, "-- {} starts", self.name).expect("writing to the log");
        let mut command = match &self.inside {
            None => Command::new(&self.executable),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.executable);
                command
            }
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let child = command
            .env_clear()
            .env("PATH", path)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .process_group(0) // Ctrl-C is for the tests.
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log a second time"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        // For the leash, should this process die first.
        fs::write(self.pid_file(), child.id().to_string()).expect("writing the process id");
        self.child = Some(child);
    }

    /// Kills it without a warning, if it runs.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_file(self.pid_file());
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("a signal to a child");
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("waiting for a child") {
                self.child = None;
                let _ = fs::remove_file(self.pid_file());
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not stop", self.name);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it runs: a process that ended by itself does not.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until it says that it can do its work.
    pub async fn ready(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let said = self.get("/readyz").await;
            if said.as_ref().is_ok_and(|(status, _)| *status == 200) {
                return;
            }
            assert!(self.runs(), "{} has ended:\n{}", self.name, self.last_words(40));
            assert!(Instant::now() < deadline, "{} is not ready: {said:?}", self.name);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A page of its admin port: status and text.
    ///
    /// # Errors
    /// When nobody answers in five seconds.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        super::events::get(&format!("http://{}{path}", self.admin)).await
    }

    /// The sum of a metric's samples whose names end in `name` and that contain each of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let Ok((_, text)) = self.get("/metrics").await else { return 0.0 };
        text.lines()
            .filter(|line| {
                let named = line.split(['{', ' ']).next().is_some_and(|word| word.ends_with(name));
                named && labels.iter().all(|part| line.contains(part))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// What it has logged since it was first started.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, with a headline.
    pub fn last_words(&self, lines: usize) -> String {
        let log = self.log();
        let mut end: Vec<&str> = log.lines().rev().take(lines).collect();
        end.reverse();
        format!("==== {}\n{}", self.name, end.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
