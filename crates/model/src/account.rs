//! Accounts: whoever owns a resource.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

/// An account's id: 12 decimal digits, as on AWS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

const LIMIT: u64 = 1_000_000_000_000;

impl AccountId {
    /// A new id. It never starts with a zero, which spreadsheets and careless scripts eat.
    pub fn generate(random: &mut impl Rng) -> Self {
        Self(random.random_range(LIMIT / 10..LIMIT))
    }

    /// The ARN that stands for the whole account: `arn:aws:iam::111122223333:root`.
    pub fn root_arn(self) -> String {
        format!("arn:aws:iam::{self}:root")
    }
}

/// The text is not 12 decimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 12 decimal digits")]
pub struct MalformedAccountId;

impl FromStr for AccountId {
    type Err = MalformedAccountId;

    fn from_str(text: &str) -> Result<Self, MalformedAccountId> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MalformedAccountId);
        }
        text.parse().map(Self).map_err(|_| MalformedAccountId)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for AccountId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_keeps_its_leading_zeros() {
        assert_eq!("000000000042".parse::<AccountId>().unwrap().to_string(), "000000000042");
    }

    #[test]
    fn anything_but_twelve_digits_is_refused() {
        for text in ["", "42", "1111222233334", "11112222333a", "+11112222333"] {
            assert_eq!(text.parse::<AccountId>(), Err(MalformedAccountId), "{text}");
        }
    }
}
