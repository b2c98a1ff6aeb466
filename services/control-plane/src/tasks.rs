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

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::pokes::Poke;

/// Waits until `pause` is over, or until a poke that `wanted` wants. `false` when the process has no
/// pokes any more, which is its end.
async fn pause(
    pokes: &mut Receiver<Poke>,
    pause: Duration,
    wanted: impl Fn(&Poke) -> bool,
) -> bool {
    let until = Instant::now() + pause;
    loop {
        tokio::select! {
            () = sleep_until(until) => return true,
            poke = pokes.recv() => match poke {
                Ok(poke) if !wanted(&poke) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            },
        }
    }
}
