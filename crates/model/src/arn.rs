//! ARNs: how resources are named outside (spec 3.1 and 8).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::account::AccountId;
use crate::zone::Region;

/// The longest name of a topic, in characters (spec 8.2).
const MAX_TOPIC_NAME: usize = 256;

/// An ARN taken apart: `arn:<partition>:<service>:<region>:<account>:<resource>`. The resource may
/// hold further colons. Nothing is checked but the number of parts and the `arn` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arn<'a> {
    /// `aws`, or the name of another set of regions.
    pub partition: &'a str,
    /// Such as `sns`.
    pub service: &'a str,
    /// Empty where the resource has none.
    pub region: &'a str,
    /// Empty where the resource has none.
    pub account: &'a str,
    /// The rest.
    pub resource: &'a str,
}

/// Why a text is no ARN, or not one of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedArn {
    /// Too few parts; SNS names the count (spec 8.2).
    #[error("an ARN must have at least 6 elements, not {0}")]
    Elements(usize),
    /// It is an ARN, or looks like one, of something else.
    #[error("{0:?} is not the ARN of a {1}")]
    Other(String, &'static str),
}

fn other(text: &str, noun: &'static str) -> MalformedArn {
    MalformedArn::Other(text.chars().take(128).collect(), noun)
}

impl<'a> Arn<'a> {
    /// Takes a text apart.
    ///
    /// # Errors
    /// When it has fewer than six parts, or does not start with `arn:`.
    pub fn parse(text: &'a str) -> Result<Self, MalformedArn> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts[..] {
            ["arn", partition, service, region, account, resource] => {
                Ok(Self { partition, service, region, account, resource })
            }
            [_, _, _, _, _, _] => Err(other(text, "resource")),
            _ => Err(MalformedArn::Elements(parts.len())),
        }
    }
}

/// The name of a topic: 1 to 256 of letters, digits, `_` and `-` (spec 8.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(String);

/// The text is no topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic's name is 1 to 256 letters, digits, hyphens and underscores")]
pub struct MalformedTopicName;

impl TopicName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = MalformedTopicName;

    fn from_str(text: &str) -> Result<Self, MalformedTopicName> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > MAX_TOPIC_NAME || !text.bytes().all(named) {
            return Err(MalformedTopicName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic's ARN: `arn:aws:sns:<region>:<account>:<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicArn {
    region: Region,
    account: AccountId,
    name: TopicName,
}

impl TopicArn {
    /// The ARN of the topic `name` of `account` in `region`.
    pub fn new(region: Region, account: AccountId, name: TopicName) -> Self {
        Self { region, account, name }
    }

    /// Where the topic is.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whose it is.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// What it is called.
    pub fn name(&self) -> &TopicName {
        &self.name
    }
}

impl FromStr for TopicArn {
    type Err = MalformedArn;

    fn from_str(text: &str) -> Result<Self, MalformedArn> {
        let arn = Arn::parse(text)?;
        if (arn.partition, arn.service) != ("aws", "sns") {
            return Err(other(text, "topic"));
        }
        Ok(Self {
            region: arn.region.parse().map_err(|_| other(text, "topic"))?,
            account: arn.account.parse().map_err(|_| other(text, "topic"))?,
            name: arn.resource.parse().map_err(|_| other(text, "topic"))?,
        })
    }
}

impl fmt::Display for TopicArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:sns:{}:{}:{}", self.region, self.account, self.name)
    }
}

impl fmt::Debug for TopicArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A subscription's ARN: its topic's, a colon and a UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionArn {
    topic: TopicArn,
    id: Uuid,
}

impl SubscriptionArn {
    /// The ARN of the subscription `id` to `topic`.
    pub fn new(topic: TopicArn, id: Uuid) -> Self {
        Self { topic, id }
    }

    /// The topic.
    pub fn topic(&self) -> &TopicArn {
        &self.topic
    }

    /// Which of the topic's subscriptions it is.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl FromStr for SubscriptionArn {
    type Err = MalformedArn;

    fn from_str(text: &str) -> Result<Self, MalformedArn> {
        Arn::parse(text)?;
        let malformed = || other(text, "subscription");
        let (topic, id) = text.rsplit_once(':').ok_or_else(malformed)?;
        let topic = topic.parse().map_err(|_| malformed())?;
        // Only the hyphenated form is shown, so only that one is taken: one name for one thing.
        let id: Uuid = id.parse().map_err(|_| malformed())?;
        let arn = Self { topic, id };
        if arn.to_string() == text { Ok(arn) } else { Err(malformed()) }
    }
}

impl fmt::Display for SubscriptionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.id)
    }
}

impl fmt::Debug for SubscriptionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_s_arn_reads_back() {
        let text = "arn:aws:sns:us-east-1:111122223333:door-events";
        let arn: TopicArn = text.parse().unwrap();
        assert_eq!(arn.name().as_str(), "door-events");
        assert_eq!(arn.account().to_string(), "111122223333");
        assert_eq!(arn.to_string(), text);
    }

    #[test]
    fn an_arn_with_too_few_parts_names_their_count() {
        let error = "arn:aws:sns".parse::<TopicArn>().unwrap_err();
        assert_eq!(error, MalformedArn::Elements(3));
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for text in [
            "",
            "arn:aws:sqs:us-east-1:111122223333:queue",
            "arn:aws:sns:us-east-1:1111:name",
            "arn:aws:sns:us-east-1:111122223333:",
            "arn:aws:sns:us-east-1:111122223333:a b",
            "arn:aws:sns::111122223333:name",
            "ARN:aws:sns:us-east-1:111122223333:name",
            "arn:aws:sns:us-east-1:111122223333:name:9f0c1a52-7b5c-4a5e-8f6a-0a1b2c3d4e5f",
        ] {
            assert!(text.parse::<TopicArn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_subscription_s_arn_reads_back_and_knows_its_topic() {
        let text = "arn:aws:sns:us-east-1:111122223333:name:9f0c1a52-7b5c-4a5e-8f6a-0a1b2c3d4e5f";
        let arn: SubscriptionArn = text.parse().unwrap();
        assert_eq!(arn.topic().name().as_str(), "name");
        assert_eq!(arn.to_string(), text);
        for wrong in ["name", &text[..text.len() - 1], &text.to_uppercase()] {
            assert!(wrong.parse::<SubscriptionArn>().is_err(), "{wrong}");
        }
    }
}
