//! Pokes: word that something changed, so that nobody has to wait for the timer.
//!
//! A poke is sent after the commit, never in the transaction (design 2), says nothing but where to
//! look, and may be lost: everyone who listens looks on a timer too. It wakes those whom it concerns:
//! the streams of one host, the watches of one account, one task. So a change costs the same however
//! many hosts and watches there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_model::AccountId;
use postern_model::id::{EndpointId, HostId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How many pokes the one that tells the other replicas may be behind.
const BACKLOG: usize = 4096;
/// How many changes of an account's endpoints a watch may be behind before it must look everywhere.
const ENDPOINTS_BACKLOG: usize = 64;

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
/// other replicas; see [`crate::tasks`]. Clones share it.
#[derive(Clone, Debug)]
pub struct Pokes {
    hub: Arc<Hub>,
    local: broadcast::Sender<Poke>,
    ended: CancellationToken,
}

/// Who listens, by what they listen to. Nobody has a place here for longer than they listen.
#[derive(Debug)]
struct Hub {
    hosts: Mutex<HashMap<HostId, watch::Sender<()>>>,
    accounts: Mutex<HashMap<AccountId, broadcast::Sender<EndpointId>>>,
    watches: AtomicUsize,
    outbox: watch::Sender<()>,
    reconcile: watch::Sender<()>,
}

impl Default for Pokes {
    fn default() -> Self {
        let hub = Hub {
            hosts: Mutex::default(),
            accounts: Mutex::default(),
            watches: AtomicUsize::new(0),
            outbox: watch::Sender::new(()),
            reconcile: watch::Sender::new(()),
        };
        Self {
            hub: Arc::new(hub),
            local: broadcast::channel(BACKLOG).0,
            ended: CancellationToken::new(),
        }
    }
}

impl Pokes {
    /// Something changed here: whom it concerns in this process hears of it, and the other replicas do.
    pub fn poke(&self, poke: Poke) {
        self.relay(poke);
        // Nobody listening is fine: there are timers.
        let _ = self.local.send(poke);
    }

    /// Another replica said that something changed.
    pub fn relay(&self, poke: Poke) {
        match poke {
            Poke::Host(host) => {
                if let Some(sender) = locked(&self.hub.hosts).get(&host) {
                    sender.send_replace(());
                }
            }
            Poke::Endpoint(owner, endpoint) => {
                if let Some(sender) = locked(&self.hub.accounts).get(&owner) {
                    let _ = sender.send(endpoint);
                }
            }
            Poke::Outbox => self.hub.outbox.send_replace(()),
            Poke::Reconcile => self.hub.reconcile.send_replace(()),
        }
    }

    /// This process stops: streams that wait for word end, so that the calls they answer can.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until [`Pokes::end`].
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// That the desired state of `host` changes, from now on.
    pub fn of_host(&self, host: HostId) -> HostPokes {
        let mut hosts = locked(&self.hub.hosts);
        let heard = hosts.entry(host).or_insert_with(|| watch::Sender::new(())).subscribe();
        HostPokes { hub: Arc::clone(&self.hub), host, heard: Some(heard) }
    }

    /// Which endpoints of `account` change, from now on; `None` when as many as `most` wait for word
    /// of endpoints already.
    pub fn of_account(&self, account: AccountId, most: usize) -> Option<AccountPokes> {
        let admit = |open| (open < most).then_some(open + 1);
        self.hub.watches.fetch_update(Relaxed, Relaxed, admit).ok()?;
        let mut accounts = locked(&self.hub.accounts);
        let sender =
            accounts.entry(account).or_insert_with(|| broadcast::channel(ENDPOINTS_BACKLOG).0);
        let heard = Some(sender.subscribe());
        Some(AccountPokes { hub: Arc::clone(&self.hub), account, heard })
    }

    /// That something is in the outbox, from now on.
    pub fn of_outbox(&self) -> TaskPokes {
        TaskPokes(self.hub.outbox.subscribe())
    }

    /// That the reconcilers have work, from now on.
    pub fn of_reconcilers(&self) -> TaskPokes {
        TaskPokes(self.hub.reconcile.subscribe())
    }

    /// What this process alone says from now on, for telling the other replicas. A `Lagged` error
    /// means that some of it was missed.
    pub fn listen_local(&self) -> broadcast::Receiver<Poke> {
        self.local.subscribe()
    }

    /// How many hosts and accounts somebody listens to.
    pub fn places(&self) -> (usize, usize) {
        (locked(&self.hub.hosts).len(), locked(&self.hub.accounts).len())
    }
}

/// Word of one host. Several pokes that nobody waited for are one.
#[derive(Debug)]
pub struct HostPokes {
    hub: Arc<Hub>,
    host: HostId,
    /// There until it is dropped.
    heard: Option<watch::Receiver<()>>,
}

impl HostPokes {
    /// Waits for the next poke.
    pub async fn next(&mut self) {
        wait(self.heard.as_mut()).await;
    }
}

impl Drop for HostPokes {
    fn drop(&mut self) {
        let mut hosts = locked(&self.hub.hosts);
        self.heard = None;
        if hosts.get(&self.host).is_some_and(|sender| sender.receiver_count() == 0) {
            hosts.remove(&self.host);
        }
    }
}

/// Word of one account's endpoints.
#[derive(Debug)]
pub struct AccountPokes {
    hub: Arc<Hub>,
    account: AccountId,
    /// There until it is dropped.
    heard: Option<broadcast::Receiver<EndpointId>>,
}

/// Which endpoints changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// This one.
    One(EndpointId),
    /// More than were kept: look at all.
    Any,
}

