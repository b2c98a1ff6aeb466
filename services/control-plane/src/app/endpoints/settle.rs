//! Where endpoints go by themselves: available when their hosts are done, deleted when their hosts
//! have let go, expired when nobody decides, forgotten in the end (spec 2.2 and 2.3).

use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::id::EndpointId;

use super::NO_HOST;
use crate::app::App;
use crate::app::events::Word;
use crate::app::trace_context;
use crate::error::Result;
use crate::store::endpoints::{Cause, EndpointRow, Scope};
use crate::store::fleet::Touched;
use crate::store::interfaces::{self, InterfaceRow};
use crate::store::sites::before;
use crate::store::{client_tokens, endpoints, fleet, services};

/// How many rows a transaction of the sweepers takes.
const BATCH: i64 = 500;
/// How many transactions a sweep has at most; the next sweep goes on.
const BATCHES: usize = 100;

/// What a sweep took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Forgotten {
    /// Deleted endpoints that were shown long enough.
    pub endpoints: u64,
    /// Deleted services that no endpoint leads to any more.
    pub services: u64,
    /// Client tokens that are too old to be a repeat's.
    pub client_tokens: u64,
}

impl App {
    /// Looks at one endpoint again, and moves it where it is due to go. Does nothing when it is due
    /// nowhere, or not there: whoever has a hint may call this, and as often as they like.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn settle(&self, id: EndpointId) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let mut rows = endpoints::lock(&mut tx, Scope::Everyone, &[id]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (owner, vpc, published) = (row.owner, row.vpc, row.published);
        let all = interfaces::of(&mut tx, &[id]).await?;
        let cleared = all.iter().any(InterfaceRow::let_go);
        if cleared {
            interfaces::clear(&mut tx, id, now).await?;
        }
        let overdue = row.state_changed_at <= before(now, self.settings.times.pending_timeout);
        let Some((event, reason)) = verdict(row, &all, overdue) else {
            tx.commit().await?;
            return Ok(());
        };
        let cause = Cause::system(now);
        self.move_and_tell(&mut tx, &mut rows, event, cause, |_| reason.clone()).await?;
        if event == EndpointEvent::Detached {
            endpoints::strip(&mut tx, id).await?;
        }
        let mut touched = Touched::default();
        if rows.iter().any(|row| row.published != published)
            || matches!(
                event,
                // With the endpoint, what is left of its names goes: the empty regional one.
                EndpointEvent::PartlyAttached | EndpointEvent::Attached | EndpointEvent::Detached
            )
        {
            touched.names(vpc, id);
        }
        if event == EndpointEvent::AttachFailed {
            // A failed endpoint serves no more: its hosts are told.
            for interface in all.iter().filter(|interface| !interface.removed) {
                touched.interface(interface.id);
            }
        }
        let hosts = fleet::advance(&mut tx, &touched, &trace_context()).await?;
        tx.commit().await?;
        self.spread(Word { hosts, endpoints: vec![(owner, id)], ..Word::default() });
        Ok(())
    }

    /// Expires the requests that nobody decided on in time (spec 2.3). Returns how many.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn expire_due(&self) -> Result<u64> {
        let mut expired = 0;
        for _ in 0..BATCHES {
            let now = self.clock.now();
            let since = before(now, self.settings.times.pending_acceptance_ttl);
            let mut tx = self.store.begin().await?;
            let waiting = EndpointState::PendingAcceptance;
            let mut rows = endpoints::overdue(&mut tx, waiting, since, BATCH).await?;
            if rows.is_empty() {
                break;
            }
            let reason = |_: &EndpointRow| "the provider did not decide in time".to_owned();
            let cause = Cause::system(now);
            let event = EndpointEvent::Expired;
            self.move_and_tell(&mut tx, &mut rows, event, cause, reason).await?;
            tx.commit().await?;
            expired += rows.len() as u64;
            let endpoints = rows.iter().map(|row| (row.owner, row.id)).collect();
            self.spread(Word { endpoints, ..Word::default() });
            if (rows.len() as i64) < BATCH {
                break;
            }
        }
        Ok(expired)
    }

    /// Forgets what was kept for a while only: deleted endpoints an hour after their end (spec 2.3),
    /// deleted services, and client tokens after a day (spec 0.3).
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn forget_deleted(&self) -> Result<Forgotten> {
        let now = self.clock.now();
        let times = self.settings.times;
        let mut db = self.store.acquire().await?;
        let mut forgotten = Forgotten::default();
        for _ in 0..BATCHES {
            let round = Forgotten {
                endpoints: endpoints::forget(&mut db, before(now, times.deleted_retention), BATCH)
                    .await?,
                services: services::forget(&mut db, BATCH).await?,
                client_tokens: client_tokens::forget(
                    &mut db,
                    before(now, times.client_token_retention),
                    BATCH,
                )
                .await?,
            };
            forgotten.endpoints += round.endpoints;
            forgotten.services += round.services;
            forgotten.client_tokens += round.client_tokens;
            if round == Forgotten::default() {
                break;
            }
        }
        Ok(forgotten)
    }
}

