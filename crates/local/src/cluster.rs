//! A PostgreSQL server of one's own.
//!
//! The directory belongs to the cluster alone and holds `data/` (the server's files), `password` (of the
//! user `postgres`), `server.log`, `lock`, and `programs/` where they had to be fetched. The server is a
//! daemon of its own session, so that Ctrl-C in a terminal reaches the owner first and the database stays
//! up until the owner has put its work away; if the owner dies without a word the next one finds the server
//! running and takes it over.

mod postmaster;

use crate::account::Account;
use crate::{Error, Programs, fetch, free_port, wire};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use postmaster::Postmaster;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// Recovery after a crash replays what was not yet in the files, which takes longer than a plain start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A fast stop ends the sessions and writes a checkpoint.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Where root keeps a cluster whose own directory the server's account cannot reach.
const ELSEWHERE: &str = "/var/lib/postern";

/// The log is set aside at a start when it is longer than this, in bytes.
const LONG_LOG: u64 = 10 << 20;

/// How to run a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory that is the cluster's alone. Made when absent.
    pub data_dir: PathBuf,
    /// The server programs' directory; `None` looks for them on the machine.
    pub bin_dir: Option<PathBuf>,
    /// The TCP port on 127.0.0.1; `None` takes a running server's, else a free one.
    pub port: Option<u16>,
    /// Whether a commit survives the machine losing its power. Off for tests: it halves their time.
    pub durable: bool,
    /// Whether to fetch the programs when the machine has none.
    pub fetch: bool,
    /// How many sessions the server takes.
    pub max_connections: u16,
}

impl Options {
    /// A cluster whose content matters: durable, programs fetched if need be.
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            port: None,
            durable: true,
            fetch: true,
            max_connections: 200,
        }
    }

    /// A cluster that is thrown away: fast, with the machine's own programs.
    pub fn throwaway(data_dir: impl Into<PathBuf>) -> Self {
        Self { durable: false, fetch: false, max_connections: 500, ..Self::durable(data_dir) }
    }
}

/// A running server, and the lock that says whose it is. Dropping it asks the server to stop and does
/// not wait; [`Cluster::stop`] waits.
#[derive(Debug)]
pub struct Cluster {
    options: Options,
    home: PathBuf,
    account: Account,
    programs: Programs,
    password: String,
    port: u16,
    running: bool,
    _lock: Flock<File>,
}

