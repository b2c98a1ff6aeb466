//! Tells the control plane what topics said to notifications: three denials in a row disable one
//! (spec 7); and which topics have another policy, so that it asks them again. The outcomes were stored
//! with the decisions, so a crash loses none; a report may be made twice, which changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use postern_model::id::NotificationId;
use postern_runtime::clock::Clock;
use postern_runtime::shutdown::Stop;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::error::{Cause, Error};
use crate::repeat::{self, More};
use crate::store::{Store, outcomes, policy_changes};

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

    /// Reports that a topic's policy changed, or that the topic is new. A repeat changes nothing.
    ///
    /// # Errors
    /// When the control plane is away, or cannot take it now: it is reported again later.
    async fn policy_changed(&self, topic_arn: &str) -> Result<(), Cause>;
}

/// Outcomes, and policy changes, of one pass.
const BATCH: i64 = 1000;

/// Reports outcomes until asked to stop.
pub(crate) async fn run(
    store: Store,
    clock: Arc<dyn Clock>,
    to: Arc<dyn Outcomes>,
    decided: Arc<Notify>,
    stop: Stop,
) -> anyhow::Result<()> {
    repeat::until_stopped("report outcomes", decided, stop, || {
        let (store, clock, to) = (store.clone(), Arc::clone(&clock), Arc::clone(&to));
        async move { Ok(More::after(pass(&store, clock.as_ref(), to.as_ref()).await?, BATCH)) }
    })
    .await;
    Ok(())
}

/// Reports what waits, in order. What counts is whether a topic says no again and again: of a
/// notification's outcomes that follow each other and are all good, the last tells everything.
/// Returns how many there were of the kind that there were more of.
async fn pass(store: &Store, clock: &dyn Clock, to: &dyn Outcomes) -> Result<usize, Error> {
    let mut db = store.connection().await?;
    let waiting = outcomes::unreported(&mut db, BATCH).await?;
    drop(db);
    let count = waiting.len();
    let mut told_by_a_later: Vec<bool> = vec![false; count];
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (place, row) in waiting.iter().enumerate() {
        let before = last.insert(&row.notification_id, place);
        if let Some(before) = before
            && row.allowed
            && waiting.get(before).is_some_and(|before| before.allowed)
            && let Some(told) = told_by_a_later.get_mut(before)
        {
            *told = true;
        }
    }
    let mut done = Vec::with_capacity(count);
    let mut failure = None;
    for (row, told_by_a_later) in waiting.iter().zip(told_by_a_later) {
        if !told_by_a_later {
            let notification =
                row.notification_id.parse().map_err(|error| Error::Internal(Box::new(error)))?;
            let denied = (!row.allowed).then(|| row.reason.clone());
            let outcome = Outcome { notification, event: row.event_id, denied };
            if let Err(source) = to.report(&outcome).await {
                failure = Some(Error::Unavailable { part: "control plane", source });
                break;
            }
        }
        done.push(row.id);
    }
    if !done.is_empty() {
        let mut db = store.connection().await?;
        outcomes::reported(&mut db, &done, clock.now()).await?;
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    // After the outcomes: a denial from before the change must not count after it.
    let mut db = store.connection().await?;
    let changes = policy_changes::unreported(&mut db, BATCH).await?;
    drop(db);
    for change in &changes {
        to.policy_changed(&change.topic_arn)
            .await
            .map_err(|source| Error::Unavailable { part: "control plane", source })?;
        let mut db = store.connection().await?;
        policy_changes::reported(&mut db, change).await?;
    }
    Ok(count.max(changes.len()))
}
