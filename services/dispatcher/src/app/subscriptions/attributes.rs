//! What a subscription may ask for besides its messages: checked, and written into its row.

use postern_model::arn::Arn;
use postern_model::filter::{FilterPolicy, FilterScope};
use postern_model::{AccountId, Code, Refusal};
use serde::Deserialize;

use super::SubscriptionProtocol;
use crate::error::Error;
use crate::plan::SubscriptionPolicy;
use crate::store::subscriptions::SubscriptionRow;

/// The longest window of a digest, in seconds: a day.
const MAX_DIGEST_SECONDS: i32 = 86_400;
/// The longest redrive policy, in bytes; a complete one has under 200.
const MAX_REDRIVE: usize = 1024;
/// The longest name of a dead-letter queue, as SQS's.
const MAX_QUEUE: usize = 80;

/// Attributes to set; what is absent stays, and an empty document takes its attribute away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionAttributes {
    /// Whether the bare message is sent.
    pub raw: Option<bool>,
    /// How deliveries are retried.
    pub delivery_policy: Option<String>,
    /// Which messages are wanted.
    pub filter_policy: Option<String>,
    /// What the filter looks at.
    pub filter_scope: Option<FilterScope>,
    /// Where messages go that are given up.
    pub redrive_policy: Option<String>,
    /// Whether a message waits until those before it have ended.
    pub ordered: Option<bool>,
    /// For how many seconds messages are collected into one mail.
    pub digest_seconds: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RedrivePolicy {
    dead_letter_target_arn: String,
}

fn bad(field: &str, why: impl Into<String>) -> Error {
    Refusal::of_field(Code::InvalidParameter, field, why).into()
}

/// A document in place of the one there is; an empty one takes it away.
fn replace(present: &mut Option<String>, asked: Option<String>) {
    if let Some(document) = asked {
        *present = Some(document).filter(|text| !text.is_empty());
    }
}

impl SubscriptionAttributes {
    /// Writes the attributes into the row.
    ///
    /// # Errors
    /// `InvalidParameter`, with the field: what does not suit the protocol, or is malformed.
    pub(super) fn apply(self, row: &mut SubscriptionRow) -> Result<(), Error> {
        let Self {
            raw,
            delivery_policy,
            filter_policy,
            filter_scope,
            redrive_policy,
            ordered,
            digest_seconds,
        } = self;
        let protocol = SubscriptionProtocol::of(&row.protocol);
        if protocol.is_mail() && raw == Some(true) {
            return Err(bad("raw_message_delivery", "raw delivery is not for mail"));
        }
        if let Some(document) = delivery_policy.as_deref().filter(|text| !text.is_empty()) {
            if protocol.is_mail() {
                return Err(bad("delivery_policy", "the retries of mail cannot be set"));
            }
            SubscriptionPolicy::parse(document).map_err(|fault| {
                bad("delivery_policy", format!("Invalid parameter: DeliveryPolicy: {fault}"))
            })?;
        }
        if let Some(document) = redrive_policy.as_deref().filter(|text| !text.is_empty()) {
            check_redrive(document, row).map_err(|fault| {
                bad("redrive_policy", format!("Invalid parameter: RedrivePolicy: {fault}"))
            })?;
        }
        if let Some(seconds) = digest_seconds {
            if !(0..=MAX_DIGEST_SECONDS).contains(&seconds) {
                let why = format!("must be from 0 to {MAX_DIGEST_SECONDS}");
                return Err(bad("digest_seconds", why));
            }
            if seconds > 0 && protocol != SubscriptionProtocol::Email {
                return Err(bad("digest_seconds", "digests are for the protocol email only"));
            }
        }
        replace(&mut row.filter_policy, filter_policy);
        if let Some(scope) = filter_scope {
            row.filter_scope = scope.to_string();
        }
        // One that was set before is read again when its scope changes.
        if let Some(document) = &row.filter_policy {
            let scope = row.filter_scope.parse().unwrap_or_default();
            FilterPolicy::parse(document, scope)
                .map_err(|fault| bad("filter_policy", format!("Invalid parameter: {fault}")))?;
        }
        row.raw = raw.unwrap_or(row.raw);
        row.ordered = ordered.unwrap_or(row.ordered);
        row.digest_seconds = digest_seconds.unwrap_or(row.digest_seconds);
        replace(&mut row.delivery_policy, delivery_policy);
        replace(&mut row.redrive_policy, redrive_policy);
        Ok(())
    }
}

/// A queue of the subscription's account, in the topic's region (spec 8.4).
fn check_redrive(document: &str, row: &SubscriptionRow) -> Result<(), String> {
    if document.len() > MAX_REDRIVE {
        return Err(format!("has at most {MAX_REDRIVE} bytes"));
    }
    let policy: RedrivePolicy =
        serde_json::from_str(document).map_err(|error| error.to_string())?;
    let text = &policy.dead_letter_target_arn;
    let arn = Arn::parse(text).map_err(|error| format!("deadLetterTargetArn: {error}"))?;
    if (arn.partition, arn.service) != ("aws", "sqs") {
        return Err(format!("deadLetterTargetArn: {text:?} is not the ARN of a queue"));
    }
    if arn.region != row.region {
        return Err(format!("deadLetterTargetArn: the queue must be in the region {}", row.region));
    }
    if arn.account.parse::<AccountId>().map(|account| account.to_string()).as_deref()
        != Ok(row.owner_id.as_str())
    {
        return Err(format!(
            "deadLetterTargetArn: the queue must be the account's, {}",
            row.owner_id
        ));
    }
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if arn.resource.is_empty() || arn.resource.len() > MAX_QUEUE || !arn.resource.bytes().all(named)
    {
        return Err(format!(
            "deadLetterTargetArn: a queue's name is 1 to {MAX_QUEUE} letters, digits, hyphens and \
             underscores"
        ));
    }
    Ok(())
}
