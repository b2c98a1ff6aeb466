//! What happens to an endpoint, as the world hears of it (spec section 7).
//!
//! An event is a fact: it is written in the transaction that made it true, and travels as a
//! CloudEvents 1.0 document. It names the notifications that matched at that moment, so that whoever
//! delivers it asks nobody.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::AccountId;
use crate::endpoint::EndpointState;
use crate::id::{EndpointId, NotificationId, ServiceId};
use crate::zone::Region;

/// The events that a notification may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// A consumer made an endpoint.
    Connect,
    /// The provider accepted it.
    Accept,
    /// The provider rejected it.
    Reject,
    /// The consumer deleted it.
    Delete,
}

impl EventKind {
    /// Every kind that there is.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Accept, Self::Reject, Self::Delete];

    /// The kind as AWS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Accept => "Accept",
            Self::Reject => "Reject",
            Self::Delete => "Delete",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no kind of event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no event: expected Connect, Accept, Reject or Delete")]
pub struct UnknownEvent(String);

impl FromStr for EventKind {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownEvent(text.chars().take(64).collect()))
    }
}

/// The side that caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The endpoint's owner.
    Consumer,
    /// The service's owner.
    Provider,
    /// Postern itself: automatic acceptance.
    System,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// The side.
    pub side: Side,
    /// The account; none for the system.
    pub account: Option<AccountId>,
}

/// A notification that asked for the event, at the moment when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notified {
    /// The notification.
    pub notification_id: NotificationId,
    /// The topic's ARN.
    pub topic_arn: String,
    /// The account that owns what the notification is about: `aws:SourceAccount` of the publish.
    pub owner_account: AccountId,
    /// The ARN of the endpoint or service that it is about: `aws:SourceArn` of the publish.
    pub source_arn: String,
}

/// Something that happened to an endpoint: the `data` of the CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointHappening {
    /// What happened.
    pub event: EventKind,
    /// When.
    pub time: DateTime<Utc>,
    /// Where.
    pub region: Region,
    /// The service.
    pub service_id: ServiceId,
    /// The service's name.
    pub service_name: String,
    /// The provider's account.
    pub service_owner: AccountId,
    /// The endpoint.
    pub vpc_endpoint_id: EndpointId,
    /// The consumer's account.
    pub vpc_endpoint_owner: AccountId,
    /// The state that the endpoint is in now.
    pub vpc_endpoint_state: EndpointState,
    /// The state before; none when it was made.
    pub previous_state: Option<EndpointState>,
    /// Whether the service's owner decides on requests.
    pub acceptance_required: bool,
    /// Who caused it.
    pub actor: Actor,
    /// The number of this event among the endpoint's, from 1, without gaps.
    pub sequence: i64,
    /// The notifications that asked for it.
    pub notifications: Vec<Notified>,
}

/// The CloudEvents 1.0 envelope, in structured JSON form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// The event's id: repeats of one event have the same.
    pub id: Uuid,
    /// `postern/<region>`.
    pub source: String,
    /// `postern.endpoint.<kind>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The endpoint's id.
    pub subject: String,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// The version of the data: `urn:postern:event:1:<kind>`, the `$id` of the schema in
    /// `proto/events`. Events from before there were versions have none.
    #[serde(default)]
    pub dataschema: String,
    /// What happened.
    pub data: EndpointHappening,
}

impl CloudEvent {
    /// Puts what happened into its envelope.
    pub fn new(id: Uuid, data: EndpointHappening) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: format!("postern/{}", data.region),
            kind: format!("postern.endpoint.{}", data.event),
            subject: data.vpc_endpoint_id.to_string(),
            time: data.time,
            datacontenttype: "application/json".to_owned(),
            dataschema: format!("urn:postern:event:1:{}", data.event),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_travels_as_a_cloud_event_and_reads_back() {
        let happening = EndpointHappening {
            event: EventKind::Connect,
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            service_id: "vpce-svc-0a1b2c3d4e5f60718".parse().unwrap(),
            service_name: "com.amazonaws.vpce.us-east-1.vpce-svc-0a1b2c3d4e5f60718".to_owned(),
            service_owner: "111122223333".parse().unwrap(),
            vpc_endpoint_id: "vpce-0a1b2c3d4e5f60718".parse().unwrap(),
            vpc_endpoint_owner: "444455556666".parse().unwrap(),
            vpc_endpoint_state: EndpointState::PendingAcceptance,
            previous_state: None,
            acceptance_required: true,
            actor: Actor { side: Side::Consumer, account: Some("444455556666".parse().unwrap()) },
            sequence: 1,
            notifications: Vec::new(),
        };
        let event = CloudEvent::new(Uuid::nil(), happening);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["specversion"], "1.0");
        assert_eq!(json["type"], "postern.endpoint.Connect");
        assert_eq!(json["data"]["vpcEndpointState"], "pendingAcceptance");
        assert_eq!(json["data"]["actor"]["side"], "consumer");
        assert_eq!(serde_json::from_value::<CloudEvent>(json).unwrap(), event);
    }
}
