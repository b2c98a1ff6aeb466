//! What the control plane does by itself: events leave the outbox ([`relay`]), the database's
//! intentions become true ([`reconcile`]), and word of changes crosses replicas ([`poke_bridge`]).
//!
//! Each of these is a pass that is told nothing: run on a timer, and at once when poked (style 15).
//! Those that only one replica should do at a time hold a lease ([`crate::store::lease`]); it saves
//! double work and nothing relies on it, but for the relay, whose writes name its token.

pub mod amqp;
pub mod database;
pub mod poke_bridge;
pub mod reconcile;
pub mod relay;

use std::time::Duration;

use tokio::time::timeout;

use crate::pokes::TaskPokes;

/// Waits until `pause` is over, or until the next poke.
async fn pause(pokes: &mut TaskPokes, pause: Duration) {
    let _ = timeout(pause, pokes.next()).await;
}
