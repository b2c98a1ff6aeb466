//! Requests into commands, and what is kept into messages. Generated types go no further.

use chrono::{DateTime, Utc};
use postern_model::{Code, InvalidField, Refusal, field};
use postern_proto::page::Page;
use postern_proto::{time, v1};
use prost_types::{Duration, Timestamp};

use crate::app::{
    Confirm, CreateTopic, Inspected, ListDeliveries, MessageAttribute, Publish,
    SetSubscriptionAttributes, SetTopicAttributes, Subscribe, SubscriptionProtocol, Topic,
};
use crate::plan;
use crate::store::deliveries::{AttemptRow, DeliveryRow, DeliveryState};
use crate::store::messages::MessageKind;
use crate::store::subscriptions::SubscriptionRow;

/// The longest display name, in characters (spec 8.2, proto).
const MAX_DISPLAY_NAME: usize = 100;
/// The most bytes of a message with its attributes (spec 8.2).
const MAX_MESSAGE: usize = 262_144;
/// The most attributes of a message.
const MAX_ATTRIBUTES: usize = 10;

fn when(time: DateTime<Utc>) -> Option<Timestamp> {
    Some(time::timestamp(time))
}

fn display_name(text: Option<String>) -> Result<Option<String>, InvalidField> {
    let Some(text) = text else { return Ok(None) };
    if text.chars().count() > MAX_DISPLAY_NAME || text.chars().any(char::is_control) {
        let why = format!("must have at most {MAX_DISPLAY_NAME} characters, and no control ones");
        return Err(InvalidField::new("display_name", why));
    }
    Ok(Some(text))
}

fn signature_version(number: i32) -> Result<Option<i16>, InvalidField> {
    match v1::SignatureVersion::try_from(number) {
        Ok(v1::SignatureVersion::Unspecified) => Ok(None),
        Ok(v1::SignatureVersion::Sha1) => Ok(Some(1)),
        Ok(v1::SignatureVersion::Sha256) => Ok(Some(2)),
        Err(_) => Err(InvalidField::new("signature_version", "is none of those that there are")),
    }
}

fn not_supported(field: &str, given: Option<String>) -> Result<(), Refusal> {
    match given {
        None => Ok(()),
        Some(_) => {
            Err(Refusal::of_field(Code::UnsupportedOperation, field, "is not supported yet"))
        }
    }
}

impl TryFrom<v1::CreateTopicRequest> for CreateTopic {
    type Error = Refusal;

    fn try_from(request: v1::CreateTopicRequest) -> Result<Self, Refusal> {
        let v1::CreateTopicRequest {
            name,
            display_name: shown,
            policy,
            signature_version: version,
            delivery_policy,
        } = request;
        let name = name.parse().map_err(|error| {
            Refusal::of_field(
                Code::InvalidParameter,
                "name",
                format!("Invalid parameter: Topic Name: {error}"),
            )
        })?;
        Ok(Self {
            name,
            display_name: display_name(shown)?,
            policy,
            signature_version: signature_version(version)?,
            delivery_policy,
        })
    }
}

impl TryFrom<v1::SetTopicAttributesRequest> for SetTopicAttributes {
    type Error = Refusal;

    fn try_from(request: v1::SetTopicAttributesRequest) -> Result<Self, Refusal> {
        let v1::SetTopicAttributesRequest {
            topic_arn,
            policy,
            display_name: shown,
            signature_version: version,
            delivery_policy,
        } = request;
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            policy,
            display_name: display_name(shown)?,
            signature_version: signature_version(version)?,
            delivery_policy,
        })
    }
}

impl TryFrom<v1::PublishRequest> for Publish {
    type Error = Refusal;

    fn try_from(request: v1::PublishRequest) -> Result<Self, Refusal> {
        let v1::PublishRequest { topic_arn, message, subject, message_attributes } = request;
        let bad = |field: &str, why: &str| Refusal::of_field(Code::InvalidParameter, field, why);
        if message.is_empty() {
            return Err(bad("message", "Invalid parameter: Empty message"));
        }
        if subject.chars().count() >= 100 || subject.chars().any(char::is_control) {
            return Err(bad("subject", "must have under 100 characters, and no control ones"));
        }
        if message_attributes.len() > MAX_ATTRIBUTES {
            return Err(bad("message_attributes", "a message has at most 10 attributes"));
        }
        let mut size = message.len();
        let mut attributes = Vec::with_capacity(message_attributes.len());
        for (name, attribute) in message_attributes {
            let v1::MessageAttribute { data_type, value } = attribute;
            size += name.len() + data_type.len() + value.len();
            let field = format!("message_attributes[{name}]");
            if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
                return Err(bad(&field, "a name has 1 to 256 bytes, and no control characters"));
            }
            let base = data_type.split('.').next().unwrap_or_default();
            if !matches!(base, "String" | "Number" | "Binary") {
                return Err(bad(&field, "the type must be String, String.Array, Number or Binary"));
            }
            if value.is_empty() {
                return Err(bad(&field, "the value is empty"));
            }
            attributes.push(MessageAttribute { name, data_type, value });
        }
        if size > MAX_MESSAGE {
            return Err(bad("message", "Invalid parameter: Message too long"));
        }
        // A map has no order of its own: the same request is the same message.
        attributes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            message,
            subject: Some(subject).filter(|subject| !subject.is_empty()),
            attributes,
        })
    }
}

