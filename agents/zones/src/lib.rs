//! The resolvers of the VPCs (design 12): immutable answers and the server round them.
//!
//! [`Zones`] is everything that one VPC knows about names, as a value that never changes: asking it is
//! a pure function. [`ZoneHandle`] is the place where the current value of a VPC lies; a new one is put
//! there whole, so that no query sees half of a change. [`Server`] has the sockets of one VPC's
//! resolver: what the value knows, it answers by itself without waiting for anything; the rest goes
//! through [`Forward`] to the resolvers of the outside world.
//!
//! Packets are read and written here rather than by hickory, whose server spends ten times as long on
//! a query; hickory is the client of the other resolvers, where the network takes the time. This crate
//! knows nothing of the data path, of gRPC or of a database.

mod forward;
mod handle;
mod metrics;
mod name;
pub mod packet;
mod server;
mod zones;

pub use forward::{Forward, ForwardConfig, ForwardError, Upstreams};
pub use handle::ZoneHandle;
pub use metrics::{Ending, Metrics};
pub use name::{MalformedName, Name};
pub use server::{Limits, Server, Sockets, StartError};
pub use zones::{
    Addresses, Alias, Answer, Builder, Outcome, RecordType, Refused, TTL_SECONDS, Zone, Zones,
};
