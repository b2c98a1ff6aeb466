//! Hosts made of network namespaces.
//!
//! A [`Namespace`] is a host: it has its own interfaces, addresses and routes, so that two of them may hold
//! the same address. A [`Switch`] is the cable between hosts of one network. Both are removed when
//! dropped. They take the right to administer the network (root, or CAP_NET_ADMIN and CAP_SYS_ADMIN):
//! [`unavailable`] tells a test why it cannot run.

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// Why namespaces cannot be made here; `None` when they can. Run on a machine that must have them (a
/// build server) by setting `POSTERN_TEST_NETNS=required`, which makes a lack a failure and not a skip.
pub fn unavailable() -> Option<String> {
    let reason = Namespace::new("probe").err().map(|error| format!("{error:#}"));
    if std::env::var("POSTERN_TEST_NETNS").is_ok_and(|value| value == "required") {
        return None; // The test goes on and fails with the reason.
    }
    if let Some(reason) = &reason {
        eprintln!("SKIPPED: no network namespaces here: {reason}");
    }
    reason
}

/// A network namespace with its loopback up. Dropping it removes the name; the namespace itself goes
/// with the last socket and process in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. `label` (a few letters) shows in its name, for whoever looks with `ip netns`.
    ///
    /// # Errors
    /// When `ip` is missing or not allowed to.
    pub fn new(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pt{}-{count}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `ip` inside: `ns.ip(&["addr", "add", "10.0.0.5/16", "dev", "eth0"])`.
    ///
    /// # Errors
    /// What `ip` complains of.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Adds an address such as `10.0.0.5/16` to an interface.
    ///
    /// # Errors
    /// What `ip` complains of.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<()> {
        self.ip(&["addr", "add", address, "dev", interface]).map(drop)
    }

    /// Sends everything that is not on a connected network to `gateway`.
    ///
    /// # Errors
    /// What `ip` complains of.
    pub fn default_route(&self, gateway: Ipv4Addr) -> Result<()> {
        self.ip(&["route", "add", "default", "via", &gateway.to_string()]).map(drop)
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `work` on a thread of its own inside. What it opens stays inside, also after the thread
    /// has ended; threads that it starts are inside too.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = File::open(self.path()).with_context(|| format!("opening {}", self.name))?;
        let thread = std::thread::Builder::new().name(self.name.clone());
        Ok(thread.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
            Ok(work())
        })?)
    }

    /// Runs `work` inside and waits for it. In async code use [`Namespace::run_async`], which does not hold up
    /// the runtime's thread.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `work` panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.spawn(work)?.join().map_err(|_| anyhow::anyhow!("panicked inside {}", self.name))?
    }

    /// Runs the future that `work` makes inside, on a runtime of its own (one thread).
    ///
    /// # Errors
    /// When the namespace cannot be entered or the future panics.
    pub async fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let thread = self.spawn(move || -> Result<T> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work()))
        })?;
        let name = self.name.clone();
        tokio::task::spawn_blocking(move || {
            thread.join().map_err(|_| anyhow::anyhow!("panicked inside {name}"))?
        })
        .await??
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A network that hosts plug into: a bridge in a namespace of its own. In the machine's namespace the
/// firewall of a container engine would quietly drop what passes over it.
#[derive(Debug)]
pub struct Switch {
    inside: Namespace,
    ports: AtomicU32,
}

impl Switch {
    /// Makes one.
    ///
    /// # Errors
    /// As [`Namespace::new`].
    pub fn new() -> Result<Self> {
        let inside = Namespace::new("switch")?;
        inside.ip(&["link", "add", "br0", "type", "bridge"])?;
        inside.ip(&["link", "set", "br0", "up"])?;
        Ok(Self { inside, ports: AtomicU32::new(0) })
    }

    /// Gives `host` an interface called `interface` on this network, up, with the address `address`
    /// (`10.0.0.5/16`).
    ///
    /// # Errors
    /// What `ip` complains of.
    pub fn plug(&self, host: &Namespace, interface: &str, address: &str) -> Result<()> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let (name, host_name) = (self.inside.name(), host.name());
        #[rustfmt::skip]
        ip(&["link", "add", &port, "netns", name, "type", "veth",
             "peer", "name", interface, "netns", host_name])?;
        self.inside.ip(&["link", "set", &port, "master", "br0", "up"])?;
        host.ip(&["link", "set", interface, "up"])?;
        host.add_address(interface, address)
    }

    /// The namespace that the bridge is in, to look at what passes or to stop it.
    pub fn inside(&self) -> &Namespace {
        &self.inside
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("running ip (iproute2)")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn two_networks_with_the_same_addresses_lead_to_different_servers() {
        if unavailable().is_some() {
            return;
        }
        for greeting in ["one", "two"] {
            let switch = Switch::new().unwrap();
            let (server, client) = (Namespace::new("s").unwrap(), Namespace::new("c").unwrap());
            switch.plug(&server, "eth0", "10.0.0.9/16").unwrap();
            switch.plug(&client, "eth0", "10.0.0.5/16").unwrap();
            let listener = server.run(|| TcpListener::bind("10.0.0.9:80").unwrap()).unwrap();
            let serving = std::thread::spawn(move || {
                listener.accept().unwrap().0.write_all(greeting.as_bytes()).unwrap();
            });
            let mut socket = client.run(|| TcpStream::connect("10.0.0.9:80").unwrap()).unwrap();
            let mut heard = String::new();
            socket.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, greeting);
            serving.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_dropped_namespace_is_gone() {
        if unavailable().is_some() {
            return;
        }
        let namespace = Namespace::new("gone").unwrap();
        let path = namespace.path();
        let devices =
            namespace.run_async(|| async { nix::net::if_::if_nameindex().unwrap().iter().count() });
        assert!(devices.await.unwrap() >= 1);
        drop(namespace);
        assert!(!path.exists());
    }
}
