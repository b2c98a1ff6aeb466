//! Delivery policies as documents: what a topic or a subscription may say about retries.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{MAX_TOTAL_SECONDS, Schedule};

/// A document has at most this many bytes; a complete one has under 1 KB.
const MAX_BYTES: usize = 8 * 1024;

/// What is wrong with a delivery policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyFault(String);

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestPolicy {
    header_content_type: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ThrottlePolicy {
    max_receives_per_second: Option<u32>,
}

/// A subscription's delivery policy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionPolicy {
    healthy_retry_policy: Option<Schedule>,
    throttle_policy: Option<ThrottlePolicy>,
    request_policy: Option<RequestPolicy>,
    /// Echoed by AWS, never with a meaning: only `null` is taken.
    sickly_retry_policy: Option<Value>,
    /// Echoed by AWS: only `false` is taken.
    guaranteed: Option<bool>,
}

/// A topic's delivery policy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPolicy {
    #[serde(default)]
    http: HttpPolicy,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpPolicy {
    default_healthy_retry_policy: Option<Schedule>,
    #[serde(default)]
    disable_subscription_overrides: bool,
    default_throttle_policy: Option<ThrottlePolicy>,
    default_request_policy: Option<RequestPolicy>,
}

/// What counts for a delivery in the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// When it is retried.
    pub schedule: Schedule,
    /// The content type of notifications, where it isn't SNS's.
    pub content_type: Option<String>,
    /// How many messages a second it takes; none: any number.
    pub max_receives_per_second: Option<u32>,
}

fn fault(reason: impl Into<String>) -> PolicyFault {
    PolicyFault(reason.into())
}

fn read<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T, PolicyFault> {
    if document.len() > MAX_BYTES {
        return Err(fault(format!("a delivery policy has at most {MAX_BYTES} bytes")));
    }
    // The message of serde says the line and the column.
    serde_json::from_str(document).map_err(|error| fault(error.to_string()))
}

fn check_schedule(path: &str, schedule: &Schedule) -> Result<(), PolicyFault> {
    let out = |name: &str, why: &str| Err(fault(format!("{path}.{name} {why}")));
    if schedule.max_delay_target > 3600 {
        return out("maxDelayTarget", "is at most 3600 seconds");
    }
    if schedule.min_delay_target < 1 || schedule.min_delay_target > schedule.max_delay_target {
        return out("minDelayTarget", "is from 1 second to maxDelayTarget");
    }
    if schedule.num_retries > 100 {
        return out("numRetries", "is at most 100");
    }
    let phases = [
        schedule.num_no_delay_retries,
        schedule.num_min_delay_retries,
        schedule.num_max_delay_retries,
    ];
    if phases.iter().map(|retries| u64::from(*retries)).sum::<u64>()
        > u64::from(schedule.num_retries)
    {
        return out(
            "numRetries",
            "is less than numNoDelayRetries, numMinDelayRetries and numMaxDelayRetries together",
        );
    }
    if schedule.total() > MAX_TOTAL_SECONDS {
        return Err(fault(format!("{path}: the retries take longer than 3600 seconds in all")));
    }
    Ok(())
}

fn check_request(path: &str, request: &RequestPolicy) -> Result<(), PolicyFault> {
    let Some(content_type) = &request.header_content_type else { return Ok(()) };
    let well_formed = content_type.len() <= 128
        && content_type.contains('/')
        && http::HeaderValue::from_str(content_type).is_ok_and(|value| value.to_str().is_ok());
    if well_formed {
        Ok(())
    } else {
        Err(fault(format!("{path}.headerContentType is no content type")))
    }
}

fn check_throttle(path: &str, throttle: Option<&ThrottlePolicy>) -> Result<(), PolicyFault> {
    match throttle.and_then(|throttle| throttle.max_receives_per_second) {
        Some(0) => Err(fault(format!("{path}.maxReceivesPerSecond is at least 1"))),
        _ => Ok(()),
    }
}

impl SubscriptionPolicy {
    /// Parses a document.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(document: &str) -> Result<Self, PolicyFault> {
        let policy: Self = read(document)?;
        if let Some(schedule) = &policy.healthy_retry_policy {
            check_schedule("healthyRetryPolicy", schedule)?;
        }
        if let Some(request) = &policy.request_policy {
            check_request("requestPolicy", request)?;
        }
        check_throttle("throttlePolicy", policy.throttle_policy.as_ref())?;
        if policy.sickly_retry_policy.as_ref().is_some_and(|value| !value.is_null()) {
            return Err(fault("sicklyRetryPolicy is not supported"));
        }
        if policy.guaranteed == Some(true) {
            return Err(fault("guaranteed is not supported"));
        }
        Ok(policy)
    }
}

impl TopicPolicy {
    /// Parses a document.
    ///
    /// # Errors
    /// Says what is wrong with it, and where.
    pub fn parse(document: &str) -> Result<Self, PolicyFault> {
        let policy: Self = read(document)?;
        if let Some(schedule) = &policy.http.default_healthy_retry_policy {
            check_schedule("http.defaultHealthyRetryPolicy", schedule)?;
        }
        if let Some(request) = &policy.http.default_request_policy {
            check_request("http.defaultRequestPolicy", request)?;
        }
        check_throttle("http.defaultThrottlePolicy", policy.http.default_throttle_policy.as_ref())?;
        Ok(policy)
    }
}

