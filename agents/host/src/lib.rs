//! The host agent: it follows the desired state of its host, makes it so, and reports.
//!
//! `session` talks to the control plane, `held` keeps the last state on disk (as a snapshot and a
//! `ledger` of changes), `apply` makes the host do it: addresses by `addresses`, sockets by the datapath, names by `resolvers`. The agent needs the
//! control plane only for changes: it starts from what it holds, and goes on with that for as long as
//! nobody answers (design 5).

pub mod addresses;
pub mod apply;
pub mod config;
pub mod enrol;
pub mod held;
pub mod ledger;
pub mod metrics;
pub mod resolvers;
pub mod run;
pub mod session;

pub use config::AgentConfig;
pub use run::run;
