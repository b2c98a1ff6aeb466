//! Pokes between replicas, by LISTEN and NOTIFY on one channel.
//!
//! A NOTIFY takes a lock on the whole database at its commit, so none is sent in a business
//! transaction (design 2): pokes gather for some milliseconds and go out together, on their own. A
//! notification that is lost costs the time until the next timer, and no more.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use postern_runtime::backoff::Backoff;
use postern_runtime::shutdown::Stop;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::pokes::{Poke, Pokes};
use crate::store::Store;

/// The channel, which `schema/notify.sql` names too.
const CHANNEL: &str = "postern_control_plane";
/// How long pokes gather.
const GATHER: Duration = Duration::from_millis(20);
/// Postgres takes a payload of less than 8000 bytes.
const PAYLOAD_MAX: usize = 7900;
/// For a notification to be taken; a later one says as much.
const PATIENCE: Duration = Duration::from_secs(3);

/// Carries pokes both ways until `stop` is asked for.
pub async fn run(store: Store, pokes: Pokes, stop: Stop) {
    let me = Uuid::new_v4();
    let local = pokes.listen_local();
    tokio::select! {
        () = stop.stopped() => {}
        () = send(&store, local, me) => {}
        () = receive(&store, &pokes, me) => {}
    }
}

/// Tells the other replicas what this one says.
async fn send(store: &Store, mut local: Receiver<Poke>, me: Uuid) {
    loop {
        let mut gathered = HashSet::new();
        match local.recv().await {
            Ok(poke) => gathered.insert(poke),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        sleep(GATHER).await;
        while let Ok(poke) = local.try_recv() {
            gathered.insert(poke);
        }
        for payload in payloads(me, &gathered) {
            let sent = store.notify(&payload);
            match timeout(PATIENCE, sent).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => debug!(%error, "a poke did not reach the other replicas"),
                Err(_) => debug!("a poke did not reach the other replicas in time"),
            }
        }
    }
}

/// Passes on here what the other replicas say.
async fn receive(store: &Store, pokes: &Pokes, me: Uuid) {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for attempt in 0_u32.. {
        match listen(store, pokes, me).await {
            Ok(never) => match never {},
            Err(error) => warn!(%error, "word of other replicas is not heard, timers go on"),
        }
        let delay = backoff.delay(attempt, &mut rand::rng());
        sleep(delay).await;
    }
}

enum Never {}

async fn listen(store: &Store, pokes: &Pokes, me: Uuid) -> sqlx::Result<Never> {
    let mut listener = PgListener::connect_with(store.pool()).await?;
    listener.listen(CHANNEL).await?;
    // What was said before this may have been missed.
    pokes.relay(Poke::Outbox);
    pokes.relay(Poke::Reconcile);
    loop {
        let notification = listener.recv().await?;
        for poke in parse(notification.payload(), me) {
            pokes.relay(poke);
        }
    }
}

/// The pokes as texts of at most [`PAYLOAD_MAX`] bytes, each with who says it first.
fn payloads(me: Uuid, pokes: &HashSet<Poke>) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut payload = me.to_string();
    for poke in pokes {
        let mut word = String::new();
        // Writing to memory can't fail.
        let _ = match poke {
            Poke::Host(host) => write!(word, ",h:{host}"),
            Poke::Endpoint(owner, endpoint) => write!(word, ",e:{owner}:{endpoint}"),
            Poke::Outbox => write!(word, ",o"),
            Poke::Reconcile => write!(word, ",r"),
        };
        if payload.len() + word.len() > PAYLOAD_MAX {
            payloads.push(std::mem::replace(&mut payload, me.to_string()));
        }
        payload.push_str(&word);
    }
    payloads.push(payload);
    payloads
}

/// The pokes of a payload that somebody else sent. What a newer version says and this one does not
/// know is left out.
fn parse(payload: &str, me: Uuid) -> Vec<Poke> {
    let mut words = payload.split(',');
    if words.next() == Some(me.to_string().as_str()) {
        return Vec::new();
    }
    let poke = |word: &str| match word.split_once(':') {
        None if word == "o" => Some(Poke::Outbox),
        None if word == "r" => Some(Poke::Reconcile),
        Some(("h", host)) => host.parse().ok().map(Poke::Host),
        Some(("e", endpoint)) => {
            let (owner, endpoint) = endpoint.split_once(':')?;
            Some(Poke::Endpoint(owner.parse().ok()?, endpoint.parse().ok()?))
        }
        _ => None,
    };
    words.filter_map(poke).collect()
}

#[cfg(test)]
mod tests {
    use postern_model::id::HostId;

    use super::*;

    #[test]
    fn pokes_cross_in_payloads_that_postgres_takes_and_are_not_heard_by_their_sender() {
        let mut pokes: HashSet<_> =
            (0..1000).map(|_| Poke::Host(HostId::generate(&mut rand::rng()))).collect();
        pokes.insert(Poke::Outbox);
        pokes.insert(Poke::Reconcile);
        let owner = "111122223333".parse().unwrap();
        pokes.insert(Poke::Endpoint(owner, "vpce-0a1b2c3d4e5f60718".parse().unwrap()));
        let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
        let payloads = payloads(me, &pokes);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let heard: HashSet<_> = payloads.iter().flat_map(|payload| parse(payload, other)).collect();
        assert_eq!(heard, pokes);
        assert!(payloads.iter().all(|payload| parse(payload, me).is_empty()));
    }

    #[test]
    fn words_of_a_newer_version_are_left_out() {
        let payload = format!("{},x:1,o,h:nonsense,e:1", Uuid::new_v4());
        assert_eq!(parse(&payload, Uuid::new_v4()), [Poke::Outbox]);
    }
}
