//! The end of a process in three moments: stop taking work, let work finish, cut.
//!
//! A *part* is a task that may not end before it is asked to (a server, a relay, a reconciler).
//! [`supervise`] owns the parts: when one ends by itself everything stops, when a signal comes
//! everything stops, and no part is left running behind it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal as listen};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How long a part may take to end once it was cut, before its task is aborted.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// The two tokens that end things: `stop` asks for no new work, `kill` cuts what is still open.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled when nothing new may be taken; what is under way goes on.
    pub stop: CancellationToken,
    /// Cancelled when the drain deadline has passed; what is under way is cut.
    pub kill: CancellationToken,
}

impl Stop {
    /// Nothing is asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for no new work.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Cuts everything; implies [`Stop::stop`].
    pub fn kill(&self) {
        self.stop.cancel();
        self.kill.cancel();
    }

    /// Whether no new work may be taken.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Completes when no new work may be taken.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Completes when what is still open must be cut.
    pub async fn killed(&self) {
        self.kill.cancelled().await;
    }
}

/// Completes at the first SIGINT or SIGTERM. Where handlers cannot be installed it never completes,
/// and the log says so: the default action of the signals then still ends the process.
pub async fn signal() {
    let (mut interrupt, mut terminate) =
        match (listen(SignalKind::interrupt()), listen(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                error!(%error, "cannot listen for signals, stopping will not be graceful");
                return std::future::pending().await;
            }
        };
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    info!(signal = name, "asked to stop");
}

/// How a part ended.
#[derive(Debug)]
pub struct Ended {
    /// The part's name.
    pub name: &'static str,
    /// Its result.
    pub result: anyhow::Result<()>,
}

/// The parts of a process. None of them may end before it is asked to.
pub type Parts = JoinSet<Ended>;

/// Names a part: `parts.spawn(part("relay", relay.run(stop.clone())))`.
pub async fn part(
    name: &'static str,
    run: impl Future<Output = anyhow::Result<()>> + Send,
) -> Ended {
    Ended { name, result: run.await }
}

/// A part ended by itself, or failed while it was ending; everything else was stopped with it.
#[derive(Debug, thiserror::Error)]
pub enum PartFailed {
    /// It returned an error.
    #[error("{name} failed")]
    Failed {
        /// The part's name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It returned without an error before it was asked to.
    #[error("{0} ended by itself")]
    Ended(&'static str),
    /// It panicked; which part it was is in the panic's message.
    #[error("a part panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Runs until a signal comes, `stop` is asked for or a part ends by itself; then asks all parts to
/// stop, gives them `drain` to finish, cuts what is still open and waits for every task.
///
/// # Errors
/// The first part that ended by itself, or that failed while it was ending.
pub async fn supervise(parts: Parts, stop: Stop, drain: Duration) -> Result<(), PartFailed> {
    supervise_until(parts, stop, drain, signal()).await
}

/// Like [`supervise`], with something else than the process's signals as the reason to stop.
///
/// # Errors
/// As [`supervise`].
pub async fn supervise_until(
    mut parts: Parts,
    stop: Stop,
    drain: Duration,
    asked: impl Future<Output = ()>,
) -> Result<(), PartFailed> {
    let mut failure = None;
    tokio::select! {
        biased; // A stop that was asked for is not a part that ended by itself.
        () = asked => {}
        () = stop.stopped() => {}
        Some(ended) = parts.join_next() => failure = note(ended, false),
    }
    stop.stop();
    let drained = async {
        while let Some(ended) = parts.join_next().await {
            let noted = note(ended, true);
            failure = failure.take().or(noted);
        }
    };
    if timeout(drain, drained).await.is_err() {
        warn!(parts = parts.len(), "drain deadline passed, cutting what is still open");
        stop.kill();
        let cut = async {
            while let Some(ended) = parts.join_next().await {
                let noted = note(ended, true);
                failure = failure.take().or(noted);
            }
        };
        if timeout(CUT_GRACE, cut).await.is_err() {
            warn!(parts = parts.len(), "aborting parts that do not end when they are cut");
            parts.shutdown().await;
        }
    }
    // Connections that outlive their server's task watch this token: the end of the process is the
    // end of them.
    stop.kill();
    failure.map_or(Ok(()), Err)
}

fn note(ended: Result<Ended, tokio::task::JoinError>, asked: bool) -> Option<PartFailed> {
    match ended {
        Ok(Ended { name, result: Err(source) }) => {
            error!(part = name, error = format!("{source:#}"), "a part failed, stopping");
            Some(PartFailed::Failed { name, source: source.into() })
        }
        Ok(Ended { name, result: Ok(()) }) if !asked => {
            error!(part = name, "a part ended by itself, stopping");
            Some(PartFailed::Ended(name))
        }
        Ok(_) => None,
        Err(source) if source.is_cancelled() => None,
        Err(source) => {
            error!(error = %source, "a part panicked, stopping");
            Some(PartFailed::Panicked(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn obedient(stop: &Stop) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let stop = stop.clone();
        async move {
            stop.stopped().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_to_stop_reaches_every_part_and_is_no_failure() {
        let (stop, mut parts) = (Stop::new(), Parts::new());
        parts.spawn(part("one", obedient(&stop)));
        parts.spawn(part("two", obedient(&stop)));
        let ended = supervise_until(parts, stop.clone(), LONG, async {}).await;
        assert!(ended.is_ok(), "{ended:?}");
        assert!(stop.is_stopping());
    }

    #[tokio::test]
    async fn one_failed_part_stops_the_others_and_is_named() {
        let (stop, mut parts) = (Stop::new(), Parts::new());
        parts.spawn(part("steady", obedient(&stop)));
        parts.spawn(part("weak", async { anyhow::bail!("no more") }));
        let ended = supervise_until(parts, stop, LONG, pending()).await;
        assert!(matches!(ended, Err(PartFailed::Failed { name: "weak", .. })), "{ended:?}");
    }

    #[tokio::test]
    async fn a_part_that_ends_by_itself_without_an_error_is_a_failure_too() {
        let (stop, mut parts) = (Stop::new(), Parts::new());
        parts.spawn(part("short", async { Ok(()) }));
        let ended = supervise_until(parts, stop, LONG, pending()).await;
        assert!(matches!(ended, Err(PartFailed::Ended("short"))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_part_that_does_not_drain_in_time_is_cut() {
        let (stop, mut parts) = (Stop::new(), Parts::new());
        let watched = stop.clone();
        parts.spawn(part("slow", async move {
            watched.killed().await;
            Ok(())
        }));
        parts.spawn(part("deaf", pending()));
        let ended = supervise_until(parts, stop.clone(), Duration::from_millis(50), async {}).await;
        assert!(ended.is_ok(), "{ended:?}");
        assert!(stop.kill.is_cancelled());
    }
}