impl TryFrom<v1::SubscribeRequest> for Subscribe {
    type Error = Refusal;

    fn try_from(request: v1::SubscribeRequest) -> Result<Self, Refusal> {
        let v1::SubscribeRequest {
            topic_arn,
            protocol,
            endpoint,
            raw_message_delivery,
            delivery_policy,
            filter_policy,
            redrive_policy,
        } = request;
        not_supported("filter_policy", filter_policy)?;
        not_supported("redrive_policy", redrive_policy)?;
        use v1::SubscriptionProtocol as Protocol;
        let protocol = match Protocol::try_from(protocol) {
            Ok(Protocol::Http) => SubscriptionProtocol::Http,
            Ok(Protocol::Https) => SubscriptionProtocol::Https,
            Ok(Protocol::Email) => SubscriptionProtocol::Email,
            Ok(Protocol::EmailJson) => SubscriptionProtocol::EmailJson,
            Ok(Protocol::Unspecified) | Err(_) => {
                let why = "must be http, https, email or email-json";
                return Err(Refusal::of_field(Code::InvalidParameter, "protocol", why));
            }
        };
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            protocol,
            endpoint,
            raw: raw_message_delivery,
            delivery_policy,
        })
    }
}

impl TryFrom<v1::SetSubscriptionAttributesRequest> for SetSubscriptionAttributes {
    type Error = Refusal;

    fn try_from(request: v1::SetSubscriptionAttributesRequest) -> Result<Self, Refusal> {
        let v1::SetSubscriptionAttributesRequest {
            subscription_arn,
            raw_message_delivery,
            delivery_policy,
            filter_policy,
            redrive_policy,
        } = request;
        not_supported("filter_policy", filter_policy)?;
        not_supported("redrive_policy", redrive_policy)?;
        Ok(Self {
            subscription: field::parse("subscription_arn", &subscription_arn)?,
            raw: raw_message_delivery,
            delivery_policy,
        })
    }
}

impl TryFrom<v1::ConfirmSubscriptionRequest> for Confirm {
    type Error = Refusal;

    fn try_from(request: v1::ConfirmSubscriptionRequest) -> Result<Self, Refusal> {
        let v1::ConfirmSubscriptionRequest { topic_arn, token, authenticate_on_unsubscribe } =
            request;
        if token.is_empty() {
            return Err(Refusal::of_field(Code::InvalidParameter, "token", "is missing"));
        }
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            token,
            guarded: authenticate_on_unsubscribe,
        })
    }
}

impl TryFrom<v1::ListDeliveriesRequest> for ListDeliveries {
    type Error = Refusal;

    fn try_from(request: v1::ListDeliveriesRequest) -> Result<Self, Refusal> {
        let v1::ListDeliveriesRequest {
            topic_arn,
            subscription_arn,
            state,
            message_id,
            page_size,
            page_token,
        } = request;
        use v1::DeliveryState as State;
        let state = match State::try_from(state) {
            Ok(State::Unspecified) => None,
            Ok(State::Pending) => Some(DeliveryState::Pending),
            Ok(State::Delivered) => Some(DeliveryState::Delivered),
            Ok(State::DeadLettered) => Some(DeliveryState::DeadLettered),
            Ok(State::Dropped) => Some(DeliveryState::Dropped),
            Err(_) => {
                return Err(InvalidField::new("state", "is none of those that there are").into());
            }
        };
        let given = |text: &str| !text.is_empty();
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            subscription: Some(subscription_arn)
                .filter(|text| given(text))
                .map(|text| field::parse("subscription_arn", &text))
                .transpose()?,
            state,
            message: Some(message_id)
                .filter(|text| given(text))
                .map(|text| field::parse("message_id", &text))
                .transpose()?,
            page: Page::parse(page_size, &page_token)?,
        })
    }
}

