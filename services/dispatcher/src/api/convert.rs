//! Requests into commands, and what is kept into messages. Generated types go no further.

mod policies;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use postern_model::filter::FilterScope;
use postern_model::{Code, InvalidField, Refusal, field};
use postern_proto::{time, v1};
use prost_types::{Duration, Timestamp};

use crate::app::{
    Confirm, CreateTopic, Inspected, MessageAttribute, Publish, SetSubscriptionAttributes,
    SetTopicAttributes, Subscribe, SubscriptionAttributes, SubscriptionProtocol, Topic,
};
use crate::plan;
use crate::store::deliveries::inspect::{AttemptRow, DeliveryRow};
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

fn filter_scope(number: i32) -> Result<Option<FilterScope>, InvalidField> {
    use v1::FilterPolicyScope as Scope;
    match Scope::try_from(number) {
        Ok(Scope::Unspecified) => Ok(None),
        Ok(Scope::MessageAttributes) => Ok(Some(FilterScope::MessageAttributes)),
        Ok(Scope::MessageBody) => Ok(Some(FilterScope::MessageBody)),
        Err(_) => Err(InvalidField::new("filter_policy_scope", "is none of those that there are")),
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
            notice_topic_arn,
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
            notice_topic: notice_topic_arn,
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
            notice_topic_arn,
        } = request;
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            policy,
            display_name: display_name(shown)?,
            signature_version: signature_version(version)?,
            delivery_policy,
            notice_topic: notice_topic_arn,
        })
    }
}

impl TryFrom<v1::PublishRequest> for Publish {
    type Error = Refusal;

    fn try_from(request: v1::PublishRequest) -> Result<Self, Refusal> {
        let v1::PublishRequest {
            topic_arn,
            message,
            subject,
            message_attributes,
            message_by_protocol,
        } = request;
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
        let (message, variants) =
            if message_by_protocol { by_protocol(&message)? } else { (message, None) };
        // A map has no order of its own: the same request is the same message.
        attributes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            topic: field::parse("topic_arn", &topic_arn)?,
            message,
            variants,
            subject: Some(subject).filter(|subject| !subject.is_empty()),
            attributes,
        })
    }
}

/// The protocols that may have a text of their own.
const PROTOCOLS: [&str; 4] = ["http", "https", "email", "email-json"];

/// Reads SNS's MessageStructure json: a text for all, and those of some protocols. Keys of protocols
/// that there are none of here (`sms`) are for other systems, and passed over, as SNS does.
fn by_protocol(message: &str) -> Result<(String, Option<BTreeMap<String, String>>), Refusal> {
    let bad = |why: &str| {
        let message = format!("Invalid parameter: Message Structure - {why}");
        Refusal::of_field(Code::InvalidParameter, "message", message)
    };
    let texts: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(message).map_err(|_| bad("JSON message body failed to parse"))?;
    let mut variants = BTreeMap::new();
    let mut default = None;
    for (key, value) in texts {
        let serde_json::Value::String(text) = value else { continue };
        if key == "default" {
            default = Some(text);
        } else if PROTOCOLS.contains(&key.as_str()) && !text.is_empty() {
            variants.insert(key, text);
        }
    }
    let default = default.filter(|text| !text.is_empty());
    let default = default.ok_or_else(|| bad("No default entry in JSON message body"))?;
    Ok((default, Some(variants).filter(|variants| !variants.is_empty())))
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
            filter_policy_scope,
            ordered,
            digest_seconds,
        } = request;
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
            attributes: SubscriptionAttributes {
                raw: raw_message_delivery,
                delivery_policy,
                filter_policy,
                filter_scope: filter_scope(filter_policy_scope)?,
                redrive_policy,
                ordered,
                digest_seconds,
            },
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
            filter_policy_scope,
            ordered,
            digest_seconds,
        } = request;
        Ok(Self {
            subscription: field::parse("subscription_arn", &subscription_arn)?,
            attributes: SubscriptionAttributes {
                raw: raw_message_delivery,
                delivery_policy,
                filter_policy,
                filter_scope: filter_scope(filter_policy_scope)?,
                redrive_policy,
                ordered,
                digest_seconds,
            },
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

impl From<Topic> for v1::Topic {
    fn from(Topic { row, counts }: Topic) -> Self {
        let signature_version = match row.signature_version {
            1 => v1::SignatureVersion::Sha1,
            _ => v1::SignatureVersion::Sha256,
        };
        Self {
            topic_arn: row.arn(),
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
            notice_topic_arn: row.notice_topic_arn.unwrap_or_default(),
        }
    }
}

impl From<SubscriptionRow> for v1::Subscription {
    fn from(row: SubscriptionRow) -> Self {
        let topic_arn = row.topic_arn();
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
        let filter_policy_scope = match row.filter_scope.as_str() {
            "MessageBody" => v1::FilterPolicyScope::MessageBody,
            _ => v1::FilterPolicyScope::MessageAttributes,
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
            filter_policy: row.filter_policy.unwrap_or_default(),
            filter_policy_scope: filter_policy_scope.into(),
            redrive_policy: row.redrive_policy.unwrap_or_default(),
            ordered: row.ordered,
            digest_seconds: row.digest_seconds,
            status: Some(v1::SubscriptionStatus {
                last_success_time: row.last_success_at.and_then(when),
                failure_streak: row.failure_streak,
                failing_since_time: row.failing_since.and_then(when),
                disabled_time: row.disabled_at.and_then(when),
                disabled_reason: row.disabled_reason.unwrap_or_default(),
            }),
        }
    }
}

impl From<DeliveryRow> for v1::Delivery {
    fn from(row: DeliveryRow) -> Self {
        let topic_arn = row.topic_arn();
        let kind = match MessageKind::from_text(&row.kind) {
            Some(MessageKind::Notification) => v1::DeliveryKind::Notification,
            Some(MessageKind::SubscriptionConfirmation) => {
                v1::DeliveryKind::SubscriptionConfirmation
            }
            Some(MessageKind::UnsubscribeConfirmation) => v1::DeliveryKind::UnsubscribeConfirmation,
            Some(MessageKind::Digest) => v1::DeliveryKind::Digest,
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
        let AttemptRow {
            number,
            started_at,
            duration_ms,
            status,
            error,
            address,
            request_bytes,
            response_bytes,
            response,
        } = row;
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
            request_bytes,
            response_bytes,
            response,
        }
    }
}