/// Where an endpoint is due to go, and why it is there then; `overdue` when its hosts had their time.
fn verdict(
    row: &EndpointRow,
    interfaces: &[InterfaceRow],
    overdue: bool,
) -> Option<(EndpointEvent, String)> {
    let live = || interfaces.iter().filter(|interface| !interface.removed);
    let done = || live().filter(|interface| interface.up_to_date).count();
    let all_done = done() == live().count();
    match row.state {
        EndpointState::Deleting => {
            // Whatever it has is to go; it is gone when no host has any of it.
            let held = interfaces.iter().any(|interface| interface.host.is_some());
            (!held).then(|| (EndpointEvent::Detached, String::new()))
        }
        EndpointState::Pending | EndpointState::Partial if all_done => {
            Some((EndpointEvent::Attached, String::new()))
        }
        EndpointState::Pending if overdue && done() > 0 => {
            Some((EndpointEvent::PartlyAttached, why(live())))
        }
        EndpointState::Pending if overdue => Some((EndpointEvent::AttachFailed, why(live()))),
        _ => None,
    }
}

/// What is wrong with each interface that is not as it should be.
fn why<'a>(interfaces: impl Iterator<Item = &'a InterfaceRow>) -> String {
    let faults = interfaces.filter(|interface| !interface.up_to_date).map(|interface| {
        let fault = match interface.host {
            None => NO_HOST,
            Some(_) if interface.bind_error.is_empty() => "its host has not confirmed it in time",
            Some(_) => &interface.bind_error,
        };
        format!("{} in {}: {fault}", interface.id, interface.zone)
    });
    faults.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn interface(digit: char, zone: &str, up_to_date: bool) -> InterfaceRow {
        InterfaceRow {
            id: format!("eni-0000000000000000{digit}").parse().unwrap(),
            endpoint: "vpce-00000000000000001".parse().unwrap(),
            subnet: "subnet-00000000000000001".parse().unwrap(),
            zone: zone.parse().unwrap(),
            host: Some("host-00000000000000001".parse().unwrap()),
            up_to_date,
            bind_error: String::new(),
            removed: false,
        }
    }

    fn row(state: EndpointState) -> EndpointRow {
        EndpointRow {
            id: "vpce-00000000000000001".parse().unwrap(),
            owner: "111122223333".parse().unwrap(),
            vpc: "vpc-00000000000000001".parse().unwrap(),
            service: "vpce-svc-00000000000000001".parse().unwrap(),
            service_name: String::new(),
            service_owner: "444455556666".parse().unwrap(),
            acceptance_required: true,
            state,
            private_dns_name: None,
            published: false,
            failure_reason: String::new(),
            revision: 1,
            event_sequence: 1,
            state_changed_at: DateTime::<Utc>::UNIX_EPOCH,
        }
    }

    fn event(
        state: EndpointState,
        interfaces: &[InterfaceRow],
        overdue: bool,
    ) -> Option<EndpointEvent> {
        verdict(&row(state), interfaces, overdue).map(|(event, _)| event)
    }

    #[test]
    fn a_pending_endpoint_is_attached_when_every_interface_is_up_to_date() {
        let (up, down) = (interface('1', "use1-az1", true), interface('2', "use1-az2", false));
        let pending = EndpointState::Pending;
        assert_eq!(event(pending, &[up.clone(), down.clone()], false), None);
        let mut going = down;
        going.removed = true;
        assert_eq!(event(pending, &[up, going], false), Some(EndpointEvent::Attached));
        assert_eq!(event(pending, &[], false), Some(EndpointEvent::Attached));
    }

    #[test]
    fn a_deadline_makes_it_partial_when_some_zone_is_up_and_failed_otherwise() {
        let (up, mut down) = (interface('1', "use1-az1", true), interface('2', "use1-az2", false));
        down.bind_error = "address in use".to_owned();
        let (some, none) = ([up, down.clone()], [down]);
        let pending = EndpointState::Pending;
        let (partly, reason) = verdict(&row(pending), &some, true).unwrap();
        assert_eq!(partly, EndpointEvent::PartlyAttached);
        assert_eq!(reason, "eni-00000000000000002 in use1-az2: address in use");
        assert_eq!(event(pending, &none, true), Some(EndpointEvent::AttachFailed));
        assert_eq!(event(EndpointState::Partial, &some, true), None);
    }

    #[test]
    fn a_deleting_endpoint_is_gone_when_no_host_has_any_of_it() {
        let mut held = interface('1', "use1-az1", true);
        held.removed = true;
        assert_eq!(event(EndpointState::Deleting, std::slice::from_ref(&held), true), None);
        held.host = None;
        let gone = event(EndpointState::Deleting, &[held], false);
        assert_eq!(gone, Some(EndpointEvent::Detached));
    }

    #[test]
    fn other_states_wait_for_somebody() {
        for state in EndpointState::ALL {
            let moves = matches!(
                state,
                EndpointState::Pending | EndpointState::Partial | EndpointState::Deleting
            );
            assert_eq!(event(state, &[], true).is_some(), moves, "{state}");
        }
    }
}
