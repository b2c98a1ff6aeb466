//! Forgets what is old: subscriptions that nobody confirmed, whole days of messages with their deliveries
//! and attempts, the events in the inbox. And makes the tables of the days to come.

use std::sync::Arc;
use std::time::Duration;

use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::error::Error;
use crate::store::{Store, days, deliveries, inbox, outcomes, signing_key, subscriptions};

/// A pending subscription is removed after 3 days (spec 8.2).
const UNCONFIRMED: Duration = Duration::from_secs(3 * 24 * 3600);
/// How often to look.
const PERIOD: Duration = Duration::from_secs(60);
/// For how long after the retention the certificate of a retired key is served: the last message that
/// it signed may have been retried for hours.
const CERTIFICATES: Duration = Duration::from_secs(24 * 3600);

/// What a pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Subscriptions that nobody confirmed.
    pub subscriptions: u64,
    /// Days of messages, deliveries and attempts: tables.
    pub days: u64,
    /// Tables made for days to come.
    pub made: u64,
    /// Deliveries to subscriptions that are gone.
    pub orphans: u64,
    /// Certificates whose messages are out of use.
    pub certificates: u64,
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
    report.made = u64::try_from(days::make(&mut db, now).await?).unwrap_or_default();
    report.orphans = deliveries::drop_orphans(&mut db, now).await?;
    report.days = days::forget(&mut db, now - retention).await?;
    report.certificates = signing_key::forget(&mut db, now - retention - CERTIFICATES).await?;
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
