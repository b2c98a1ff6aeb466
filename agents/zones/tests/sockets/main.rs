//! The resolver at its sockets, asked by clients that share no code with it.

// The exception for tests in clippy.toml knows test functions, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dig;
mod forward;
mod server;
mod support;
