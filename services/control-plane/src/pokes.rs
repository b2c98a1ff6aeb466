//! Pokes: word that something changed, so that nobody has to wait for the timer.
//!
//! A poke is sent after the commit, never in the transaction (design 2), says nothing but where to
//! look, and may be lost: everyone who listens looks on a timer too.

use postern_model::AccountId;
use postern_model::id::{EndpointId, HostId};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// How many pokes a slow listener may be behind before it must look everywhere.
const BACKLOG: usize = 4096;

/// Where something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Poke {
    /// The desired state of a host.
    Host(HostId),
    /// An endpoint of an account.
    Endpoint(AccountId, EndpointId),
    /// There is something in the outbox.
    Outbox,
    /// An endpoint, an interface or a host is on its way somewhere: the reconcilers have work.
    Reconcile,
}

/// Sends pokes, and lets them be heard, within this process. `local` pokes are also told to the
/// other replicas; see [`crate::tasks`].
#[derive(Clone, Debug)]
pub struct Pokes {
    heard: broadcast::Sender<Poke>,
    local: broadcast::Sender<Poke>,
    ended: CancellationToken,
}

impl Default for Pokes {
    fn default() -> Self {
        Self {
            heard: broadcast::channel(BACKLOG).0,
            local: broadcast::channel(BACKLOG).0,
            ended: CancellationToken::new(),
        }
    }
}

impl Pokes {
    /// Something changed here: everyone in this process hears of it, and the other replicas do.
    pub fn poke(&self, poke: Poke) {
        // Nobody listening is fine: there are timers.
        let _ = self.heard.send(poke);
        let _ = self.local.send(poke);
    }

    /// Another replica said that something changed.
    pub fn relay(&self, poke: Poke) {
        let _ = self.heard.send(poke);
    }

    /// This process stops: streams that wait for word end, so that the calls they answer can.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until [`Pokes::end`].
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// What anyone says from now on. A `Lagged` error means: look everywhere.
    pub fn listen(&self) -> broadcast::Receiver<Poke> {
        self.heard.subscribe()
    }

    /// How many listen within this process.
    pub fn listeners(&self) -> usize {
        self.heard.receiver_count()
    }

    /// What this process alone says from now on, for telling the other replicas.
    pub fn listen_local(&self) -> broadcast::Receiver<Poke> {
        self.local.subscribe()
    }
}
