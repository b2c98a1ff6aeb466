//! The life of an endpoint (spec section 2): one table, read by the compiler, the database's guards
//! and the tests. Nothing else decides whether a move is legal.

use std::fmt;
use std::str::FromStr;

/// Where an endpoint is in its life (spec 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// Waits for the provider's decision.
    PendingAcceptance,
    /// Accepted and being set up on its hosts; also while a modification runs.
    Pending,
    /// Packets flow.
    Available,
    /// Some zones are usable, others not.
    Partial,
    /// The provider refused it, before or after it was available.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// It could not be made available.
    Failed,
    /// The consumer asked for its deletion.
    Deleting,
    /// Gone.
    Deleted,
}

/// What happens to an endpoint. An event may be refused: see [`EndpointState::after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointEvent {
    /// The provider accepted it.
    Accepted,
    /// The provider rejected it.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// Every interface is bound on its host.
    Attached,
    /// Some interfaces are bound, and others could not be in time.
    PartlyAttached,
    /// No interface could be bound in time.
    AttachFailed,
    /// The consumer changed it, so that its hosts have work to do.
    Modified,
    /// The consumer asked for its deletion.
    DeleteRequested,
    /// Its hosts let go of every interface.
    Detached,
}

impl EndpointEvent {
    /// Every event that there is.
    pub const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Rejected,
        Self::Expired,
        Self::Attached,
        Self::PartlyAttached,
        Self::AttachFailed,
        Self::Modified,
        Self::DeleteRequested,
        Self::Detached,
    ];
}

impl EndpointState {
    /// Every state that there is.
    pub const ALL: [Self; 9] = [
        Self::PendingAcceptance,
        Self::Pending,
        Self::Available,
        Self::Partial,
        Self::Rejected,
        Self::Expired,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
    ];

    /// The first state of an endpoint to a service that does, or does not, require acceptance.
    pub fn first(acceptance_required: bool) -> Self {
        if acceptance_required { Self::PendingAcceptance } else { Self::Pending }
    }

    /// The state that `event` moves this one to; `None` where the table (spec 2.2) has no such edge.
    pub fn after(self, event: EndpointEvent) -> Option<Self> {
        use EndpointEvent as On;
        match (self, event) {
            // A rejected endpoint may be accepted again while its service lives (spec 2.3).
            (Self::PendingAcceptance | Self::Rejected, On::Accepted) => Some(Self::Pending),
            (
                Self::PendingAcceptance | Self::Pending | Self::Partial | Self::Available,
                On::Rejected,
            ) => Some(Self::Rejected),
            (Self::PendingAcceptance, On::Expired) => Some(Self::Expired),
            (Self::Pending | Self::Partial, On::Attached) => Some(Self::Available),
            (Self::Pending, On::PartlyAttached) => Some(Self::Partial),
            (Self::Pending, On::AttachFailed) => Some(Self::Failed),
            // What is not accepted yet has nothing to set up: it goes on waiting.
            (Self::PendingAcceptance, On::Modified) => Some(Self::PendingAcceptance),
            (Self::Pending | Self::Partial | Self::Available, On::Modified) => Some(Self::Pending),
            (Self::Deleting, On::Detached) => Some(Self::Deleted),
            (Self::Deleting | Self::Deleted, On::DeleteRequested) => None,
            (_, On::DeleteRequested) => Some(Self::Deleting),
            _ => None,
        }
    }

    /// The states that `event` may leave: a SQL update's guard comes from the same table.
    pub fn sources(event: EndpointEvent) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |state| state.after(event).is_some())
    }

    /// Whether the endpoint's addresses take connections.
    ///
    /// While a modification runs (`pending`), flows that were there go on (spec 2.1), so the hosts
    /// serve from the acceptance on; `available` adds that this was seen to work.
    pub fn serves(self) -> bool {
        matches!(self, Self::Pending | Self::Available | Self::Partial)
    }

    /// Whether the endpoint's names lead to its addresses: only when packets flow, or did and a
    /// modification runs (design 6).
    pub fn resolves(self) -> bool {
        matches!(self, Self::Available | Self::Partial)
    }

    /// Whether this counts as a live connection, which keeps its service from being deleted
    /// (spec 1.9).
    pub fn holds_service(self) -> bool {
        matches!(self, Self::PendingAcceptance | Self::Pending | Self::Available | Self::Partial)
    }

    /// The state as the database and AWS's answers spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Partial => "partial",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no state of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of an endpoint")]
pub struct UnknownState(String);

impl FromStr for EndpointState {
    type Err = UnknownState;

    /// Reads a state, ignoring case: clients write either form (spec 2.1).
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownState(text.chars().take(64).collect()))
    }
}

impl serde::Serialize for EndpointState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for EndpointState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointEvent as On;
    use EndpointState as S;

    /// Spec 2.2, written out once more, as pairs: what is not here must be refused.
    const EDGES: &[(S, On, S)] = &[
        (S::PendingAcceptance, On::Accepted, S::Pending),
        (S::PendingAcceptance, On::Rejected, S::Rejected),
        (S::PendingAcceptance, On::Expired, S::Expired),
        (S::PendingAcceptance, On::Modified, S::PendingAcceptance),
        (S::PendingAcceptance, On::DeleteRequested, S::Deleting),
        (S::Pending, On::Attached, S::Available),
        (S::Pending, On::PartlyAttached, S::Partial),
        (S::Pending, On::AttachFailed, S::Failed),
        (S::Pending, On::Rejected, S::Rejected),
        (S::Pending, On::Modified, S::Pending),
        (S::Pending, On::DeleteRequested, S::Deleting),
        (S::Available, On::Modified, S::Pending),
        (S::Available, On::Rejected, S::Rejected),
        (S::Available, On::DeleteRequested, S::Deleting),
        (S::Partial, On::Attached, S::Available),
        (S::Partial, On::Rejected, S::Rejected),
        (S::Partial, On::Modified, S::Pending),
        (S::Partial, On::DeleteRequested, S::Deleting),
        (S::Rejected, On::Accepted, S::Pending),
        (S::Rejected, On::DeleteRequested, S::Deleting),
        (S::Expired, On::DeleteRequested, S::Deleting),
        (S::Failed, On::DeleteRequested, S::Deleting),
        (S::Deleting, On::Detached, S::Deleted),
    ];

    #[test]
    fn every_pair_of_state_and_event_is_as_the_specification_says() {
        for state in S::ALL {
            for event in On::ALL {
                let expected = EDGES
                    .iter()
                    .find(|(from, on, _)| (*from, *on) == (state, event))
                    .map(|(_, _, to)| *to);
                assert_eq!(state.after(event), expected, "{state:?} after {event:?}");
                assert_eq!(S::sources(event).any(|source| source == state), expected.is_some());
            }
        }
    }

    #[test]
    fn nothing_leaves_the_last_state_and_every_other_leads_to_it() {
        assert!(On::ALL.iter().all(|event| S::Deleted.after(*event).is_none()));
        for state in S::ALL.into_iter().filter(|state| *state != S::Deleted) {
            let deleting =
                if state == S::Deleting { Some(state) } else { state.after(On::DeleteRequested) };
            assert_eq!(deleting.and_then(|state| state.after(On::Detached)), Some(S::Deleted));
        }
    }

    #[test]
    fn a_state_reads_back_ignoring_case() {
        for state in S::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(state.as_str().to_uppercase().parse(), Ok(state));
        }
        assert!("waiting".parse::<S>().is_err());
    }
}
