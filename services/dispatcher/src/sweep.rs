//! Forgets what is old: subscriptions that nobody confirmed, messages that were dealt with long ago,
//! the events in the inbox.

use std::sync::Arc;
use std::time::Duration;

use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::error::Error;
use crate::store::{Store, inbox, messages, outcomes, subscriptions};

/// A pending subscription is removed after 3 days (spec 8.2).
const UNCONFIRMED: Duration = Duration::from_secs(3 * 24 * 3600);
/// How often to look.
const PERIOD: Duration = Duration::from_secs(60);
/// How many messages go in one statement, so that none takes long.
const BATCH: i64 = 1000;

/// What a pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Subscriptions that nobody confirmed.
    pub subscriptions: u64,
    /// Messages, with their deliveries and attempts.
    pub messages: u64,
    /// Events of the inbox.
    pub events: u64,
    /// Reported outcomes.
    pub outcomes: u64,
}

/// One pass: idempotent, and told nothing. What ended more than `retention` ago is forgotten.
///
/// # Errors
/// When the store fails; what was removed by then stays removed.
pub async fn pass(store: &Store, clock: &dyn Clock, retention: Duration) -> Result<Report, Error> {
    let now = clock.now();
    let mut db = store.connection().await?;
    let mut report = Report {
        subscriptions: subscriptions::forget_unconfirmed(&mut db, now - UNCONFIRMED).await?,
        ..Report::default()
    };
    loop {
        let forgotten = messages::forget(&mut db, now - retention, BATCH).await?;
        report.messages += forgotten;
        if forgotten < BATCH as u64 {
            break;
        }
    }
    report.events = inbox::forget(&mut db, now - retention).await?;
    report.outcomes = outcomes::forget(&mut db, now - retention).await?;
    Ok(report)
}

pub(crate) async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    retention: Duration,
    stop: Stop,
) -> anyhow::Result<()> {
    while !stop.is_stopping() {
        match pass(&store, clock.as_ref(), retention).await {
            Ok(report) if report == Report::default() => {}
            Ok(report) => info!(?report, "forgot what is old"),
            Err(error) => warn!(%error, cause = ?error, "cannot forget what is old, trying again"),
        }
        tokio::select! {
            () = sleep(PERIOD) => {}
            () = stop.stopped() => {}
        }
    }
    Ok(())
}
