//! `postern-load-tcp`: loads a TCP path, one kind of traffic at a time, and is its own far side.
//!
//! `serve` answers; every other command talks to it, directly or through a forwarder, and prints one JSON
//! object. Threads and blocking sockets throughout: they cost less per byte than a runtime would, and what
//! the load costs is missing to what it measures.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::json;

/// What the first byte of a connection asks the server to do.
mod ask {
    /// Swallow everything.
    pub(super) const SINK: u8 = b's';
    /// Send until the peer closes.
    pub(super) const POUR: u8 = b'p';
    /// Send back what comes.
    pub(super) const ECHO: u8 = b'e';
    /// Send one byte and close.
    pub(super) const HELLO: u8 = b'h';
}

/// How much is read or written by one call in bulk traffic, in bytes.
const CHUNK: usize = 256 * 1024;
/// Threads of the server that accept, and answer the shortest conversations themselves.
const ACCEPTORS: usize = 16;
/// How long a peer may be silent before the run fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most connections, streams or workers of a run.
const MOST: usize = 20_000;
/// The longest run, in seconds.
const LONGEST: u64 = 600;

#[derive(Parser)]
#[command(about = "Loads a TCP path, and is its own far side")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers what the other commands send. Prints `ready`, ends when its input closes.
    Serve {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddrV4,
    },
    /// Moves as many bytes as possible.
    Bulk {
        #[command(flatten)]
        to: To,
        /// Connections at the same time.
        #[arg(long, default_value_t = 1)]
        streams: usize,
        /// From the client to the server, or back.
        #[arg(long, value_enum, default_value_t = Direction::Up)]
        direction: Direction,
    },
    /// Opens connections one after another: a byte each way, then closed.
    Connect {
        #[command(flatten)]
        to: To,
        /// Connections at the same time.
        #[arg(long, default_value_t = 8)]
        workers: usize,
    },
    /// Sends small messages to and fro on open connections.
    Ping {
        #[command(flatten)]
        to: To,
        /// Connections, each with one message under way.
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// A message's size in bytes.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Round trips a second in all, at appointed times; 0 is as fast as it goes.
        #[arg(long, default_value_t = 0)]
        rate: u64,
    },
    /// Opens idle connections, prints `ready`, and closes them when its input closes.
    Hold {
        /// Where to connect to.
        #[arg(long)]
        target: SocketAddrV4,
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
}

#[derive(clap::Args, Clone, Copy)]
struct To {
    /// Where to connect to.
    #[arg(long)]
    target: SocketAddrV4,
    /// For how many seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    Up,
    Down,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { listen } => serve(listen),
        Command::Bulk { to, streams, direction } => bulk(to, streams, direction),
        Command::Connect { to, workers } => connect(to, workers),
        Command::Ping { to, connections, size, rate } => ping(to, connections, size, rate),
        Command::Hold { target, connections } => hold(target, connections),
    }
}

fn serve(listen: SocketAddrV4) -> Result<()> {
    let listener =
        Arc::new(TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?);
    for _ in 0..ACCEPTORS {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                answer(stream);
            }
        });
    }
    println!("ready");
    wait_for_end_of_input()
}

/// Answers a connection: a short conversation on the spot, a long one on a thread of its own.
fn answer(mut stream: TcpStream) {
    let mut asked = [0];
    // A peer that goes away or says nothing costs its connection, nothing else.
    if stream.set_read_timeout(Some(PATIENCE)).is_err() || stream.read_exact(&mut asked).is_err() {
        return;
    }
    let _ = stream.set_nodelay(true);
    match asked[0] {
        ask::HELLO => {
            let _ = stream.write_all(&[ask::HELLO]);
        }
        ask::SINK => drop(thread::spawn(move || swallow(&mut stream, &AtomicU64::new(0)))),
        ask::POUR => drop(thread::spawn(move || pour(&mut stream))),
        ask::ECHO => drop(thread::spawn(move || echo(stream))),
        _ => {}
    }
}

fn swallow(stream: &mut TcpStream, swallowed: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        swallowed.fetch_add(count as u64, Relaxed);
    }
}

fn pour(stream: &mut TcpStream) {
    let buffer = vec![b'x'; CHUNK];
    while stream.write_all(&buffer).is_ok() {}
}

