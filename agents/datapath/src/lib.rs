//! The data plane: TCP connections from a consumer's interface to a provider's targets.
//!
//! A [`Datapath`] owns a few OS threads, the *workers*. Each has an epoll instance, its own listening
//! socket for every port of every interface (`SO_REUSEPORT`), and the *flows* that it accepted: a flow
//! is a client's connection, the connection to a target, and the bytes between them. Whoever commands
//! the data plane describes an interface whole ([`InterfaceSpec`]) and applies it; applying the same
//! description again changes nothing, and what can change under a live flow does.
//!
//! Security groups are held by the kernel: each listener carries a classic BPF filter compiled from
//! the rules ([`filter`]), so that a SYN that no rule allows gets no answer at all. Flows are
//! stateful: a rule that goes away takes no accepted connection with it.
//!
//! Three ways for a connection to end are kept apart everywhere: by a peer, by policy, by shutdown
//! ([`Ending`]). An idle connection costs its sockets and one small entry; a buffer is held only while
//! one side does not take what the other has sent.
//!
//! Architecture invariant: this crate knows sockets and the model, and nothing of gRPC, databases, DNS
//! or async runtimes. [`Datapath`]'s methods block; call them from a thread that may.

// One system call that no wrapper has, in `sys::drops`; what else the kernel is asked is safe.
#![deny(unsafe_code)]

mod datapath;
pub mod filter;
mod flow;
mod interface;
mod listener;
mod metrics;
pub mod proxy_protocol;
mod spec;
mod sys;
mod wheel;
mod worker;

pub use datapath::Datapath;
pub use interface::{InterfaceUsage, TargetFailures};
pub use metrics::{ConnectFailure, Ending, Metrics, RefusedReason};
pub use spec::{BindFailure, Bound, Config, CutReason, InterfaceSpec, Listener, Place};
