//! The control plane: it owns accounts, networks, endpoint services and endpoints, and tells every
//! host what to do.
//!
//! A request takes one way in: `api` reads it and knows who asks, `app` decides in one transaction,
//! `store` writes. What follows from a commit leaves on its own ways: to the bus by the outbox
//! (`tasks`), to the hosts by their streams (`fleet`). Replicas are equal and keep nothing to
//! themselves: Postgres is the one source of truth (design 1).

pub mod api;
pub mod app;
pub mod caller;
pub mod config;
pub mod error;
pub mod fleet;
pub mod pokes;
pub mod run;
pub mod store;
pub mod tasks;
pub mod topics;

pub use error::Error;
