//! The states of endpoints, on the wire and off it.

use postern_model::Code;
use postern_model::endpoint::EndpointState;
use postern_proto::v1::VpcEndpointState as Wire;

use crate::error::{Error, Result};

/// A state as it goes out.
pub fn state(state: EndpointState) -> Wire {
    match state {
        EndpointState::PendingAcceptance => Wire::PendingAcceptance,
        EndpointState::Pending => Wire::Pending,
        EndpointState::Available => Wire::Available,
        EndpointState::Partial => Wire::Partial,
        EndpointState::Rejected => Wire::Rejected,
        EndpointState::Expired => Wire::Expired,
        EndpointState::Failed => Wire::Failed,
        EndpointState::Deleting => Wire::Deleting,
        EndpointState::Deleted => Wire::Deleted,
    }
}

/// A state that a list is to be of; none when it is not said.
///
/// # Errors
///
/// `InvalidParameterValue` for a number that is no state.
pub fn wanted(field: &str, number: i32) -> Result<Option<EndpointState>> {
    let unknown = |_| {
        let reason = format!("{number} is no state of an endpoint");
        Error::of_field(Code::InvalidParameterValue, field, reason)
    };
    Ok(match Wire::try_from(number).map_err(unknown)? {
        Wire::Unspecified => None,
        Wire::PendingAcceptance => Some(EndpointState::PendingAcceptance),
        Wire::Pending => Some(EndpointState::Pending),
        Wire::Available => Some(EndpointState::Available),
        Wire::Partial => Some(EndpointState::Partial),
        Wire::Rejected => Some(EndpointState::Rejected),
        Wire::Expired => Some(EndpointState::Expired),
        Wire::Failed => Some(EndpointState::Failed),
        Wire::Deleting => Some(EndpointState::Deleting),
        Wire::Deleted => Some(EndpointState::Deleted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_goes_out_and_comes_back() {
        for one in EndpointState::ALL {
            assert_eq!(wanted("state", state(one) as i32).unwrap(), Some(one));
        }
        assert_eq!(wanted("state", 0).unwrap(), None);
        assert!(wanted("state", 99).is_err());
    }
}
