//! What was given up goes to the queue that its subscription names (spec 8.4, `RedrivePolicy`).
//!
//! The letter was written in the transaction that gave the delivery up, and goes when the broker has
//! confirmed it: at least once, and a crash loses none.

pub mod amqp;

use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use postern_runtime::bus::{DeadLetters, Letter};
use postern_runtime::shutdown::Stop;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::error::Error;
use crate::repeat::{self, More};
use crate::store::Store;
use crate::store::redrives::{self, RedriveRow};

/// Letters of one transaction, which is open while the broker confirms them.
const BATCH: i64 = 100;
/// For the broker to confirm them: within the statement's time.
const PATIENCE: Duration = Duration::from_secs(15);

/// The queue's ARN in a redrive policy.
pub fn queue_of(policy: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    policy.get("deadLetterTargetArn")?.as_str().map(str::to_owned)
}

/// The broker's queue behind an ARN: `arn:aws:sqs:<region>:<account>:<name>` is
/// `postern.redrive.<account>.<name>`.
pub fn queue_name(arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(4);
    let (account, name) = (parts.next()?, parts.next()?);
    let plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (plain(account) && plain(name) && parts.next().is_none())
        .then(|| format!("postern.redrive.{account}.{name}"))
}

fn letter(row: &RedriveRow) -> Option<Letter> {
    let text = |name: &str, value: String| (name.to_owned(), value);
    Some(Letter {
        id: row.message_id,
        queue: queue_name(&row.queue_arn)?,
        headers: [
            text("topic-arn", row.topic_arn.clone()),
            text("subscription-arn", format!("{}:{}", row.topic_arn, row.subscription_id)),
            text("delivery-id", row.delivery_id.to_string()),
            text("attempts", row.attempts.to_string()),
            text("status-code", row.status.to_string()),
            text("error", row.error.clone()),
            text("given-up-at", row.given_up_at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        ]
        .into_iter()
        .collect(),
        body: row.body.clone().into_bytes().into(),
    })
}

/// Sends letters until asked to stop.
pub(crate) async fn run(
    store: Store,
    to: Arc<dyn DeadLetters>,
    poke: Arc<Notify>,
    stop: Stop,
) -> anyhow::Result<()> {
    repeat::until_stopped("redrive messages", poke, stop, || {
        let (store, to) = (store.clone(), Arc::clone(&to));
        async move { Ok(More::after(pass(&store, to.as_ref()).await?, BATCH)) }
    })
    .await;
    Ok(())
}

async fn pass(store: &Store, to: &dyn DeadLetters) -> Result<usize, Error> {
    let mut tx = store.begin().await?;
    let waiting = redrives::waiting(&mut tx, BATCH).await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let mut done = Vec::with_capacity(waiting.len());
    let mut letters = Vec::new();
    for row in &waiting {
        match letter(row) {
            Some(letter) => letters.push((row.id, letter)),
            None => {
                // It was checked where it was set: one that names no queue leads nowhere for good.
                warn!(queue = row.queue_arn, delivery = %row.delivery_id, "no queue can have this name");
                done.push(row.id);
            }
        }
    }
    let (ids, letters): (Vec<i64>, Vec<Letter>) = letters.into_iter().unzip();
    let away = |source| Error::Unavailable { part: "broker", source };
    let answers = timeout(PATIENCE, to.send(&letters))
        .await
        .map_err(|_| away("it does not confirm in time".into()))?;
    let mut failure = None;
    for (id, answer) in ids.into_iter().zip(answers) {
        match answer {
            Ok(()) => done.push(id),
            Err(error) => failure = Some(away(error.into())),
        }
    }
    redrives::delete(&mut tx, &done).await?;
    tx.commit().await?;
    info!(letters = done.len(), "sent messages that nobody took to their queues");
    failure.map_or(Ok(waiting.len()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_stands_for_a_queue_of_its_account() {
        assert_eq!(
            queue_name("arn:aws:sqs:us-east-1:111122223333:dead").as_deref(),
            Some("postern.redrive.111122223333.dead")
        );
        for arn in
            ["", "arn:aws:sqs:us-east-1:111122223333", "arn:aws:sqs:r:1:a b", "a:b:c:d:e:f:g"]
        {
            assert_eq!(queue_name(arn), None, "{arn}");
        }
        let policy = r#"{"deadLetterTargetArn": "arn:x"}"#;
        assert_eq!(queue_of(policy).as_deref(), Some("arn:x"));
        assert_eq!(queue_of("{}"), None);
    }
}
