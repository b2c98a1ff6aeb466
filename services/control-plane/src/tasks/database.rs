//! Whether the database is there.

use std::time::Duration;

use postern_runtime::admin::Part;
use postern_runtime::backoff::Backoff;
use postern_runtime::shutdown::Stop;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::store::Store;

/// How often the database is asked, and how long it may take to answer.
const LOOK: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits for the database and, if `migrate`, brings its schema up to date. It may be away for any
/// time: nothing but `stop` ends the wait, and then the answer is `false`.
///
/// # Errors
///
/// A schema that this program can't work with: waiting would not help.
pub async fn ready(store: &Store, migrate: bool, part: &Part, stop: &Stop) -> anyhow::Result<bool> {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for attempt in 0_u32.. {
        match prepare(store, migrate).await {
            Ok(()) => {
                info!(migrated = migrate, "the database is there");
                part.ready();
                return Ok(true);
            }
            Err(sqlx::migrate::MigrateError::Execute(error)) if is_away(&error) => {
                warn!(%error, "the database is not there yet");
                part.not_ready(format!("not there yet: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.stopped() => return Ok(false),
            () = sleep(backoff.delay(attempt, &mut rand::rng())) => {}
        }
    }
    Ok(false)
}

async fn prepare(store: &Store, migrate: bool) -> Result<(), sqlx::migrate::MigrateError> {
    if migrate {
        return store.migrate().await;
    }
    Ok(store.ping().await?)
}

/// Whether a later try may succeed: the server is away, starting, or not to be had.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        // Classes 08 (connection), 53 (out of resources), 57 (starting, stopping).
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

/// Tells whether the database answers, until `stop` is asked for.
pub async fn watch(store: Store, part: Part, stop: Stop) {
    loop {
        let asked = timeout(PATIENCE, store.ping()).await;
        match asked {
            Ok(Ok(_)) => part.ready(),
            Ok(Err(error)) => part.not_ready(format!("it does not answer: {error}")),
            Err(_) => part.not_ready("it does not answer in time"),
        }
        tokio::select! {
            () = stop.stopped() => return,
            () = sleep(LOOK) => {}
        }
    }
}
