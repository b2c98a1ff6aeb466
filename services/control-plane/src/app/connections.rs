//! Connections: endpoints as the owner of their service sees them, and what the owner decides
//! (spec 1.11 and 1.12).

use postern_model::Code;
use postern_model::endpoint::{EndpointEvent, EndpointState};
use postern_model::event::Side;
use postern_model::id::{EndpointId, ServiceId};
use postern_proto::page::Page;

use super::App;
use super::endpoints::waiting;
use super::events::Word;
use super::items::Unsuccessful;
use super::services::no_service;
use super::trace_context;
use crate::caller::Caller;
use crate::error::Result;
use crate::store::endpoints::{self, Cause, Endpoint, EndpointRow, Filter, Scope};
use crate::store::fleet::Touched;
use crate::store::services::{self, Hold};
use crate::store::{fleet, interfaces};

/// What a service's owner says to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; also to one that was rejected before (spec 2.3).
    Accept,
    /// No; also to one that was accepted before, whose traffic stops.
    Reject,
}

impl Decision {
    fn event(self) -> EndpointEvent {
        match self {
            Self::Accept => EndpointEvent::Accepted,
            Self::Reject => EndpointEvent::Rejected,
        }
    }

    /// Whether a connection in `state` is as the decision wants it already: then it succeeds and
    /// nothing happens (spec 1.11).
    fn is_done(self, state: EndpointState) -> bool {
        match self {
            Self::Accept => state.serves(),
            Self::Reject => state == EndpointState::Rejected,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject => "rejected",
        }
    }
}

impl App {
    /// A page of the endpoints connected to the caller's services, by id. The answer must not be shown
    /// with the consumer's VPC, subnets or addresses.
    ///
    /// # Errors
    ///
    /// The database away. Another account's service matches nothing.
    pub async fn connections(
        &self,
        caller: &Caller,
        filter: Filter,
        page: &Page,
    ) -> Result<Vec<Endpoint>> {
        let provider = caller.account()?;
        let mut db = self.store.acquire().await?;
        endpoints::connections(&mut db, provider, filter, page.after.as_deref(), page.limit()).await
    }

    /// Accepts or rejects connections of a service of the caller's, each by itself (spec 1.11).
    ///
    /// # Errors
    ///
    /// `InvalidVpcEndpointServiceId.NotFound` for the whole call. What can't be done to an endpoint is
    /// an item of the answer.
    pub async fn decide(
        &self,
        caller: &Caller,
        service: ServiceId,
        ids: &[EndpointId],
        decision: Decision,
    ) -> Result<Vec<Unsuccessful>> {
        let provider = caller.account()?;
        let now = self.clock.now();
        let event = decision.event();
        let mut tx = self.store.begin().await?;
        if services::lock(&mut tx, provider, &[service], Hold::Share).await?.is_empty() {
            return Err(no_service(service));
        }
        let found = endpoints::lock(&mut tx, Scope::Service(service), ids).await?;
        let mut unsuccessful = Vec::new();
        for id in ids {
            match found.iter().find(|row| row.id == *id) {
                None => unsuccessful.push(Unsuccessful::endpoint_not_found(*id)),
                Some(row) if decision.is_done(row.state) || row.state.after(event).is_some() => {}
                Some(row) => {
                    let message = format!(
                        "the endpoint {id} is in the state {}, which does not allow it to be {}",
                        row.state,
                        decision.word()
                    );
                    unsuccessful.push(Unsuccessful::new(id, Code::InvalidState, message));
                }
            }
        }
        let mut rows: Vec<_> =
            found.into_iter().filter(|row| row.state.after(event).is_some()).collect();
        if rows.is_empty() {
            return Ok(unsuccessful);
        }
        let moved: Vec<_> = rows.iter().map(|row| row.id).collect();
        let all = interfaces::of(&mut tx, &moved).await?;
        let cause = Cause { side: Side::Provider, account: Some(provider), now };
        let reason = |row: &EndpointRow| match decision {
            Decision::Accept => waiting(&all, row.id),
            Decision::Reject => String::new(),
        };
        self.move_and_tell(&mut tx, &mut rows, event, cause, reason).await?;
        let mut touched = Touched::default();
        for interface in all.iter().filter(|interface| !interface.removed) {
            touched.interface(interface.id);
        }
        for row in &rows {
            touched.names(row.vpc, row.id);
        }
        let hosts = fleet::advance(&mut tx, &touched, &trace_context()).await?;
        tx.commit().await?;
        self.spread(Word {
            hosts,
            endpoints: rows.iter().map(|row| (row.owner, row.id)).collect(),
            outbox: true,
            reconcile: decision == Decision::Accept,
        });
        if decision == Decision::Accept {
            // One without interfaces has nothing to set up, so that no host will say it is done.
            let bare = |id: &EndpointId| all.iter().all(|one| one.endpoint != *id || one.removed);
            for id in moved.into_iter().filter(bare) {
                self.settle(id).await?;
            }
        }
        Ok(unsuccessful)
    }
}
