//! One broker process and its directory.
//!
//! The home holds `ports` (AMQP, distribution, epmd), `pid`, `vhosts/` (the stock: a file each), the
//! broker's configuration, its database and its log.

use crate::leash::Leash;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// Debian's scripts in /usr/sbin change to the user rabbitmq; these do what they are told.
const BIN: &str = "/usr/lib/rabbitmq/bin";

/// The user that every node has; the password is the same word.
pub(super) const USER: &str = "postern";

/// The salt 01020304, then SHA-256 of the salt and "postern": what RabbitMQ keeps of a password.
const PASSWORD_HASH: &str = "AQIDBDX13TFDhD8Z/jfkOaFOn9ErkLn84VccI8YEoR18FMqu";

const NODE: &str = "postern@localhost";

/// Four seconds on an idle machine, a quarter of a minute beside a compiler.
const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Ends the node of the home `$1` with its epmd on port `$2`, and removes the home.
const END: &str = r#"
    runs() { [ -d "/proc/$1" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }
    pid=$(cat "$1/pid" 2>/dev/null)
    if [ -n "$pid" ]; then
        kill -TERM "$pid"
        i=0; while runs "$pid" && [ $i -lt 150 ]; do sleep 0.1; i=$((i+1)); done
        kill -KILL "$pid"
    fi
    ERL_EPMD_PORT=$2 ERL_EPMD_ADDRESS=127.0.0.1 epmd -kill
    rm -rf "$1"
"#;

/// The ports of a node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    distribution: u16,
    epmd: u16,
}

impl Ports {
    fn pick() -> Result<Self> {
        use postern_local::free_port;
        Ok(Self { amqp: free_port()?, distribution: free_port()?, epmd: free_port()? })
    }

    /// Those of the node that lives in `home`.
    pub(super) fn of(home: &Path) -> Result<Self> {
        let path = home.join("ports");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path:?}"))?;
        let ports: Vec<u16> =
            text.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        let [amqp, distribution, epmd] = ports[..] else { bail!("{path:?} has not three ports") };
        Ok(Self { amqp, distribution, epmd })
    }
}

/// The URL of `vhost` on the node at `port`.
pub(super) fn url(port: u16, vhost: &str) -> String {
    let vhost = vhost.replace('/', "%2f");
    format!("amqp://{USER}:{USER}@127.0.0.1:{port}/{vhost}")
}

/// Runs `rabbitmqctl` against the node of `home`; returns what it wrote. It takes a second or two.
pub(super) async fn ctl(home: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = command(home, Ports::of(home)?, "rabbitmqctl");
    command.arg("-n").arg(NODE).arg("--quiet").args(arguments).kill_on_drop(true);
    let output = timeout(START_PATIENCE, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "rabbitmqctl {arguments:?}: {said} {complaint}");
    Ok(said)
}

/// One of RabbitMQ's programs in the surroundings of the node of `home`.
fn command(home: &Path, ports: Ports, program: &str) -> Command {
    let mut command = Command::new(Path::new(BIN).join(program));
    for (name, file) in [
        ("HOME", "home"),
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_MNESIA_DIR", "mnesia/node"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_LOGS", "log/rabbit.log"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ("RABBITMQ_PID_FILE", "broker.pid"),
    ] {
        command.env(name, home.join(file));
    }
    for (name, port) in [
        ("RABBITMQ_NODE_PORT", ports.amqp),
        ("RABBITMQ_DIST_PORT", ports.distribution),
        ("ERL_EPMD_PORT", ports.epmd),
    ] {
        command.env(name, port.to_string());
    }
    command
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        // Without this the script stays between us and the broker, and signals stop there.
        .env("RABBITMQ_ALLOW_INPUT", "1")
        // Idle schedulers would spin on the cores that the tests need.
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        )
        .stdin(Stdio::null())
        .current_dir(home);
    command
}

/// A broker. Dropping it stops it and removes its files; so does the end of this process.
#[derive(Debug)]
pub struct Node {
    home: PathBuf,
    ports: Ports,
    broker: Option<Child>,
    _leash: Leash,
}