/// What counts: the subscription's word over the topic's over the system's, unless the topic forbids
/// that. Documents are parsed where they are set; one that no longer parses counts as not set.
pub fn effective(topic: Option<&str>, subscription: Option<&str>) -> Effective {
    let topic = topic.and_then(|text| TopicPolicy::parse(text).ok()).unwrap_or_default().http;
    let subscription = subscription
        .filter(|_| !topic.disable_subscription_overrides)
        .and_then(|text| SubscriptionPolicy::parse(text).ok())
        .unwrap_or_default();
    let content_type = |request: Option<RequestPolicy>| request?.header_content_type;
    let throttle = |throttle: Option<ThrottlePolicy>| throttle?.max_receives_per_second;
    Effective {
        max_receives_per_second: throttle(subscription.throttle_policy)
            .or_else(|| throttle(topic.default_throttle_policy)),
        schedule: subscription
            .healthy_retry_policy
            .or(topic.default_healthy_retry_policy)
            .unwrap_or_default(),
        content_type: content_type(subscription.request_policy)
            .or_else(|| content_type(topic.default_request_policy)),
    }
}

/// A topic's effective policy as a document.
pub fn effective_topic_json(topic: Option<&str>) -> String {
    let overrides = topic
        .and_then(|text| TopicPolicy::parse(text).ok())
        .is_some_and(|policy| policy.http.disable_subscription_overrides);
    let effective = effective(topic, None);
    json!({"http": {
        "defaultHealthyRetryPolicy": effective.schedule,
        "disableSubscriptionOverrides": overrides,
        "defaultThrottlePolicy": throttle_json(&effective),
        "defaultRequestPolicy": {"headerContentType": content_type_or_default(&effective)},
    }})
    .to_string()
}

/// A subscription's effective policy as a document.
pub fn effective_subscription_json(topic: Option<&str>, subscription: Option<&str>) -> String {
    let effective = effective(topic, subscription);
    json!({
        "healthyRetryPolicy": effective.schedule,
        "sicklyRetryPolicy": null,
        "throttlePolicy": throttle_json(&effective),
        "requestPolicy": {"headerContentType": content_type_or_default(&effective)},
        "guaranteed": false,
    })
    .to_string()
}

fn throttle_json(effective: &Effective) -> Value {
    effective
        .max_receives_per_second
        .map_or(Value::Null, |limit| json!({"maxReceivesPerSecond": limit}))
}

fn content_type_or_default(effective: &Effective) -> &str {
    effective.content_type.as_deref().unwrap_or(crate::deliver::webhook::CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = r#"{"http":{"defaultHealthyRetryPolicy":{"minDelayTarget":1,
        "maxDelayTarget":2,"numRetries":5},"disableSubscriptionOverrides":false}}"#;
    const SUBSCRIPTION: &str = r#"{"healthyRetryPolicy":{"numRetries":1}}"#;

    #[test]
    fn the_subscription_s_word_counts_unless_the_topic_forbids_it() {
        assert_eq!(effective(None, None).schedule, Schedule::default());
        assert_eq!(effective(Some(TOPIC), None).schedule.num_retries, 5);
        assert_eq!(effective(Some(TOPIC), Some(SUBSCRIPTION)).schedule.num_retries, 1);
        let strict = TOPIC.replace("false", "true");
        assert_eq!(effective(Some(&strict), Some(SUBSCRIPTION)).schedule.num_retries, 5);
    }

    #[test]
    fn a_throttle_is_the_subscription_s_or_the_topic_s() {
        let topic = r#"{"http":{"defaultThrottlePolicy":{"maxReceivesPerSecond":9}}}"#;
        let own = r#"{"throttlePolicy":{"maxReceivesPerSecond":2}}"#;
        assert_eq!(effective(None, None).max_receives_per_second, None);
        assert_eq!(effective(Some(topic), None).max_receives_per_second, Some(9));
        assert_eq!(effective(Some(topic), Some(own)).max_receives_per_second, Some(2));
        assert!(effective_subscription_json(None, Some(own)).contains("PerSecond\":2"));
    }

    #[test]
    fn what_aws_echoes_is_taken_back() {
        let echoed = effective_subscription_json(None, Some(SUBSCRIPTION));
        assert!(SubscriptionPolicy::parse(&echoed).is_ok(), "{echoed}");
        assert!(TopicPolicy::parse(&effective_topic_json(Some(TOPIC))).is_ok());
    }

    #[test]
    fn bad_documents_are_refused_with_the_place() {
        for (document, word) in [
            ("{", "line 1"),
            (r#"{"retries":1}"#, "unknown field"),
            (r#"{"healthyRetryPolicy":{"numRetries":101}}"#, "numRetries"),
            (r#"{"healthyRetryPolicy":{"minDelayTarget":0}}"#, "minDelayTarget"),
            (r#"{"healthyRetryPolicy":{"maxDelayTarget":3601}}"#, "maxDelayTarget"),
            (r#"{"healthyRetryPolicy":{"numNoDelayRetries":4}}"#, "numRetries"),
            (
                r#"{"healthyRetryPolicy":{"numRetries":100,"maxDelayTarget":100,"minDelayTarget":90}}"#,
                "3600",
            ),
            (r#"{"healthyRetryPolicy":{"backoffFunction":"sine"}}"#, "unknown variant"),
            (r#"{"throttlePolicy":{"maxReceivesPerSecond":0}}"#, "maxReceivesPerSecond"),
            (r#"{"throttlePolicy":{"perSecond":1}}"#, "unknown field"),
            (r#"{"requestPolicy":{"headerContentType":"x\ny"}}"#, "headerContentType"),
        ] {
            let fault = SubscriptionPolicy::parse(document).unwrap_err().to_string();
            assert!(fault.contains(word), "{document}: {fault}");
        }
    }
}
