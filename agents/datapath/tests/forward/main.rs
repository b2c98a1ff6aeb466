//! The data plane between real sockets, on loopback: what a client and a target see.

// Helpers of tests may fail like tests; clippy only knows the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod control;
mod endings;
mod groups;
mod namespaces;
mod passing;
mod support;
mod targets;
