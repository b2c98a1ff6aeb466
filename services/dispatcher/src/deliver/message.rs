//! What receivers read: SNS's messages (spec 8.3). Pure, but for the signature.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::sign::{SignError, SignatureVersion, Signer};
use crate::store::deliveries::Claimed;
use crate::store::messages::MessageKind;

/// Where the dispatcher's own HTTP port is seen from outside: the base of the links in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// A base such as `https://events.example.com`; a trailing slash changes nothing.
    pub fn new(base: &str) -> Self {
        Self(base.trim_end_matches('/').to_owned())
    }

    /// Where the certificate is.
    pub fn certificate(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// What confirms a subscription.
    pub fn subscribe(&self, topic_arn: &str, token: &str) -> String {
        format!("{}/?Action=ConfirmSubscription&TopicArn={topic_arn}&Token={token}", self.0)
    }

    /// What ends a subscription.
    pub fn unsubscribe(&self, subscription_arn: &str) -> String {
        format!("{}/?Action=Unsubscribe&SubscriptionArn={subscription_arn}", self.0)
    }
}

/// A time as messages have it: UTC, milliseconds.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The text that is signed: `key\nvalue\n` for each pair, in byte order of the keys.
pub fn canonical(body: &Map<String, Value>) -> String {
    let mut pairs: Vec<(&str, &str)> = body
        .iter()
        .filter(|(key, _)| SIGNED.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(key, value)| format!("{key}\n{value}\n")).collect()
}

/// The keys that are signed, of all kinds of message: each kind has those that it carries. A
/// notification's `UnsubscribeURL` is not among them.
const SIGNED: [&str; 8] =
    ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

/// The signed JSON message of a delivery, its keys in SNS's order.
///
/// # Errors
/// When it can't be signed.
pub async fn render(
    claimed: &Claimed,
    kind: MessageKind,
    signer: &Signer,
    public: &PublicUrl,
) -> Result<String, SignError> {
    let topic_arn = claimed.topic_arn();
    let mut body = Map::new();
    let mut put = |key: &str, value: String| body.insert(key.to_owned(), Value::String(value));
    put("Type", kind.as_str().to_owned());
    put("MessageId", claimed.message_id.to_string());
    match kind {
        // A digest is a mail of its own making and never rendered so; what it says is a notification.
        MessageKind::Notification | MessageKind::Digest => {
            put("TopicArn", topic_arn);
            if let Some(subject) = &claimed.subject {
                put("Subject", subject.clone());
            }
            put("Message", claimed.body.clone());
        }
        MessageKind::SubscriptionConfirmation | MessageKind::UnsubscribeConfirmation => {
            let token = claimed.token.clone().unwrap_or_default();
            let subscribe = public.subscribe(&topic_arn, &token);
            put("Token", token);
            put("TopicArn", topic_arn);
            put("Message", claimed.body.clone());
            put("SubscribeURL", subscribe);
        }
    }
    put("Timestamp", timestamp(claimed.published_at));
    let version = SignatureVersion::of(claimed.signature_version);
    let signature = signer.sign(version, canonical(&body)).await?;
    let mut put = |key: &str, value: String| body.insert(key.to_owned(), Value::String(value));
    put("SignatureVersion", version.as_str().to_owned());
    put("Signature", signature);
    put("SigningCertURL", public.certificate(signer.certificate_name()));
    if kind == MessageKind::Notification {
        put("UnsubscribeURL", public.unsubscribe(&claimed.subscription_arn()));
        let attributes = serde_json::from_str(&claimed.attributes).unwrap_or_default();
        if let Value::Object(attributes) = attributes
            && !attributes.is_empty()
        {
            body.insert("MessageAttributes".to_owned(), Value::Object(attributes));
        }
    }
    Ok(Value::Object(body).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_text_is_that_of_the_documentation() {
        let body = serde_json::json!({
            "Type": "Notification", "MessageId": "m", "TopicArn": "arn", "Subject": "s",
            "Message": "line\nline", "Timestamp": "t", "UnsubscribeURL": "not signed",
            "MessageAttributes": {},
        });
        let text = canonical(body.as_object().unwrap());
        let expected = "Message\nline\nline\nMessageId\nm\nSubject\ns\nTimestamp\nt\nTopicArn\narn\n\
                        Type\nNotification\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn links_keep_one_slash() {
        let url = PublicUrl::new("http://127.0.0.1:8090/");
        assert_eq!(url.certificate("a.pem"), "http://127.0.0.1:8090/a.pem");
        assert_eq!(
            url.unsubscribe("arn:x"),
            "http://127.0.0.1:8090/?Action=Unsubscribe&SubscriptionArn=arn:x"
        );
    }
}
