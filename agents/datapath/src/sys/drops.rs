//! How many packets a socket did not take, as the kernel counts them.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// `SK_MEMINFO_DROPS` of `linux/sock_diag.h`: the place of the count among the kernel's answers.
const DROPS: usize = 8;
/// `SK_MEMINFO_VARS`: how many there are.
const ANSWERS: usize = 9;

/// Packets that the kernel has dropped at a socket: for a listening one those that its filter did not
/// let in, and those that found its queue full. The count is 32 bits wide and begins again at zero.
pub(crate) fn drops(socket: &Socket) -> io::Result<u32> {
    let mut answers = [0_u32; ANSWERS];
    let mut length = libc::socklen_t::try_from(size_of_val(&answers)).unwrap_or_default();
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes at most
    // `length` bytes to `answers`, which is that long and lives until after the call, and any bytes
    // are a u32.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            answers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(answers[DROPS]) } else { Err(io::Error::last_os_error()) }
}
