//! The dispatcher: topics, their policies and subscriptions, and the deliveries to them.
//!
//! Endpoint events come in from the bus ([`consume`]), or messages from principals over gRPC
//! ([`api`]). What a topic lets in becomes a message with a delivery for each confirmed subscription
//! ([`app`], [`store`]), and deliveries are tried by [`plan`] until they are taken or given up
//! ([`deliver`]). Everything is in Postgres: replicas are equal, and a crash loses nothing.
//!
//! [`Dispatcher`] is the whole of it without a process around: `postern dev` composes it with the
//! control plane, and [`process::run`] is what the `postern-dispatcher` program does.

pub mod api;
pub mod app;
pub mod caller;
pub mod config;
pub mod consume;
pub mod deliver;
pub mod digests;
mod dispatcher;
pub mod error;
pub mod fanout;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod outcomes;
pub mod plan;
pub mod process;
pub mod remote;
mod repeat;
pub mod store;
pub mod sweep;

pub use dispatcher::{Dispatcher, Surroundings};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A generator that can be kept over an await, which a thread's own cannot.
pub(crate) fn randomness() -> StdRng {
    StdRng::seed_from_u64(rand::rng().random())
}
