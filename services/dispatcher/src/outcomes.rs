//! Tells the control plane what topics said to notifications: three denials in a row disable one
//! (spec 7). The outcomes were stored with the decisions, so a crash loses none; a report may be made
//! twice, which changes nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern_model::id::NotificationId;
use postern_runtime::backoff::Backoff;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;
use uuid::Uuid;

use crate::error::{Cause, Error};
use crate::store::{Store, outcomes};

/// What a topic said to a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The notification.
    pub notification: NotificationId,
    /// The event that was to be published.
    pub event: Uuid,
    /// Why the topic did not take it; `None` when it did.
    pub denied: Option<String>,
}

/// Where outcomes are reported: the control plane.
#[async_trait]
pub trait Outcomes: Send + Sync {
    /// Reports one outcome. A repeat changes nothing.
    ///
    /// # Errors
    /// When the control plane is away, or cannot take it now: it is reported again later.
    async fn report(&self, outcome: &Outcome) -> Result<(), Cause>;
}

const AWAY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// How often to look when nobody pokes.
const POLL: Duration = Duration::from_secs(5);
const BATCH: i64 = 100;

/// Reports outcomes until asked to stop.
pub(crate) async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    to: Arc<dyn Outcomes>,
    decided: Arc<Notify>,
    stop: Stop,
) -> anyhow::Result<()> {
    let mut away = AWAY.delays(crate::randomness());
    while !stop.is_stopping() {
        let poked = decided.notified();
        let wait = match pass(&store, clock.as_ref(), to.as_ref()).await {
            Ok(reported) => {
                away.reset();
                if reported == BATCH as usize {
                    continue;
                }
                POLL
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!(error = format!("{error:#}"), "cannot report outcomes, trying again");
                // A poke says that there is more to report, not that the control plane is back.
                tokio::select! {
                    () = sleep(away.next().unwrap_or(AWAY.max)) => {}
                    () = stop.stopped() => {}
                }
                continue;
            }
        };
        tokio::select! {
            () = poked => {}
            () = sleep(wait) => {}
            () = stop.stopped() => {}
        }
    }
    Ok(())
}

/// Reports what waits, in order; says how many there were.
async fn pass(store: &Store, clock: &dyn Clock, to: &dyn Outcomes) -> Result<usize, Error> {
    let mut db = store.connection().await?;
    let waiting = outcomes::unreported(&mut db, BATCH).await?;
    drop(db);
    let count = waiting.len();
    for row in waiting {
        let notification =
            row.notification_id.parse().map_err(|error| Error::Internal(Box::new(error)))?;
        let denied = (!row.allowed).then_some(row.reason);
        let outcome = Outcome { notification, event: row.event_id, denied };
        to.report(&outcome)
            .await
            .map_err(|source| Error::Unavailable { part: "control plane", source })?;
        let mut db = store.connection().await?;
        outcomes::reported(&mut db, row.id, clock.now()).await?;
    }
    Ok(count)
}
