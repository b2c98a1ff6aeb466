//! The loop of what is written down and carried on by this process: outcomes, dead letters.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use postern_runtime::backoff::Backoff;
use postern_runtime::shutdown::Stop;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use crate::error::Error;

/// While whoever is needed is away.
const AWAY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// How often to look when nobody pokes.
const POLL: Duration = Duration::from_secs(5);

/// Makes passes until asked to stop: one after another while each says that there is `More`, then at a
/// poke or after a while. A pass that fails is made again later; `what` it was to do is for the log.
pub(crate) async fn until_stopped<P>(
    what: impl Display,
    poke: Arc<Notify>,
    stop: Stop,
    mut pass: impl FnMut() -> P,
) where
    P: Future<Output = Result<More, Error>>,
{
    let mut away = AWAY.delays(crate::randomness());
    while !stop.is_stopping() {
        let poked = poke.notified();
        match pass().await {
            Ok(more) => {
                away.reset();
                if more == More::Now {
                    continue;
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!(error = format!("{error:#}"), "cannot {what}, trying again");
                // A poke says that there is more to do, not that whoever was away is back.
                tokio::select! {
                    () = sleep(away.next().unwrap_or(AWAY.max)) => {}
                    () = stop.stopped() => {}
                }
                continue;
            }
        }
        tokio::select! {
            () = poked => {}
            () = sleep(POLL) => {}
            () = stop.stopped() => {}
        }
    }
}

/// Whether a pass left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    /// It took as much as it takes at once: there may be more.
    Now,
    /// It took all that there was.
    Later,
}

impl More {
    /// After a pass that took `taken` of at most `batch`.
    pub(crate) fn after(taken: usize, batch: i64) -> Self {
        if usize::try_from(batch).is_ok_and(|batch| taken >= batch) {
            Self::Now
        } else {
            Self::Later
        }
    }
}