impl Node {
    /// A node for one test alone, to be stopped and killed: only the default virtual host.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start.
    pub async fn private() -> Result<Self> {
        Self::start_new(0).await
    }

    /// A node with `stock` virtual hosts to be claimed, besides the default one.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start.
    pub async fn start_new(stock: usize) -> Result<Self> {
        ensure!(
            Path::new(BIN).join("rabbitmq-server").exists(),
            "no RabbitMQ in {BIN}: apt-get install --no-install-recommends rabbitmq-server"
        );
        // Another process may take a port between the picking and the start: then with others.
        let mut last = None;
        for _ in 0..3 {
            let mut node = Self::lay_out(stock)?;
            match node.start().await {
                Ok(()) => return Ok(node),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("RabbitMQ did not start")))
    }

    fn lay_out(stock: usize) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("postern-rabbitmq-").tempdir()?.keep();
        let ports = Ports::pick()?;
        let leash = Leash::new(END, [home.as_os_str(), ports.epmd.to_string().as_ref()])?;
        for directory in ["home", "mnesia", "log", "vhosts"] {
            fs::create_dir(home.join(directory))?;
        }
        let Ports { amqp, distribution, epmd } = ports;
        fs::write(home.join("ports"), format!("{amqp} {distribution} {epmd}\n"))?;
        fs::write(home.join("enabled_plugins"), "[].\n")?;
        let mut vhosts = vec!["/".to_owned()];
        for number in 0..stock {
            let vhost = format!("test-{number}");
            fs::write(home.join("vhosts").join(&vhost), "")?;
            vhosts.push(vhost);
        }
        let definitions = json!({
            "users": [{
                "name": USER,
                "password_hash": PASSWORD_HASH,
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "administrator",
            }],
            "vhosts": vhosts.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
            "permissions": vhosts.iter().map(|vhost| json!({
                "user": USER, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*",
            })).collect::<Vec<_>>(),
        });
        fs::write(home.join("definitions.json"), definitions.to_string())?;
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             distribution.listener.interface = 127.0.0.1\n\
             load_definitions = {}\n\
             disk_free_limit.absolute = 50MB\n",
            home.join("definitions.json").display()
        );
        fs::write(home.join("rabbitmq.conf"), configuration)?;
        Ok(Self { home, ports, broker: None, _leash: leash })
    }

    /// Where its files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The URL of the default virtual host.
    pub fn url(&self) -> String {
        url(self.ports.amqp, "/")
    }

    /// Runs `rabbitmqctl` against it and returns what that writes. It takes a second or two.
    ///
    /// # Errors
    /// What the program complains of.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        ctl(&self.home, arguments).await
    }

    /// Starts it, on the port that it always has, and waits until it takes connections.
    ///
    /// # Errors
    /// When it ends or takes no connection in a minute and a half; its log's end is in the error.
    pub async fn start(&mut self) -> Result<()> {
        if self.broker.is_some() {
            return Ok(());
        }
        let output = fs::File::create(self.home.join("log/output"))?;
        let mut command = command(&self.home, self.ports, "rabbitmq-server");
        let mut broker = command
            .arg("-noinput")
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let pid = broker.id().context("the broker ended at once")?;
        fs::write(self.home.join("pid"), pid.to_string())?;
        let deadline = Instant::now() + START_PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.amqp)).await.is_err() {
            let ended = broker.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.home.join("log/output")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(15).collect();
                let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
                bail!("RabbitMQ does not start ({ended:?}):\n{end}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.broker = Some(broker);
        Ok(())
    }

    /// Stops it in good order, as an upgrade would. [`Node::start`] starts it again.
    ///
    /// # Errors
    /// When it has not ended in half a minute.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM).await
    }

    /// Kills it without a warning.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        let Some(mut broker) = self.broker.take() else { return Ok(()) };
        if let Some(pid) = broker.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), signal)?;
        }
        timeout(STOP_PATIENCE, broker.wait()).await.context("RabbitMQ does not stop")??;
        fs::remove_file(self.home.join("pid"))?; // The number may soon be another program's.
        Ok(())
    }
}
