//! The outbox: events on their way to the bus, written in the transaction that made them true.

use std::collections::BTreeMap;

use postern_model::event::CloudEvent;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::sql;
use crate::error::Result;

/// Appends an event. Its sequence is the endpoint's, taken under the endpoint's row lock.
///
/// # Errors
///
/// The database away.
pub async fn append(
    db: &mut PgConnection,
    event: &CloudEvent,
    trace_context: &BTreeMap<String, String>,
) -> Result<()> {
    append_all(db, std::slice::from_ref(event), trace_context).await
}

/// Appends events, in one statement.
///
/// # Errors
///
/// The database away.
pub async fn append_all(
    db: &mut PgConnection,
    events: &[CloudEvent],
    trace_context: &BTreeMap<String, String>,
) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let endpoints: Vec<_> =
        events.iter().map(|event| event.data.vpc_endpoint_id.to_string()).collect();
    let sequences: Vec<_> = events.iter().map(|event| event.data.sequence).collect();
    let kinds: Vec<_> = events.iter().map(|event| event.data.event.as_str()).collect();
    let bodies: Vec<_> = events.iter().map(Json).collect();
    sqlx::query(sql!("outbox/append"))
        .bind(&ids)
        .bind(&endpoints)
        .bind(&sequences)
        .bind(&kinds)
        .bind(&bodies)
        .bind(Json(trace_context))
        .execute(db)
        .await?;
    Ok(())
}
