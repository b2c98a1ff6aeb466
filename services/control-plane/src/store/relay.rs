//! What the outbox relay reads and writes.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::lease::Held;
use super::sql;
use crate::error::Result;

/// An event on its way to the bus.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its id: repeats of one event have the same.
    pub id: Uuid,
    /// The endpoint that it happened to.
    pub endpoint: String,
    /// What happened: `Connect`, `Accept`, ...
    pub kind: String,
    /// The CloudEvent, JSON.
    pub body: String,
    /// W3C trace context of the request that caused it.
    pub trace_context: BTreeMap<String, String>,
}

/// The next events to publish, at most `most`, each endpoint's in their order and without a gap at
/// the head. The endpoints `waiting` are left out.
///
/// # Errors
///
/// The database away.
pub async fn claim(db: &mut PgConnection, waiting: &[String], most: i64) -> Result<Vec<Waiting>> {
    type Row = (Uuid, String, String, String, Json<BTreeMap<String, String>>);
    let rows: Vec<Row> =
        sqlx::query_as(sql!("relay/claim")).bind(waiting).bind(most).fetch_all(db).await?;
    let event = |(id, endpoint, kind, body, Json(trace_context)): Row| Waiting {
        id,
        endpoint,
        kind,
        body,
        trace_context,
    };
    Ok(rows.into_iter().map(event).collect())
}

/// Notes that events are on the bus, if `held` is still the lease; how many were noted.
///
/// # Errors
///
/// The database away.
pub async fn mark(db: &mut PgConnection, held: Held, events: &[Uuid]) -> Result<u64> {
    let done = sqlx::query(sql!("relay/mark"))
        .bind(events)
        .bind(held.name)
        .bind(held.holder.to_string())
        .bind(held.token)
        .execute(db)
        .await?;
    Ok(done.rows_affected())
}

/// How many events wait, and for how long the oldest.
///
/// # Errors
///
/// The database away.
pub async fn depth(db: &mut PgConnection) -> Result<(i64, Duration)> {
    let (count, seconds): (i64, f64) = sqlx::query_as(sql!("relay/depth")).fetch_one(db).await?;
    Ok((count, Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Has the events of the last `within` published again: for a bus that forgets with its process.
/// Receivers drop the repeats.
///
/// # Errors
///
/// The database away.
pub async fn again(db: &mut PgConnection, within: Duration) -> Result<u64> {
    let done = sqlx::query(sql!("relay/again")).bind(within.as_secs_f64()).execute(db).await?;
    Ok(done.rows_affected())
}
