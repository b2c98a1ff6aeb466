//! What the reconcilers look for, and what is forgotten after its time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use postern_model::id::{EndpointId, HostId};
use sqlx::PgConnection;

use super::sql;
use super::state::stored;
use crate::error::Result;

/// Endpoints that may move on, by id after `after`, at most `most`. Those pending since before
/// `deadline` have waited long enough.
///
/// # Errors
///
/// The database away.
pub async fn unsettled(
    db: &mut PgConnection,
    deadline: DateTime<Utc>,
    after: &str,
    most: i64,
) -> Result<Vec<EndpointId>> {
    let ids: Vec<String> = sqlx::query_scalar(sql!("reconcile/unsettled"))
        .bind(deadline)
        .bind(after)
        .bind(most)
        .fetch_all(db)
        .await?;
    ids.iter().map(|id| stored(id)).collect()
}

/// Hosts silent for `silence` that have not let go of interfaces that are to go.
///
/// # Errors
///
/// The database away.
pub async fn abandoned(db: &mut PgConnection, silence: Duration) -> Result<Vec<HostId>> {
    let ids: Vec<String> = sqlx::query_scalar(sql!("reconcile/abandoned"))
        .bind(silence.as_secs_f64())
        .fetch_all(db)
        .await?;
    ids.iter().map(|id| stored(id)).collect()
}

/// Forgets what changed for hosts longer than `age` ago: a host that was away for longer gets a
/// snapshot.
///
/// # Errors
///
/// The database away.
pub async fn forget_host_changes(db: &mut PgConnection, age: Duration) -> Result<u64> {
    let done = sqlx::query(sql!("retention/host_changes")).bind(age.as_secs_f64());
    Ok(done.execute(db).await?.rows_affected())
}

/// Forgets published events after `age`.
///
/// # Errors
///
/// The database away.
pub async fn forget_events(db: &mut PgConnection, age: Duration) -> Result<u64> {
    let done = sqlx::query(sql!("retention/outbox")).bind(age.as_secs_f64());
    Ok(done.execute(db).await?.rows_affected())
}
