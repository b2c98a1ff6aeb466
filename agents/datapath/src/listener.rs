//! The listening sockets of an interface's port: one for each worker, all with the same filter.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use socket2::{SockFilter, Socket};

use crate::filter::SourceSet;
use crate::interface::Interface;
use crate::spec::{BindFailure, Place};
use crate::sys::{self, Namespace};

/// Names a listening socket within a data plane. Never used twice.
pub(crate) type ListeningId = u64;

/// One worker's listening socket.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) id: ListeningId,
    pub(crate) interface: Arc<Interface>,
    pub(crate) port: u16,
    pub(crate) socket: Socket,
}

/// Compiles the filter of a port.
pub(crate) fn compile(sources: &SourceSet, port: u16) -> Result<Vec<SockFilter>, BindFailure> {
    let program = sources.program().map_err(|source| BindFailure::Filter { port, source })?;
    Ok(program.into_iter().map(SockFilter::from).collect())
}

/// Opens a port's sockets, `count` of them, in `namespace`, or in the caller's own when there is none.
pub(crate) fn open(
    address: SocketAddrV4,
    place: &Place,
    namespace: Option<&Namespace>,
    filter: &[SockFilter],
    count: usize,
) -> Result<Vec<Socket>, BindFailure> {
    let open = || (0..count).map(|_| sys::listen(address, filter)).collect();
    let opened: io::Result<Vec<Socket>> = match namespace {
        None => open(),
        Some(namespace) => sys::within(namespace, open),
    };
    opened.map_err(|source| failure(source, address, place))
}

/// Checks that an address is there, without listening.
pub(crate) fn probe(
    address: SocketAddrV4,
    place: &Place,
    namespace: Option<&Namespace>,
) -> Result<(), BindFailure> {
    let bind = || std::net::UdpSocket::bind(SocketAddrV4::new(*address.ip(), 0)).map(drop);
    let bound = match namespace {
        None => bind(),
        Some(namespace) => sys::within(namespace, bind),
    };
    bound.map_err(|source| failure(source, address, place))
}

/// Replaces the filter of a socket that is listening; the kernel does it between two packets.
pub(crate) fn refilter(listening: &Listening, filter: &[SockFilter]) -> Result<(), BindFailure> {
    listening.socket.attach_filter(filter).map_err(|source| BindFailure::System {
        what: format!("setting the filter of port {}", listening.port),
        source,
    })
}

fn failure(source: io::Error, address: SocketAddrV4, place: &Place) -> BindFailure {
    match (source.raw_os_error(), place) {
        (Some(libc::EADDRNOTAVAIL), _) => {
            BindFailure::NoSuchAddress { address: *address.ip(), place: place.clone() }
        }
        (Some(libc::EADDRINUSE), _) => BindFailure::InUse(address),
        (Some(libc::EPERM), Place::Namespace(path)) => {
            BindFailure::Namespace { path: path.clone(), source }
        }
        (Some(libc::EACCES | libc::EPERM), _) => {
            BindFailure::NotPermitted { what: format!("listen on {address}"), source }
        }
        _ => BindFailure::System { what: format!("listening on {address}"), source },
    }
}
