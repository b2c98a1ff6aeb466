//! What does the forwarder cost? Measures a connection through it against a direct one, on loopback:
//! bulk throughput with 1 and 8 streams, new connections a second, and request/response over
//! connections that stay open.
//!
//! Client, forwarder and server share the machine: compare the lines of one run with each other, and
//! with other forwarders only when interleaved on the same machine.
//!
//! ```sh
//! cargo run --release -p postern-datapath --example forward -- [SECONDS per figure, default 2]
//! ```

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use postern_datapath::{Config, Datapath, InterfaceSpec, Listener, Place};
use postern_model::security::{IngressRule, PortRange, Protocol};

const SINK: u16 = 18_001;
const ECHO: u16 = 18_002;
const FRONT: Ipv4Addr = Ipv4Addr::new(127, 18, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 18, 0, 2);

fn main() -> io::Result<()> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2);
    let time = Duration::from_secs(seconds);
    serve(SINK, sink)?;
    serve(ECHO, echo)?;
    let datapath = Datapath::start(Config::default())?;
    datapath.apply(interface()).map_err(io::Error::other)?;
    println!("{:<10} {:>22} {:>12} {:>12} {:>12}", "", "figure", "value", "unit", "CPU s");
    for (name, host) in [("direct", SERVER), ("forwarded", FRONT)] {
        let report = |figure: &str, value: f64, unit: &str, cpu: f64| {
            println!("{name:<10} {figure:>22} {value:>12.1} {unit:>12} {cpu:>12.2}");
        };
        for streams in [1, 8] {
            let ((bytes, cpu), took) = measured(time, streams, |stop| bulk(host, stop));
            let gigabits = bytes as f64 * 8.0 / 1e9 / took;
            report(&format!("bulk, {streams} streams"), gigabits, "Gbit/s", cpu);
        }
        let ((count, cpu), took) = measured(time, 4, |stop| connections(host, stop));
        report("new connections", count as f64 / took, "1/s", cpu);
        let ((count, cpu), took) = measured(time, 16, |stop| requests(host, stop));
        report("requests, 16 open", count as f64 / took, "1/s", cpu);
    }
    datapath.shutdown(Duration::from_secs(1));
    Ok(())
}

fn interface() -> InterfaceSpec {
    let listener = |port| Listener { port, targets: vec![SocketAddrV4::new(SERVER, port)] };
    let everybody = "0.0.0.0/0".parse().ok().map(|source| IngressRule {
        source,
        protocol: Protocol::All,
        ports: PortRange::ALL,
    });
    InterfaceSpec {
        id: postern_model::id::NetworkInterfaceId::generate(&mut rand::rng()),
        endpoint_id: postern_model::id::EndpointId::generate(&mut rand::rng()),
        address: FRONT,
        place: Place::Host,
        listeners: vec![listener(SINK), listener(ECHO)],
        ingress: everybody.into_iter().collect(),
        serving: true,
        idle_timeout: Duration::from_secs(350),
        proxy_protocol: false,
        target_place: Place::Host,
        target_source: None,
    }
}

fn serve(port: u16, serve: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind((SERVER, port))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// Runs `work` on `threads` threads for about `time`; returns what they did in all, the processor time
/// of the whole process, and how long it took, in seconds.
fn measured(
    time: Duration,
    threads: usize,
    work: impl Fn(&AtomicBool) -> io::Result<u64> + Sync,
) -> ((u64, f64), f64) {
    let (stop, total) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), processor_seconds());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| match work(&stop) {
                Ok(done) => drop(total.fetch_add(done, Relaxed)),
                Err(error) => eprintln!("a client failed: {error}"),
            });
        }
        thread::sleep(time);
        stop.store(true, Relaxed);
    });
    ((total.into_inner(), processor_seconds() - cpu), began.elapsed().as_secs_f64())
}

fn processor_seconds() -> f64 {
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn bulk(host: Ipv4Addr, stop: &AtomicBool) -> io::Result<u64> {
    let mut stream = TcpStream::connect((host, SINK))?;
    let block = vec![7; 256 * 1024];
    let mut sent = 0;
    while !stop.load(Relaxed) {
        stream.write_all(&block)?;
        sent += block.len() as u64;
    }
    // The server closes when it has read everything: what is counted has arrived.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(sent)
}

fn connections(host: Ipv4Addr, stop: &AtomicBool) -> io::Result<u64> {
    let mut count = 0;
    while !stop.load(Relaxed) {
        request(&mut TcpStream::connect((host, ECHO))?)?;
        count += 1;
    }
    Ok(count)
}

fn requests(host: Ipv4Addr, stop: &AtomicBool) -> io::Result<u64> {
    let mut stream = TcpStream::connect((host, ECHO))?;
    stream.set_nodelay(true)?;
    let mut count = 0;
    while !stop.load(Relaxed) {
        request(&mut stream)?;
        count += 1;
    }
    Ok(count)
}

fn request(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [1; 128];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}
