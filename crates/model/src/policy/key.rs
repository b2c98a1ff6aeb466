//! Context keys: what conditions look at, and what a request says of itself.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};

use super::Requester;

/// What a condition looks at (spec 8.6). Documents may spell keys in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionKey {
    /// The ARN of the resource on whose behalf a service acts.
    SourceArn,
    /// The account that owns that resource.
    SourceAccount,
    /// The same in old documents; no service of Postern sets it (spec 8.6).
    SourceOwner,
    /// The ARN of who asks.
    PrincipalArn,
    /// The account of who asks.
    PrincipalAccount,
    /// The organisation of that account.
    PrincipalOrgId,
    /// `Account`, `User` or `AssumedRole`.
    PrincipalType,
    /// The address that the request came from, when it came by no endpoint.
    SourceIp,
    /// The endpoint that the request came through.
    SourceVpce,
    /// The VPC of that endpoint.
    SourceVpc,
    /// The address inside that VPC.
    VpcSourceIp,
    /// `true` when the request came over TLS.
    SecureTransport,
    /// The time of the request, as ISO 8601.
    CurrentTime,
    /// The time of the request, in seconds since 1970.
    EpochTime,
    /// What the client says that it is.
    UserAgent,
    /// Where a new subscription would deliver to (Subscribe only).
    Endpoint,
    /// How a new subscription would deliver (Subscribe only).
    Protocol,
}

impl ConditionKey {
    /// All keys.
    pub const ALL: [Self; 17] = [
        Self::SourceArn,
        Self::SourceAccount,
        Self::SourceOwner,
        Self::PrincipalArn,
        Self::PrincipalAccount,
        Self::PrincipalOrgId,
        Self::PrincipalType,
        Self::SourceIp,
        Self::SourceVpce,
        Self::SourceVpc,
        Self::VpcSourceIp,
        Self::SecureTransport,
        Self::CurrentTime,
        Self::EpochTime,
        Self::UserAgent,
        Self::Endpoint,
        Self::Protocol,
    ];

    /// The key as documentation spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceArn => "aws:SourceArn",
            Self::SourceAccount => "aws:SourceAccount",
            Self::SourceOwner => "aws:SourceOwner",
            Self::PrincipalArn => "aws:PrincipalArn",
            Self::PrincipalAccount => "aws:PrincipalAccount",
            Self::PrincipalOrgId => "aws:PrincipalOrgID",
            Self::PrincipalType => "aws:PrincipalType",
            Self::SourceIp => "aws:SourceIp",
            Self::SourceVpce => "aws:SourceVpce",
            Self::SourceVpc => "aws:SourceVpc",
            Self::VpcSourceIp => "aws:VpcSourceIp",
            Self::SecureTransport => "aws:SecureTransport",
            Self::CurrentTime => "aws:CurrentTime",
            Self::EpochTime => "aws:EpochTime",
            Self::UserAgent => "aws:UserAgent",
            Self::Endpoint => "sns:Endpoint",
            Self::Protocol => "sns:Protocol",
        }
    }
}

/// The text is no context key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such context key; these are {}", ConditionKey::ALL.map(ConditionKey::as_str).join(", "))]
pub struct UnknownKey;

impl FromStr for ConditionKey {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        Self::ALL.into_iter().find(|key| key.as_str().eq_ignore_ascii_case(text)).ok_or(UnknownKey)
    }
}

impl fmt::Display for ConditionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request says of itself, for conditions and variables. A key has no value, one or several;
/// what has no value is missing, which [`super::Operator`] says the rules for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context<'a> {
    values: Vec<(ConditionKey, Cow<'a, str>)>,
}

impl<'a> Context<'a> {
    /// What is known of any request: who asks, and when.
    pub fn of(requester: Requester<'a>, now: DateTime<Utc>) -> Self {
        let context = Self::default()
            .with(ConditionKey::CurrentTime, now.to_rfc3339_opts(SecondsFormat::Secs, true))
            .with(ConditionKey::EpochTime, now.timestamp().to_string());
        match requester {
            Requester::Account { account, principal } => context
                .with(ConditionKey::PrincipalArn, principal)
                .with(ConditionKey::PrincipalAccount, account.to_string())
                .with(ConditionKey::PrincipalType, principal_type(principal)),
            Requester::Service(_) | Requester::Federated(_) => context,
        }
    }

    /// Adds a value of a key.
    #[must_use]
    pub fn with(mut self, key: ConditionKey, value: impl Into<Cow<'a, str>>) -> Self {
        self.values.push((key, value.into()));
        self
    }

    /// Adds on whose behalf a service acts: the resource's ARN and its owner.
    #[must_use]
    pub fn with_source(self, arn: &'a str, account: &'a str) -> Self {
        self.with(ConditionKey::SourceArn, arn).with(ConditionKey::SourceAccount, account)
    }

    /// The values of a key, in the order in which they were added.
    pub fn values(&self, key: ConditionKey) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(held, _)| *held == key).map(|(_, value)| value.as_ref())
    }
}

/// AWS's word for the kind of principal that an ARN names.
fn principal_type(arn: &str) -> &'static str {
    match arn.splitn(6, ':').nth(5) {
        Some(resource) if resource.starts_with("user/") => "User",
        Some(resource) if resource.starts_with("role/") => "AssumedRole",
        _ => "Account",
    }
}
