//! Clients, targets and interfaces that do the usual thing unless a test says otherwise.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_datapath::{Config, Datapath, Ending, InterfaceSpec, InterfaceUsage, Listener, Place};
use postern_model::id::NetworkInterfaceId;
use postern_model::security::{IngressRule, PortRange, Protocol};
use socket2::{Domain, SockFilter, Socket, Type};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The port of the interface, unless a test says otherwise.
pub(crate) const PORT: u16 = 8443;

/// An address of 127.0.0.0/8 that no other test uses.
pub(crate) fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Two runs at once on one machine do not meet either, as a rule.
    let run = 64 + std::process::id() % 128;
    Ipv4Addr::from(0x7f00_0000 | run << 16 | NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn start() -> Datapath {
    start_with(|_| {})
}

pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Datapath {
    let mut config = Config { workers: NonZeroUsize::new(2), ..Config::default() };
    change(&mut config);
    Datapath::start(config).unwrap()
}

/// A serving interface that everybody may connect to, with one port.
pub(crate) fn interface(targets: &[SocketAddrV4]) -> InterfaceSpec {
    InterfaceSpec {
        id: NetworkInterfaceId::generate(&mut rand::rng()),
        endpoint_id: "vpce-0a1b2c3d4e5f60718".parse().unwrap(),
        address: address(),
        place: Place::Host,
        listeners: vec![Listener { port: PORT, targets: targets.to_vec() }],
        ingress: vec![rule("0.0.0.0/0", PortRange::ALL)],
        serving: true,
        idle_timeout: Duration::from_secs(350),
        proxy_protocol: false,
        target_place: Place::Host,
        target_source: None,
    }
}

pub(crate) fn rule(source: &str, ports: PortRange) -> IngressRule {
    IngressRule { source: source.parse().unwrap(), protocol: Protocol::Tcp, ports }
}

pub(crate) fn front(spec: &InterfaceSpec) -> SocketAddrV4 {
    SocketAddrV4::new(spec.address, PORT)
}

/// A client's connection. Whatever it waits for, it does not wait forever.
pub(crate) fn connect(to: SocketAddrV4) -> TcpStream {
    patient(TcpStream::connect_timeout(&to.into(), PATIENCE).unwrap())
}

pub(crate) fn connect_from(
    source: Ipv4Addr,
    to: SocketAddrV4,
    within: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&to.into(), within)?;
    Ok(patient(socket.into()))
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A listener whose connections the test accepts itself.
pub(crate) fn target() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((address(), 0)).unwrap();
    let SocketAddr::V4(at) = listener.local_addr().unwrap() else { panic!("an IPv4 listener") };
    (listener, at)
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = wait_for("a connection at the target", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    patient(stream)
}

/// A target that runs `serve` on each connection, on a thread of its own.
pub(crate) fn serve(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddrV4 {
    let (listener, at) = target();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(patient(stream)));
        }
    });
    at
}

/// A target that sends back what it gets, and its end after the client's.
pub(crate) fn echo() -> SocketAddrV4 {
    serve(|stream| {
        let _ = io::copy(&mut &stream, &mut &stream);
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// A target that says its name and closes.
pub(crate) fn named(name: &'static str) -> SocketAddrV4 {
    serve(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
    })
}

/// An address that refuses connections.
pub(crate) fn refusing() -> SocketAddrV4 {
    SocketAddrV4::new(address(), 9)
}

/// A target that never answers: its filter drops every packet.
pub(crate) fn hanging() -> (Socket, SocketAddrV4) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address(), 0)).into()).unwrap();
    socket
        .attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])
        .unwrap();
    socket.listen(16).unwrap();
    let at = socket.local_addr().unwrap().as_socket_ipv4().unwrap();
    (socket, at)
}

/// Makes the stream's end a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Asserts that the peer has reset the connection, after whatever bytes were under way.
pub(crate) fn assert_reset(stream: &mut TcpStream) {
    let outcome = stream.read_to_end(&mut Vec::new());
    let kind = outcome.as_ref().map_err(io::Error::kind);
    assert_eq!(kind.unwrap_err(), io::ErrorKind::ConnectionReset, "{outcome:?}");
}

/// Asserts that a new connection is reset. The client may learn of it before `connect` returns.
pub(crate) fn assert_connects_to_a_reset(to: SocketAddrV4) {
    match TcpStream::connect_timeout(&to.into(), PATIENCE) {
        Ok(stream) => assert_reset(&mut patient(stream)),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Sends a word and reads it back.
pub(crate) fn assert_echo(stream: &mut TcpStream) {
    stream.write_all(b"a word").unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"a word");
}

pub(crate) fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::yield_now();
    }
}

pub(crate) fn usage(datapath: &Datapath, spec: &InterfaceSpec) -> InterfaceUsage {
    datapath.usage().into_iter().find(|usage| usage.id == spec.id).unwrap()
}

/// Waits until as many flows have ended in one way as expected, and none is open.
pub(crate) fn assert_ended(datapath: &Datapath, spec: &InterfaceSpec, ending: Ending, count: u64) {
    let usage = wait_for("all flows to end", || {
        Some(usage(datapath, spec)).filter(|usage| usage.open == 0 && usage.accepted > 0)
    });
    assert_eq!(usage.ended[&ending], count, "{usage:?}");
    assert_eq!(usage.ended.values().sum::<u64>(), usage.accepted, "{usage:?}");
}

/// Bytes that look random and are the same for the same seed (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