fn echo(mut stream: TcpStream) {
    // A connection that is held idle is not a fault.
    let _ = stream.set_read_timeout(None);
    let mut buffer = vec![0; 4 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn bulk(to: To, streams: usize, direction: Direction) -> Result<()> {
    bounded("streams", streams)?;
    let moved = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..streams {
        let mut stream = open(
            to.target,
            match direction {
                Direction::Up => ask::SINK,
                Direction::Down => ask::POUR,
            },
        )?;
        handles.push(stream.try_clone()?);
        let moved = Arc::clone(&moved);
        threads.push(thread::spawn(move || match direction {
            Direction::Down => swallow(&mut stream, &moved),
            Direction::Up => {
                let buffer = vec![b'x'; CHUNK];
                while let Ok(count) = stream.write(&buffer) {
                    moved.fetch_add(count as u64, Relaxed);
                }
            }
        }));
    }
    // The first moments are the windows' growth, and are not counted.
    thread::sleep(Duration::from_millis(300));
    let (start, before) = (Instant::now(), moved.load(Relaxed));
    thread::sleep(to.time()?);
    let (bytes, seconds) = (moved.load(Relaxed) - before, start.elapsed().as_secs_f64());
    for handle in handles {
        let _ = handle.shutdown(Shutdown::Both);
    }
    for one in threads {
        ensure!(one.join().is_ok(), "a stream's thread failed");
    }
    ensure!(bytes > 0, "no byte was moved");
    println!(
        "{}",
        json!({ "bytes": bytes, "gbit_s": bytes as f64 * 8.0 / seconds / 1e9,
        "total_bytes": moved.load(Relaxed) })
    );
    Ok(())
}

fn connect(to: To, workers: usize) -> Result<()> {
    bounded("workers", workers)?;
    let time = to.time()?;
    measure(workers, time, move |_, stop| {
        let mut latencies = histogram()?;
        while !stop.load(Relaxed) {
            let start = Instant::now();
            let mut stream = open(to.target, ask::HELLO)?;
            let mut answer = [0];
            stream.read_exact(&mut answer).context("the greeting")?;
            // The server closes first, so that the client's ports are free again at once.
            ensure!(stream.read(&mut answer)? == 0, "bytes after the greeting");
            latencies.saturating_record(start.elapsed().as_nanos() as u64);
        }
        Ok(latencies)
    })
}

fn ping(to: To, connections: usize, size: usize, rate: u64) -> Result<()> {
    bounded("connections", connections)?;
    ensure!((1..=4096).contains(&size), "--size: from 1 to 4096 bytes");
    let time = to.time()?;
    let every = (rate > 0).then(|| Duration::from_secs_f64(connections as f64 / rate as f64));
    measure(connections, time, move |number, stop| {
        let mut stream = open(to.target, ask::ECHO)?;
        let (message, mut answer) = (vec![b'x'; size], vec![0; size]);
        let mut latencies = histogram()?;
        let mut due =
            Instant::now() + every.unwrap_or_default() * number as u32 / connections as u32;
        while !stop.load(Relaxed) {
            if let Some(every) = every {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += every;
            }
            let start = Instant::now();
            stream.write_all(&message)?;
            stream.read_exact(&mut answer)?;
            latencies.saturating_record(start.elapsed().as_nanos() as u64);
        }
        Ok(latencies)
    })
}

/// Runs workers for a time, and prints how often and how fast they did what they do.
fn measure(
    workers: usize,
    time: Duration,
    work: impl Fn(usize, &AtomicBool) -> Result<Histogram<u64>> + Send + Sync + 'static,
) -> Result<()> {
    let (work, stop) = (Arc::new(work), Arc::new(AtomicBool::new(false)));
    let start = Instant::now();
    let mut threads = Vec::new();
    for number in 0..workers {
        let (work, stop) = (Arc::clone(&work), Arc::clone(&stop));
        threads.push(
            thread::Builder::new().stack_size(256 * 1024).spawn(move || work(number, &stop))?,
        );
    }
    thread::sleep(time);
    stop.store(true, Relaxed);
    let mut all = histogram()?;
    for one in threads {
        let Ok(latencies) = one.join() else { bail!("a worker's thread failed") };
        all.add(latencies?)?;
    }
    let micros = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "{}",
        json!({ "count": all.len(), "per_second": all.len() as f64 / start.elapsed().as_secs_f64(),
        "p50_us": micros(0.5), "p99_us": micros(0.99) })
    );
    Ok(())
}

fn hold(target: SocketAddrV4, connections: usize) -> Result<()> {
    bounded("connections", connections)?;
    let mut held = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut stream = open(target, ask::ECHO).with_context(|| format!("connection {number}"))?;
        // Through and back: it is open all the way, not only to the forwarder.
        stream.write_all(&[0])?;
        stream.read_exact(&mut [0]).with_context(|| format!("connection {number}"))?;
        held.push(stream);
    }
    println!("ready");
    wait_for_end_of_input()
}

/// Connects, and says what is wanted. Connections leave from addresses of 127.0.0.0/8 as the kernel likes;
/// where it runs out of ports the error says so.
fn open(target: SocketAddrV4, asked: u8) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("connecting to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[asked])?;
    Ok(stream)
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, 60_000_000_000, 3)?)
}

fn bounded(name: &str, count: usize) -> Result<()> {
    ensure!((1..=MOST).contains(&count), "--{name}: from 1 to {MOST}");
    Ok(())
}

fn wait_for_end_of_input() -> Result<()> {
    match std::io::stdin().read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
        _ => Ok(()),
    }
}

impl To {
    fn time(self) -> Result<Duration> {
        ensure!((1..=LONGEST).contains(&self.seconds), "--seconds: from 1 to {LONGEST}");
        ensure!(*self.target.ip() != Ipv4Addr::UNSPECIFIED, "--target: an address");
        Ok(Duration::from_secs(self.seconds))
    }
}
