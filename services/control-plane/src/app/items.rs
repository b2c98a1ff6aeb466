//! Items of bulk requests that are not done (spec 0.3): one that fails never blocks the others.

use postern_model::id::{EndpointId, NotificationId, ServiceId};
use postern_model::{Code, Refusal};

/// An item that is not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuccessful {
    /// The resource, as it was sent.
    pub resource: String,
    /// Why.
    pub refusal: Refusal,
}

impl Unsuccessful {
    /// An item about a resource.
    pub fn new(resource: impl ToString, code: Code, message: impl Into<String>) -> Self {
        Self { resource: resource.to_string(), refusal: Refusal::new(code, message) }
    }

    /// No such endpoint: the same answer for one that is not there and for somebody else's.
    pub fn endpoint_not_found(id: EndpointId) -> Self {
        let message = format!("the endpoint {id} does not exist");
        Self::new(id, Code::InvalidVpcEndpointNotFound, message)
    }

    /// No such service: the same answer for one that is not there and for somebody else's.
    pub fn service_not_found(id: ServiceId) -> Self {
        let message = format!("the endpoint service {id} does not exist");
        Self::new(id, Code::InvalidVpcEndpointServiceNotFound, message)
    }

    /// No such notification: the same answer for one that is not there and for somebody else's.
    pub fn notification_not_found(id: NotificationId) -> Self {
        let message = format!("the connection notification {id} does not exist");
        Self::new(id, Code::InvalidConnectionNotification, message)
    }
}
