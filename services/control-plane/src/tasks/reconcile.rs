//! Brings the world in line with what the database says: endpoints move on when their hosts are done
//! or their time is up, interfaces find a host, and what is over is forgotten.
//!
//! Characters: an endpoint is *unsettled* while something it waits for may have happened; an interface
//! is *adrift* while no host owns it, or a silent one does; a host is *silent* when it was not heard
//! of for as long as its lease is.
//!
//! Not promised: that an interface leaves a silent host when no other can take it. The data plane does
//! not need us to go on (design 5), so that is what it does.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use postern_model::id::{EndpointId, HostId};
use postern_runtime::shutdown::Stop;
use postern_runtime::telemetry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tracing::{Instrument as _, debug, info, info_span, warn};
use uuid::Uuid;

use super::pause;
use crate::app::App;
use crate::app::endpoints::Forgotten;
use crate::error::{Error, Result};
use crate::pokes::Poke;
use crate::store::fleet::{Touched, advance};
use crate::store::lease::{self, Held};
use crate::store::placement::{self, assign};
use crate::store::sites::before;
use crate::store::{interfaces, reconcile};

/// The lease of the one that reconciles.
pub const LEASE: &str = "reconcile";
/// How long it lasts without being extended, which each pass does.
const LEASE_LASTING: Duration = Duration::from_secs(15);
/// How often there is a pass.
const LOOK: Duration = Duration::from_secs(2);
/// Endpoints read at a time, and looked at at the same time.
const PAGE: i64 = 500;
const SETTLING: usize = 4;
/// Interfaces moved in one transaction.
const MOVES: i64 = 500;
/// An interface that is to go is taken from a host that was silent for so many leases: that the host
/// still has it can't be ruled out, so this waits longer than a move, which the consumer waits for.
const ABANDONED_LEASES: u32 = 4;
/// How long the changes of a host are kept: a host that was away for longer gets a snapshot.
pub const HOST_CHANGES_KEPT: Duration = Duration::from_secs(3600);
/// How often what is over is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReconcileReport {
    /// Whether this replica reconciles.
    pub leads: bool,
    /// Interfaces that were given to a host.
    pub placed: u64,
    /// Interfaces that were moved from a silent host.
    pub moved: u64,
    /// Interfaces that no host can take.
    pub adrift: u64,
    /// Endpoints that were looked at.
    pub settled: u64,
    /// Endpoints whose providers did not decide in time.
    pub expired: u64,
    /// Interfaces' endpoints that were taken from hosts which never answered.
    pub abandoned: u64,
    /// Rows forgotten.
    pub forgotten: u64,
    /// Steps that failed, and will be tried again.
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Work {
    Placed,
    Moved,
    Settled,
    Expired,
    Abandoned,
    Forgotten,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabel {
    work: Work,
}

/// The reconciler's meters.
#[derive(Clone, Debug)]
pub struct ReconcileMetrics {
    done: Family<WorkLabel, Counter>,
    adrift: Gauge,
    leads: Gauge,
}

impl ReconcileMetrics {
    /// Registers under the caller's prefix, as in `postern_control_plane_reconcile_done`.
    pub fn register(registry: &mut Registry) -> Self {
        let this =
            Self { done: Family::default(), adrift: Gauge::default(), leads: Gauge::default() };
        registry.register("done", "What the reconciler did", this.done.clone());
        registry.register(
            "interfaces_adrift",
            "Interfaces that no host can take",
            this.adrift.clone(),
        );
        registry.register("leading", "1 where this replica reconciles", this.leads.clone());
        this
    }

    fn note(&self, report: &ReconcileReport) {
        self.leads.set(i64::from(report.leads));
        self.adrift.set(report.adrift as i64);
        for (work, count) in [
            (Work::Placed, report.placed),
            (Work::Moved, report.moved),
            (Work::Settled, report.settled),
            (Work::Expired, report.expired),
            (Work::Abandoned, report.abandoned),
            (Work::Forgotten, report.forgotten),
            (Work::Failed, report.failed),
        ] {
            self.done.get_or_create(&WorkLabel { work }).inc_by(count);
        }
    }
}

/// Reconciles.
pub struct Reconciler {
    app: App,
    host_lease: Duration,
    metrics: ReconcileMetrics,
    me: Uuid,
    held: Option<Held>,
    /// Since when this replica has led without a fault. Until that is as long as a host's lease, a
    /// host's silence may be ours: nobody could be heard while the database was away, or while the
    /// control plane was.
    listening: Option<Instant>,
    forgotten: Option<Instant>,
}

impl Reconciler {
    /// A reconciler that takes interfaces from hosts which are silent for `host_lease`.
    pub fn new(app: App, host_lease: Duration, metrics: ReconcileMetrics) -> Self {
        let me = Uuid::new_v4();
        Self { app, host_lease, metrics, me, held: None, listening: None, forgotten: None }
    }

    /// Counts this replica as having listened for as long as is needed to call a host silent.
    pub fn has_listened(&mut self) {
        self.listening = Instant::now().checked_sub(self.host_lease);
    }

    /// Reconciles until `stop` is asked for.
    pub async fn run(mut self, stop: Stop) {
        let mut heard = self.app.pokes.of_reconcilers();
        while !stop.is_stopping() {
            let report = self.pass().instrument(info_span!("reconcile")).await;
            debug!(?report, "reconciled");
            tokio::select! {
                () = stop.stopped() => break,
                () = pause(&mut heard, LOOK) => {}
            }
        }
        if let Some(held) = self.held.take()
            && let Ok(mut db) = self.app.store.pool().acquire().await
            && let Err(error) = lease::give_back(&mut db, held).await
        {
            debug!(%error, "the reconciler's lease was not given back");
        }
    }

    /// One pass over everything. Steps that fail are counted, and the others go on.
    pub async fn pass(&mut self) -> ReconcileReport {
        let mut report = ReconcileReport::default();
        match self.lead().await {
            Ok(leads) => report.leads = leads,
            Err(error) => fail(&mut report, "leading", &error),
        }
        if report.leads {
            let since = *self.listening.get_or_insert_with(Instant::now);
            let silence = (since.elapsed() >= self.host_lease).then_some(self.host_lease);
            if let Err(error) = self.place(silence, &mut report).await {
                fail(&mut report, "placing", &error);
            }
            if silence.is_some()
                && let Err(error) = self.abandon(&mut report).await
            {
                fail(&mut report, "taking from silent hosts", &error);
            }
            if let Err(error) = self.settle(&mut report).await {
                fail(&mut report, "settling", &error);
            }
            match self.app.expire_due().await {
                Ok(expired) => report.expired += expired,
                Err(error) => fail(&mut report, "expiring", &error),
            }
            if self.forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                match self.forget(&mut report).await {
                    Ok(()) => self.forgotten = Some(Instant::now()),
                    Err(error) => fail(&mut report, "forgetting", &error),
                }
            }
        }
        if !report.leads || report.failed > 0 {
            self.listening = None;
        }
        self.metrics.note(&report);
        report
    }

    async fn lead(&mut self) -> Result<bool> {
        let mut db = self.app.store.pool().acquire().await?;
        let held = lease::take(&mut db, LEASE, self.me, LEASE_LASTING).await?;
        // Another token than before: our lease had run out, and who knows what was heard meanwhile.
        if self.held.is_some() && self.held != held {
            self.listening = None;
        }
        self.held = held;
        Ok(held.is_some())
    }

    /// Gives interfaces that are adrift to hosts that can take them.
    async fn place(&self, silence: placement::Lease, report: &mut ReconcileReport) -> Result<()> {
        let mut db = self.app.store.pool().acquire().await?;
        let pairs = placement::adrift(&mut db, silence).await?;
        drop(db);
        for (vpc, target_vpc) in pairs {
            loop {
                let mut tx = self.app.store.begin().await?;
                let adrift =
                    placement::lock_adrift(&mut tx, silence, vpc, target_vpc, MOVES).await?;
                let mut candidates =
                    placement::candidates(&mut tx, vpc, target_vpc, self.host_lease).await?;
                if candidates.is_empty() || adrift.is_empty() {
                    report.adrift += adrift.len() as u64;
                    break;
                }
                let mut touched = Touched::default();
                let mut moves = Vec::with_capacity(adrift.len());
                let mut names = BTreeSet::new();
                let mut placed: u64 = 0;
                for interface in &adrift {
                    let Some(host) = assign(&mut candidates, &interface.zone) else { continue };
                    moves.push((interface.interface, host));
                    touched.interface(interface.interface);
                    match interface.host {
                        None => placed += 1,
                        Some(silent) => touched.interface_left(silent, interface.interface),
                    }
                    if interface.published && names.insert(interface.endpoint) {
                        touched.names(vpc, interface.endpoint);
                    }
                }
                let moved = moves.len() as u64 - placed;
                placement::give(&mut tx, &moves).await?;
                let context = telemetry::inject(&tracing::Span::current());
                let hosts = advance(&mut tx, &touched, &context).await?;
                tx.commit().await?;
                for host in hosts {
                    self.app.pokes.poke(Poke::Host(host));
                }
                info!(%vpc, placed, moved, "gave interfaces to hosts");
                report.placed += placed;
                report.moved += moved;
                if (adrift.len() as i64) < MOVES {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes what is to go from hosts that will not say that it went.
    async fn abandon(&self, report: &mut ReconcileReport) -> Result<()> {
        let mut db = self.app.store.pool().acquire().await?;
        let silence = self.host_lease * ABANDONED_LEASES;
        let hosts: Vec<HostId> = reconcile::abandoned(&mut db, silence).await?;
        for host in hosts {
            let endpoints = interfaces::release(&mut db, host, i64::MAX).await?;
            warn!(%host, endpoints = endpoints.len(), "a silent host did not let go, went on without");
            report.abandoned += endpoints.len() as u64;
        }
        Ok(())
    }

    /// Looks at every endpoint that may move on.
    async fn settle(&self, report: &mut ReconcileReport) -> Result<()> {
        let app = &self.app;
        let deadline = before(app.clock.now(), app.settings.times.pending_timeout);
        let mut after = String::new();
        loop {
            let mut db = app.store.pool().acquire().await?;
            let page: Vec<EndpointId> =
                reconcile::unsettled(&mut db, deadline, &after, PAGE).await?;
            drop(db);
            let Some(last) = page.last() else { return Ok(()) };
            after = last.to_string();
            let full = page.len() as i64 == PAGE;
            let settled = futures_util::stream::iter(page)
                .map(|endpoint| async move { (endpoint, app.settle(endpoint).await) })
                .buffer_unordered(SETTLING);
            let mut settled = std::pin::pin!(settled);
            while let Some((endpoint, result)) = settled.next().await {
                report.settled += 1;
                if let Err(error) = result {
                    warn!(%endpoint, "an endpoint could not be looked at");
                    fail(report, "settling an endpoint", &error);
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    async fn forget(&self, report: &mut ReconcileReport) -> Result<()> {
        // No longer than deleted endpoints: a host that comes back after it lost a VPC learns from
        // their rows which names are to go.
        let kept = HOST_CHANGES_KEPT.min(self.app.settings.times.deleted_retention);
        let mut db = self.app.store.pool().acquire().await?;
        report.forgotten += reconcile::forget_host_changes(&mut db, kept).await?;
        drop(db);
        let Forgotten { endpoints, services, client_tokens } = self.app.forget_deleted().await?;
        report.forgotten += endpoints + services + client_tokens;
        Ok(())
    }
}

fn fail(report: &mut ReconcileReport, what: &'static str, error: &Error) {
    report.failed += 1;
    let cause = std::error::Error::source(error).map(ToString::to_string);
    warn!(what, %error, cause, "a step of the reconciler failed and will be tried again");
}