impl Cluster {
    /// Brings the cluster of `options.data_dir` up, whatever state it is in: makes it, starts it,
    /// recovers it or takes over the server that a killed owner left behind. Returns when the server
    /// answers.
    ///
    /// # Errors
    /// Any [`Error`]: among them no programs, a directory in use or out of reach, and what the
    /// programs themselves complain of.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let account = Account::choose()?;
        let home = home(&options.data_dir, &account, Path::new(ELSEWHERE))?;
        let lock = lock(&home)?;
        let programs = programs(&options, &home).await?;
        let password = password(&home, &account)?;
        let mut cluster = Self {
            port: 0,
            running: false,
            options,
            home,
            account,
            programs,
            password,
            _lock: lock,
        };
        cluster.bring_up().await?;
        Ok(cluster)
    }

    /// The URL of `database` for the superuser `postgres`. It holds the password: not for logs.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the cluster. It is another one than asked for where root had to keep the
    /// cluster elsewhere; a link stands in its place then.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The programs that run it.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Creates `database` unless it exists.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that is not plain, [`Error::Server`] for what the server refuses.
    pub async fn ensure_database(&self, database: &str) -> Result<(), Error> {
        let plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        // Longer names are cut by the server without a word (NAMEDATALEN is 64).
        if !(1..=63).contains(&database.len()) || !database.chars().all(plain) {
            return Err(Error::Name(database.to_owned()));
        }
        let statement = format!("CREATE DATABASE \"{database}\"");
        match wire::execute(self.port, &self.password, "postgres", &statement).await? {
            Ok(()) => Ok(()),
            // duplicate_database; or, when two ask at once, the index of the catalogue says it.
            Err(complaint) if matches!(&*complaint.code, "42P04" | "23505") => Ok(()),
            Err(complaint) => Err(Error::Server(complaint.message)),
        }
    }

    /// Stops the server: sessions are ended, nothing committed is lost. Does nothing when it is
    /// stopped already; [`Cluster::resume`] starts it again on the same port.
    ///
    /// # Errors
    /// [`Error::TooSlow`] when it has not ended in half a minute.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.running = false;
        match Postmaster::of(&self.data()) {
            Some(postmaster) => self.end(&postmaster, Signal::SIGINT).await,
            None => Ok(()),
        }
    }

    /// Kills the server as a crash would, without giving it time to write anything.
    ///
    /// # Errors
    /// [`Error::TooSlow`] when the process is still there after half a minute.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.running = false;
        match Postmaster::of(&self.data()) {
            Some(postmaster) => self.end(&postmaster, Signal::SIGKILL).await,
            None => Ok(()),
        }
    }

    /// Starts the server again, on the port that it had.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn resume(&mut self) -> Result<(), Error> {
        self.options.port = Some(self.port);
        self.bring_up().await
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    async fn bring_up(&mut self) -> Result<(), Error> {
        if !self.data().join("PG_VERSION").exists() {
            self.init().await?;
        }
        self.port = match Postmaster::of(&self.data()) {
            Some(running) if self.options.port.is_none_or(|port| port == running.port) => {
                tracing::info!(pid = running.pid.as_raw(), "taking over a running database");
                running.port
            }
            Some(running) => {
                self.end(&running, Signal::SIGINT).await?;
                self.launch().await?
            }
            None => self.launch().await?,
        };
        self.answers().await?;
        self.running = true;
        Ok(())
    }

    /// Makes the data directory. It gets its name last, so that a kill in between leaves nothing that
    /// looks like a cluster.
    async fn init(&self) -> Result<(), Error> {
        let (unfinished, data) = (self.home.join("data.unfinished"), self.data());
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(Error::io("removing", &unfinished))?;
        }
        fs::create_dir(&unfinished).map_err(Error::io("creating", &unfinished))?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o700))
            .map_err(Error::io("closing", &unfinished))?;
        self.account.own(&unfinished)?;
        let mut initdb = self.account.command(&self.programs.path("initdb"));
        // `password` travels in the clear over loopback; hashing it would cost each new session
        // milliseconds and keep nothing from anybody.
        initdb.arg("-D").arg(&unfinished).args(["-U", "postgres", "-A", "password", "-E", "UTF8"]);
        initdb.arg("--locale=C.UTF-8").arg("--pwfile").arg(self.home.join("password"));
        if !self.options.durable {
            initdb.arg("--no-sync");
        }
        checked("initdb", run(initdb, "initdb").await?)?;
        fs::rename(&unfinished, &data).map_err(Error::io("naming", &data))
    }

    /// Starts the server and returns its port.
    async fn launch(&self) -> Result<u16, Error> {
        const TRIES: u32 = 5;
        let log = self.home.join("server.log");
        set_aside(&log)?;
        Postmaster::forget_stale(&self.data())?;
        for left in (0..TRIES).rev() {
            let port = match self.options.port {
                Some(port) => port,
                None => free_port().map_err(Error::io("finding a port for", &self.home))?,
            };
            let before = fs::metadata(&log).map_or(0, |metadata| metadata.len());
            let mut pg_ctl = self.account.command(&self.programs.path("pg_ctl"));
            pg_ctl.arg("-D").arg(self.data()).arg("-l").arg(&log).args(["-w", "-t"]);
            pg_ctl.arg(START_PATIENCE.as_secs().to_string()).arg("-o").arg(self.settings(port));
            let output = run(pg_ctl.arg("start"), "pg_ctl").await?;
            if output.status.success() {
                return Ok(port);
            }
            // The reason is in the log; pg_ctl only says to look there.
            let reason = tail_from(&log, before);
            let port_was_taken = self.options.port.is_none() && reason.contains("already in use");
            // Sessions of a killed server hold its memory for a moment; starting beside them would
            // ruin the files, and the server knows better than to.
            let still_dying = reason.contains("shared memory block");
            if left == 0 || !(port_was_taken || still_dying) {
                return Err(Error::Program { program: "pg_ctl start", output: reason });
            }
            if still_dying {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Err(Error::TooSlow { what: "start", seconds: START_PATIENCE.as_secs() })
    }

    /// The server's settings for its command line, which a shell reads: plain words only.
    fn settings(&self, port: u16) -> String {
        let mut settings = vec![
            format!("-p {port}"),
            "-c listen_addresses=127.0.0.1".to_owned(),
            // No Unix socket: its path may not be longer than 107 bytes, and ours may be anything.
            "-c unix_socket_directories=".to_owned(),
            format!("-c max_connections={}", self.options.max_connections),
        ];
        if !self.options.durable {
            settings.extend(
                ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"]
                    .map(|setting| format!("-c {setting}")),
            );
        }
        settings.join(" ")
    }

    /// Waits until the server answers a query: one that is taken over may still be recovering.
    async fn answers(&self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + START_PATIENCE;
        loop {
            let answer = wire::execute(self.port, &self.password, "postgres", "").await;
            let reason = match answer {
                Ok(Ok(())) => return Ok(()),
                // cannot_connect_now: starting up or in recovery.
                Ok(Err(complaint)) if complaint.code != "57P03" => {
                    return Err(Error::Server(complaint.message));
                }
                Ok(Err(complaint)) => Error::Server(complaint.message),
                Err(error) => error,
            };
            if tokio::time::Instant::now() > deadline {
                return Err(reason);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn end(&self, postmaster: &Postmaster, signal: Signal) -> Result<(), Error> {
        postmaster.signal(signal);
        let deadline = tokio::time::Instant::now() + STOP_PATIENCE;
        while postmaster.is_there(&self.data()) {
            if tokio::time::Instant::now() > deadline {
                return Err(Error::TooSlow { what: "stop", seconds: STOP_PATIENCE.as_secs() });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(postmaster) = Postmaster::of(&self.home.join("data")).filter(|_| self.running) {
            postmaster.signal(Signal::SIGINT);
        }
    }
}

/// The directory in which the cluster really lives, made if need be: the one asked for, except where
/// root asks for one that the server's account cannot reach (a clone below /root). Then it is one under
/// `elsewhere`, and a link stands in the asked place.
fn home(asked: &Path, account: &Account, elsewhere: &Path) -> Result<PathBuf, Error> {
    let asked = std::path::absolute(asked).map_err(Error::io("resolving", asked))?;
    if account.is_other() && !asked.is_symlink() && account.stopped_at(&asked).is_some() {
        // Only when it is empty: a cluster that is there already is not walked away from.
        let _ = fs::remove_dir(&asked);
    }
    let home = match asked.canonicalize() {
        Ok(there) => there,
        Err(_) if account.is_other() && account.stopped_at(&asked).is_some() => {
            move_elsewhere(&asked, account, elsewhere)?
        }
        Err(_) => {
            fs::create_dir_all(&asked).map_err(Error::io("creating", &asked))?;
            asked
        }
    };
    // Others may pass through, to the programs and the log; the data and the password are closed.
    fs::set_permissions(&home, Permissions::from_mode(0o711))
        .map_err(Error::io("setting the mode of", &home))?;
    account.own(&home)?;
    match account.stopped_at(&home) {
        None => Ok(home),
        Some(directory) => {
            Err(Error::NotTraversable { account: account.name().to_owned(), directory })
        }
    }
}

/// Makes a directory under `elsewhere` and a link to it at `asked`. Its name is never used again, so
/// that whoever removes the link starts afresh.
fn move_elsewhere(asked: &Path, account: &Account, elsewhere: &Path) -> Result<PathBuf, Error> {
    let home = elsewhere.join(format!("postgres-{}", random_hex::<8>()?));
    fs::create_dir_all(&home).map_err(Error::io("creating", &home))?;
    if let Some(parent) = asked.parent() {
        fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    }
    let _ = fs::remove_file(asked); // A link that leads nowhere is no loss.
    symlink(&home, asked).map_err(Error::io("linking", asked))?;
    tracing::info!(
        account = account.name(), home = %home.display(), link = %asked.display(),
        "the database's account cannot reach the state directory, keeping the cluster elsewhere"
    );
    Ok(home)
}

/// Takes the cluster's lock. The system gives it back when this process ends, however it ends.
fn lock(home: &Path) -> Result<Flock<File>, Error> {
    let path = home.join("lock");
    let file = File::create(&path).map_err(Error::io("opening", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Error::InUse(home.to_owned()))
}

async fn programs(options: &Options, home: &Path) -> Result<Programs, Error> {
    let made_by = fs::read_to_string(home.join("data/PG_VERSION")).ok();
    let made_by = made_by.as_deref().map(str::trim);
    let fits = |programs: &Programs| made_by.is_none_or(|major| major == programs.major());
    let mut found = match &options.bin_dir {
        Some(directory) => vec![Programs::at(directory)?],
        None => Programs::installed(),
    };
    if let Some(programs) = found.iter().find(|programs| fits(programs)) {
        return Ok(programs.clone());
    }
    // Also where a cluster was made with fetched programs before the machine got some of its own.
    if options.fetch && options.bin_dir.is_none() {
        let fetched = fetch::programs(&home.join("programs")).await?;
        if fits(&fetched) {
            return Ok(fetched);
        }
        found.push(fetched);
    }
    match made_by {
        Some(made_by) if !found.is_empty() => Err(Error::Version {
            data_dir: home.to_owned(),
            made_by: made_by.to_owned(),
            found: found.iter().map(Programs::major).collect::<Vec<_>>().join(", "),
        }),
        _ => Err(Error::NoPrograms),
    }
}

/// The superuser's password, made on first use. Without one every local user could run programs as the
/// server's account.
fn password(home: &Path, account: &Account) -> Result<String, Error> {
    let path = home.join("password");
    match fs::read_to_string(&path) {
        Ok(password) if password.trim().len() >= 32 => return Ok(password.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("reading", &path)(error)),
    }
    let password = random_hex::<24>()?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&path)
        .and_then(|mut file| writeln!(file, "{password}"))
        .map_err(Error::io("writing", &path))?;
    account.own(&path)?;
    Ok(password)
}

/// `N` random bytes as hex digits.
fn random_hex<const N: usize>() -> Result<String, Error> {
    let (source, mut bytes) = (Path::new("/dev/urandom"), [0; N]);
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("reading", source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Starts the log afresh when it has grown long, keeping one old one.
fn set_aside(log: &Path) -> Result<(), Error> {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LONG_LOG) {
        fs::rename(log, log.with_extension("log.old")).map_err(Error::io("setting aside", log))?;
    }
    Ok(())
}

/// What the log has gained since it was `from` bytes long: its last lines, as one.
fn tail_from(log: &Path, from: u64) -> String {
    let text = fs::read(log).unwrap_or_default();
    let new = text.get(usize::try_from(from).unwrap_or(0)..).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(new))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("; ")
}

async fn run(
    mut command: impl std::borrow::BorrowMut<tokio::process::Command>,
    program: &'static str,
) -> Result<Output, Error> {
    let patience = START_PATIENCE + Duration::from_secs(10);
    let command = command.borrow_mut().kill_on_drop(true).stdin(std::process::Stdio::null());
    tokio::time::timeout(patience, command.output())
        .await
        .map_err(|_| Error::TooSlow { what: program, seconds: patience.as_secs() })?
        .map_err(Error::io("running", Path::new(program)))
}

fn checked(program: &'static str, output: Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Program { program, output: last_lines(&String::from_utf8_lossy(&said)) })
}

#[cfg(test)]
mod tests;
