//! TCP sockets, opened and closed the way a forwarder needs it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

/// Connections that the kernel completes ahead of `accept`, for each worker.
pub(crate) const BACKLOG: i32 = 4_096;
/// Where ports begin that the kernel gives to outgoing connections (as it comes; it can be lower).
const FIRST_EPHEMERAL: u16 = 1_024;

fn open() -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new_raw(Domain::IPV4, kind, Some(Protocol::TCP))
}

/// A listening socket that shares its port with those of the other workers.
pub(crate) fn listen(address: SocketAddrV4, filter: &[SockFilter]) -> io::Result<Socket> {
    let socket = open()?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    // Before `listen`: no SYN may slip through unfiltered.
    socket.attach_filter(filter)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The next connection in the accept queue, not blocking, and who it is from.
pub(crate) fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddrV4)> {
    let (socket, address) = listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    let address = address.as_socket_ipv4().ok_or(io::ErrorKind::InvalidData)?;
    Ok((socket, address))
}

/// Begins to connect to `target`. The outcome is known when the socket becomes writable.
pub(crate) fn dial(target: SocketAddrV4, source: Option<Ipv4Addr>) -> io::Result<Socket> {
    let socket = open()?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen at connect, where the same one can serve for different targets.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(source, 0)))?;
    }
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Whether a connection to `target` met itself: on loopback, the kernel may pick the target's own port
/// as the source port, and a TCP socket that connects to itself succeeds.
pub(crate) fn is_self_connected(socket: &Socket, target: SocketAddrV4) -> bool {
    target.ip().is_loopback()
        && target.port() >= FIRST_EPHEMERAL
        && socket.local_addr().is_ok_and(|local| local.as_socket_ipv4() == Some(target))
}

/// The error that the kernel holds for a connection, taken from it.
pub(crate) fn connection_error(socket: &Socket) -> Option<io::Error> {
    socket.take_error().unwrap_or_else(Some)
}

/// Reads what has come; 0 means that the peer has sent all.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(socket, buffer) {
            Err(nix::errno::Errno::EINTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

/// Sends as much as the kernel takes now.
pub(crate) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match nix::sys::socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Err(nix::errno::Errno::EINTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

/// Closes a connection by RST, never by FIN: the peer has to see that something was cut off.
pub(crate) fn reset(socket: Socket) {
    // Fails only where the connection is gone already, and then there is nothing to reset.
    let _ = socket.set_linger(Some(Duration::ZERO));
}