impl AccountPokes {
    /// Waits for the next poke.
    pub async fn next(&mut self) -> Changed {
        let Some(heard) = self.heard.as_mut() else { return std::future::pending().await };
        match heard.recv().await {
            Ok(endpoint) => Changed::One(endpoint),
            Err(broadcast::error::RecvError::Lagged(_)) => Changed::Any,
            // Its sender has a place for as long as this listens.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// A poke that came meanwhile.
    pub fn try_next(&mut self) -> Option<Changed> {
        match self.heard.as_mut()?.try_recv() {
            Ok(endpoint) => Some(Changed::One(endpoint)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Changed::Any),
            Err(_) => None,
        }
    }
}

impl Drop for AccountPokes {
    fn drop(&mut self) {
        let mut accounts = locked(&self.hub.accounts);
        self.heard = None;
        self.hub.watches.fetch_sub(1, Relaxed);
        if accounts.get(&self.account).is_some_and(|sender| sender.receiver_count() == 0) {
            accounts.remove(&self.account);
        }
    }
}

/// Word for a task. Several pokes that it did not wait for are one.
#[derive(Debug)]
pub struct TaskPokes(watch::Receiver<()>);

impl TaskPokes {
    /// Waits for the next poke.
    pub async fn next(&mut self) {
        wait(Some(&mut self.0)).await;
    }
}

/// Waits for a change; for ever when there will be none, since those who wait have a timer beside it.
async fn wait(heard: Option<&mut watch::Receiver<()>>) {
    let changed = match heard {
        Some(heard) => heard.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

fn locked<K: Eq + Hash, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn host() -> HostId {
        HostId::generate(&mut rand::rng())
    }

    fn endpoint() -> EndpointId {
        EndpointId::generate(&mut rand::rng())
    }

    #[tokio::test]
    async fn a_poke_wakes_whom_it_concerns_and_nobody_else() {
        let pokes = Pokes::default();
        let (one, other) = (host(), host());
        let (mut first, mut again, mut stranger) =
            (pokes.of_host(one), pokes.of_host(one), pokes.of_host(other));
        let (mut outbox, mut work) = (pokes.of_outbox(), pokes.of_reconcilers());
        pokes.poke(Poke::Host(one));
        pokes.relay(Poke::Host(one));
        first.next().await;
        again.next().await;
        assert!(first.next().now_or_never().is_none(), "two that nobody waited for are one");
        assert!(stranger.next().now_or_never().is_none());
        assert!(outbox.next().now_or_never().is_none());
        pokes.poke(Poke::Outbox);
        tokio::time::timeout(Duration::from_secs(5), outbox.next()).await.unwrap();
        assert!(work.next().now_or_never().is_none());
        pokes.poke(Poke::Reconcile);
        work.next().await;
    }

    #[tokio::test]
    async fn a_watch_hears_of_its_accounts_endpoints_and_that_it_missed_some() {
        let pokes = Pokes::default();
        let (mine, theirs) = ("111122223333".parse().unwrap(), "444455556666".parse().unwrap());
        let mut watch = pokes.of_account(mine, 1).unwrap();
        assert!(pokes.of_account(theirs, 1).is_none(), "one may listen");
        let changed = endpoint();
        pokes.poke(Poke::Endpoint(theirs, endpoint()));
        pokes.poke(Poke::Endpoint(mine, changed));
        assert_eq!(watch.next().await, Changed::One(changed));
        assert_eq!(watch.try_next(), None);
        for _ in 0..=ENDPOINTS_BACKLOG {
            pokes.poke(Poke::Endpoint(mine, changed));
        }
        assert_eq!(watch.next().await, Changed::Any);
        drop(watch);
        assert!(pokes.of_account(theirs, 1).is_some());
    }

    #[test]
    fn nobody_has_a_place_for_longer_than_they_listen() {
        let pokes = Pokes::default();
        let account = "111122223333".parse().unwrap();
        let listening = (pokes.of_host(host()), pokes.of_account(account, 9).unwrap());
        let again = pokes.of_account(account, 9).unwrap();
        assert_eq!(pokes.places(), (1, 1));
        drop(listening);
        assert_eq!(pokes.places(), (0, 1));
        drop(again);
        assert_eq!(pokes.places(), (0, 0));
    }
}
