//! Watching endpoints: each as it is, then again whenever it changes.
//!
//! The stream is pulled: it reads the database when its client is ready for more, so that a slow
//! client holds nothing but which endpoints it was shown in which revision. Changes that a client was
//! too slow for come as one, in their last state. A poke says at once that something changed; since
//! pokes may be lost, revisions are compared on a timer too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::Stream;
use postern_model::id::EndpointId;
use postern_model::{AccountId, Code};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::App;
use super::endpoints::no_such_endpoint;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::pokes::{AccountPokes, Changed};
use crate::store::endpoints;
use crate::store::endpoints::Endpoint;

/// How many endpoints are read at once, and held for a client that does not take them.
const BATCH: usize = 100;
/// How many watches of a process may wait for word; each looks at the database by itself now and then.
const WATCHES_MAX: usize = 2048;

/// What a client was shown, and what it is owed.
struct Watch {
    app: App,
    owner: AccountId,
    /// Only these; all of the account's when empty.
    only: BTreeSet<EndpointId>,
    pokes: AccountPokes,
    timer: Interval,
    /// The revision of each endpoint that was sent last.
    shown: BTreeMap<EndpointId, i64>,
    /// Endpoints that may have changed since.
    dirty: BTreeSet<EndpointId>,
    /// Whether any may have.
    all_dirty: bool,
    /// Read, and not taken yet.
    ready: VecDeque<Endpoint>,
}

impl App {
    /// Follows the caller's endpoints: those of `ids`, or all. First each as it is, then each again
    /// when it changed. It ends with the process ([`crate::pokes::Pokes::end`]).
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointId.NotFound` when one of `ids` is not there, also for another account's;
    /// `RequestLimitExceeded` when too many are watching. The stream fails with the database.
    pub async fn watch_endpoints(
        &self,
        caller: &Caller,
        ids: &[EndpointId],
    ) -> Result<impl Stream<Item = Result<Endpoint>> + Send + use<>> {
        let owner = caller.account()?;
        // Before anything is read, so that no change falls between.
        let Some(pokes) = self.pokes.of_account(owner, WATCHES_MAX) else {
            let message = "too many watches are open, try again later";
            return Err(Error::refused(Code::RequestLimitExceeded, message));
        };
        if !ids.is_empty() {
            let mut db = self.store.acquire().await?;
            let found = endpoints::revisions(&mut db, owner, ids).await?;
            if let Some(id) = ids.iter().find(|id| found.iter().all(|(there, _)| there != *id)) {
                return Err(no_such_endpoint(*id));
            }
        }
        let period = self.settings.times.watch_refresh;
        let mut timer = interval_at(Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = Watch {
            app: self.clone(),
            owner,
            only: ids.iter().copied().collect(),
            pokes,
            timer,
            shown: BTreeMap::new(),
            dirty: BTreeSet::new(),
            all_dirty: true,
            ready: VecDeque::new(),
        };
        // After a failure there is nothing more: the client starts anew.
        Ok(futures_util::stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(endpoint)) => Some((Ok(endpoint), Some(watch))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

impl Watch {
    /// The next endpoint that the client has not seen as it is; `None` when the process ends.
    async fn next(&mut self) -> Result<Option<Endpoint>> {
        loop {
            if let Some(endpoint) = self.ready.pop_front() {
                return Ok(Some(endpoint));
            }
            while let Some(changed) = self.pokes.try_next() {
                self.hear(changed);
            }
            if self.all_dirty {
                self.look_everywhere().await?;
            }
            if !self.dirty.is_empty() {
                self.read().await?;
                continue;
            }
            tokio::select! {
                () = self.app.pokes.ended() => return Ok(None),
                changed = self.pokes.next() => self.hear(changed),
                _ = self.timer.tick() => self.all_dirty = true,
            }
        }
    }

    fn hear(&mut self, changed: Changed) {
        match changed {
            Changed::Any => self.all_dirty = true,
            Changed::One(id) if self.only.is_empty() || self.only.contains(&id) => {
                self.dirty.insert(id);
            }
            Changed::One(_) => {}
        }
    }

    /// Finds what changed by comparing revisions, and forgets what is not there any more.
    async fn look_everywhere(&mut self) -> Result<()> {
        let only: Vec<_> = self.only.iter().copied().collect();
        let mut db = self.app.store.acquire().await?;
        let present = endpoints::revisions(&mut db, self.owner, &only).await?;
        let present: BTreeMap<_, _> = present.into_iter().collect();
        self.shown.retain(|id, _| present.contains_key(id));
        self.dirty.retain(|id| present.contains_key(id));
        let changed = present.iter().filter(|(id, revision)| self.shown.get(id) < Some(revision));
        self.dirty.extend(changed.map(|(id, _)| *id));
        self.all_dirty = false;
        Ok(())
    }

    /// Reads some of those that may have changed, and keeps those that did.
    async fn read(&mut self) -> Result<()> {
        let some: Vec<_> = self.dirty.iter().copied().take(BATCH).collect();
        let mut db = self.app.store.acquire().await?;
        for endpoint in endpoints::find(&mut db, self.owner, &some).await? {
            if self.shown.get(&endpoint.id).is_none_or(|shown| *shown < endpoint.revision) {
                self.shown.insert(endpoint.id, endpoint.revision);
                self.ready.push_back(endpoint);
            }
        }
        for id in some {
            self.dirty.remove(&id);
        }
        Ok(())
    }
}
