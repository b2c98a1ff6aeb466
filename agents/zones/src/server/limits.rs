//! What a client gets: packets in a second, connections at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many clients are told apart within a second. With invented addresses beyond that, the
/// newcomers share one allowance, and those who were there first keep theirs.
const CLIENTS_MAX: usize = 65_536;
const SECOND: Duration = Duration::from_secs(1);

/// Counts the packets of each client from second to second. At the turn of two seconds a client may
/// get through twice its share: what matters is the mean.
pub(super) struct Rate {
    per_second: Option<NonZeroU32>,
    window: Mutex<Window>,
}

struct Window {
    began: Option<Instant>,
    counts: HashMap<IpAddr, u32>,
    newcomers: u32,
}

impl Rate {
    pub(super) fn new(per_second: Option<NonZeroU32>) -> Self {
        let window = Window { began: None, counts: HashMap::new(), newcomers: 0 };
        Self { per_second, window: Mutex::new(window) }
    }

    /// Whether a packet of this client's is taken.
    pub(super) fn allows(&self, client: IpAddr, now: Instant) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let mut window = lock(&self.window);
        let fresh = window.began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND);
        if fresh {
            window.began = Some(now);
            window.newcomers = 0;
            if window.counts.capacity() > CLIENTS_MAX / 8 {
                // The room of one wild second is not kept for good.
                window.counts = HashMap::new();
            } else {
                window.counts.clear();
            }
        }
        let full = window.counts.len() >= CLIENTS_MAX;
        let count = match window.counts.get_mut(&client) {
            Some(count) => count,
            None if full => {
                window.newcomers = window.newcomers.saturating_add(1);
                return window.newcomers <= per_second.get();
            }
            None => window.counts.entry(client).or_default(),
        };
        *count = count.saturating_add(1);
        *count <= per_second.get()
    }
}

/// Counts the open connections, in all and of each client.
pub(super) struct Connections {
    most: usize,
    most_per_client: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    clients: HashMap<IpAddr, usize>,
}

impl Connections {
    pub(super) fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_client, open: Mutex::default() })
    }

    /// A place for one more connection of this client's, held until it is dropped.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut open = lock(&self.open);
        let of_client = open.clients.get(&client).copied().unwrap_or(0);
        if open.all >= self.most || of_client >= self.most_per_client {
            return None;
        }
        open.all += 1;
        open.clients.insert(client, of_client + 1);
        Some(Place { connections: Arc::clone(self), client })
    }
}

/// A place among the connections.
pub(super) struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.connections.open);
        open.all = open.all.saturating_sub(1);
        let left = open.clients.get_mut(&self.client).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            open.clients.remove(&self.client);
        }
    }
}

/// The counts are whole after every statement, so that a panic elsewhere spoils none.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn each_client_has_its_share_of_every_second() {
        let rate = Rate::new(NonZeroU32::new(3));
        let start = Instant::now();
        let taken = |last, now| (0..10).filter(|_| rate.allows(client(last), now)).count();
        assert_eq!(taken(1, start), 3);
        assert_eq!(taken(2, start + Duration::from_millis(500)), 3);
        assert_eq!(taken(1, start + Duration::from_millis(999)), 0);
        assert_eq!(taken(1, start + SECOND), 3);
    }

    #[test]
    fn without_a_share_everything_is_taken() {
        let rate = Rate::new(None);
        assert!((0..10_000).all(|_| rate.allows(client(1), Instant::now())));
    }

    #[test]
    fn invented_addresses_take_nothing_from_clients_that_were_there() {
        let rate = Rate::new(NonZeroU32::new(2));
        let start = Instant::now();
        assert!(rate.allows(client(1), start));
        let invented =
            (0..CLIENTS_MAX as u32 * 2).map(|n| IpAddr::from((n | 1 << 31).to_be_bytes()));
        let taken = invented.filter(|address| rate.allows(*address, start)).count();
        assert_eq!(taken, CLIENTS_MAX - 1 + 2);
        assert!(rate.allows(client(1), start));
    }

    #[test]
    fn connections_are_bounded_in_all_and_for_each_client() {
        let connections = Connections::new(3, 2);
        let first = connections.admit(client(1));
        let _second = connections.admit(client(1));
        assert!(first.is_some() && connections.admit(client(1)).is_none());
        let _third = connections.admit(client(2));
        assert!(connections.admit(client(3)).is_none());
        drop(first);
        assert!(connections.admit(client(3)).is_some());
    }
}
