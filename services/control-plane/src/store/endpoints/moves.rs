//! Moves of endpoints through their life.

use chrono::{DateTime, Utc};
use postern_model::AccountId;
use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::event::{EventKind, Side};
use sqlx::PgConnection;

use super::EndpointRow;
use crate::error::{Error, Result};
use crate::store::sql;

/// Who moves endpoints, and when: what the history keeps.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The side.
    pub side: Side,
    /// The account; none for the system.
    pub account: Option<AccountId>,
    /// When.
    pub now: DateTime<Utc>,
}

impl Cause {
    /// Postern itself does it.
    pub fn system(now: DateTime<Utc>) -> Self {
        Self { side: Side::System, account: None, now }
    }
}

/// The event that a move is to the world, if it is one (spec 7).
pub fn kind_of(event: EndpointEvent) -> Option<EventKind> {
    match event {
        EndpointEvent::Accepted => Some(EventKind::Accept),
        EndpointEvent::Rejected => Some(EventKind::Reject),
        EndpointEvent::DeleteRequested => Some(EventKind::Delete),
        EndpointEvent::Expired
        | EndpointEvent::Attached
        | EndpointEvent::PartlyAttached
        | EndpointEvent::AttachFailed
        | EndpointEvent::Modified
        | EndpointEvent::Detached => None,
    }
}

/// Moves endpoints that the transaction holds, as `event` moves them, with a new revision, a line of
/// history, and a number for the event that the world hears of. `reason` says why an endpoint is
/// where it is now; empty when all is well. Returns the states before, in the order of the rows.
///
/// This is the only writer of the state. Its guard is the lifecycle table itself, so that neither a
/// row that was not held nor a mistake of the caller's makes a move that the table doesn't have.
///
/// # Errors
///
/// A row that `event` can't move, which callers look for first; the database away.
pub async fn apply(
    db: &mut PgConnection,
    rows: &mut [EndpointRow],
    event: EndpointEvent,
    cause: Cause,
    reason: impl Fn(&EndpointRow) -> String,
) -> Result<Vec<EndpointState>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut to = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let state = row.state.after(event).ok_or_else(|| {
            Error::internal(format!("{event:?} can't move {} from {}", row.id, row.state))
        })?;
        to.push(state);
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id.to_string()).collect();
    let from: Vec<_> = rows.iter().map(|row| row.state.as_str()).collect();
    let to_texts: Vec<_> = to.iter().map(|state| state.as_str()).collect();
    let published: Vec<_> =
        rows.iter().zip(&to).map(|(row, to)| publishes(row.published, event, *to)).collect();
    let reasons: Vec<_> = rows.iter().map(reason).collect();
    let sources: Vec<_> = EndpointState::sources(event).map(EndpointState::as_str).collect();
    let side = match cause.side {
        Side::Consumer => "consumer",
        Side::Provider => "provider",
        Side::System => "system",
    };
    let moved: Vec<(String, i64, i64)> = sqlx::query_as(sql!("endpoints/apply"))
        .bind(&ids)
        .bind(&from)
        .bind(&to_texts)
        .bind(&published)
        .bind(&reasons)
        .bind(&sources)
        .bind(i64::from(kind_of(event).is_some()))
        .bind(side)
        .bind(cause.account.map(|account| account.to_string()))
        .bind(cause.now)
        .fetch_all(db)
        .await?;
    if moved.len() != rows.len() {
        return Err(Error::internal(format!("{event:?} moved {} of {ids:?}", moved.len())));
    }
    let mut before = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter_mut().enumerate() {
        let Some((_, revision, sequence)) = moved.iter().find(|(id, ..)| *id == ids[index]) else {
            return Err(Error::internal(format!("{event:?} did not move {}", row.id)));
        };
        before.push(row.state);
        row.published = published[index];
        row.failure_reason.clone_from(&reasons[index]);
        row.revision = *revision;
        row.event_sequence = *sequence;
        row.state = to[index];
        // A request that waits is not younger for having been modified.
        if row.state != EndpointState::PendingAcceptance {
            row.state_changed_at = cause.now;
        }
    }
    Ok(before)
}

/// Whether the names lead anywhere after a move: from when packets first flow until the endpoint is
/// rejected, fails or goes; a modification leaves them as they are (spec 2.1, design 6).
fn publishes(published: bool, event: EndpointEvent, to: EndpointState) -> bool {
    to.resolves() || (published && event == EndpointEvent::Modified)
}