impl From<Topic> for v1::Topic {
    fn from(Topic { row, counts }: Topic) -> Self {
        let signature_version = match row.signature_version {
            1 => v1::SignatureVersion::Sha1,
            _ => v1::SignatureVersion::Sha256,
        };
        Self {
            topic_arn: format!("arn:aws:sns:{}:{}:{}", row.region, row.owner_id, row.name),
            owner: row.owner_id,
            name: row.name,
            display_name: row.display_name,
            policy: row.policy,
            signature_version: signature_version.into(),
            effective_delivery_policy: plan::effective_topic_json(row.delivery_policy.as_deref()),
            delivery_policy: row.delivery_policy.unwrap_or_default(),
            subscriptions_confirmed: counts.confirmed,
            subscriptions_pending: counts.pending,
            subscriptions_deleted: counts.ended,
            create_time: when(row.created_at),
        }
    }
}

impl From<SubscriptionRow> for v1::Subscription {
    fn from(row: SubscriptionRow) -> Self {
        let topic_arn =
            format!("arn:aws:sns:{}:{}:{}", row.region, row.topic_owner_id, row.topic_name);
        let protocol = match row.protocol.as_str() {
            "http" => v1::SubscriptionProtocol::Http,
            "https" => v1::SubscriptionProtocol::Https,
            "email" => v1::SubscriptionProtocol::Email,
            "email-json" => v1::SubscriptionProtocol::EmailJson,
            _ => v1::SubscriptionProtocol::Unspecified,
        };
        let state = match row.state.as_str() {
            "pending" => v1::SubscriptionState::PendingConfirmation,
            "confirmed" => v1::SubscriptionState::Confirmed,
            _ => v1::SubscriptionState::Unspecified,
        };
        let effective_delivery_policy = if row.protocol.starts_with("http") {
            plan::effective_subscription_json(
                row.topic_delivery_policy.as_deref(),
                row.delivery_policy.as_deref(),
            )
        } else {
            String::new()
        };
        Self {
            subscription_arn: format!("{topic_arn}:{}", row.id),
            topic_arn,
            owner: row.owner_id,
            subscription_principal: row.principal,
            protocol: protocol.into(),
            endpoint: row.endpoint,
            state: state.into(),
            confirmation_was_authenticated: row.guarded,
            raw_message_delivery: row.raw,
            delivery_policy: row.delivery_policy.unwrap_or_default(),
            effective_delivery_policy,
            create_time: when(row.created_at),
            confirm_time: row.confirmed_at.and_then(when),
        }
    }
}

impl From<DeliveryRow> for v1::Delivery {
    fn from(row: DeliveryRow) -> Self {
        let topic_arn =
            format!("arn:aws:sns:{}:{}:{}", row.region, row.topic_owner_id, row.topic_name);
        let kind = match MessageKind::from_text(&row.kind) {
            Some(MessageKind::Notification) => v1::DeliveryKind::Notification,
            Some(MessageKind::SubscriptionConfirmation) => {
                v1::DeliveryKind::SubscriptionConfirmation
            }
            Some(MessageKind::UnsubscribeConfirmation) => v1::DeliveryKind::UnsubscribeConfirmation,
            None => v1::DeliveryKind::Unspecified,
        };
        let state = match row.state.as_str() {
            "pending" => v1::DeliveryState::Pending,
            "delivered" => v1::DeliveryState::Delivered,
            "dead-lettered" => v1::DeliveryState::DeadLettered,
            "dropped" => v1::DeliveryState::Dropped,
            _ => v1::DeliveryState::Unspecified,
        };
        let pending = state == v1::DeliveryState::Pending;
        Self {
            delivery_id: row.id.to_string(),
            message_id: row.message_id.to_string(),
            subscription_arn: format!("{topic_arn}:{}", row.subscription_id),
            topic_arn,
            endpoint: row.endpoint,
            kind: kind.into(),
            state: state.into(),
            event_id: row.event_id.map(|id| id.to_string()).unwrap_or_default(),
            attempt_count: row.attempts,
            last_status_code: row.last_status,
            last_error: row.last_error,
            create_time: when(row.created_at),
            next_attempt_time: pending.then(|| time::timestamp(row.next_attempt_at)),
            end_time: row.ended_at.and_then(when),
            attempts: Vec::new(),
        }
    }
}

impl From<Inspected> for v1::Delivery {
    fn from(Inspected { delivery, attempts }: Inspected) -> Self {
        Self { attempts: attempts.into_iter().map(Into::into).collect(), ..delivery.into() }
    }
}

impl From<AttemptRow> for v1::DeliveryAttempt {
    fn from(row: AttemptRow) -> Self {
        let AttemptRow { number, started_at, duration_ms, status, error, address } = row;
        Self {
            number,
            start_time: when(started_at),
            duration: Some(Duration {
                seconds: duration_ms / 1000,
                nanos: i32::try_from(duration_ms % 1000 * 1_000_000).unwrap_or_default(),
            }),
            status_code: status,
            error,
            address,
        }
    }
}
