//! Who is asking.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use postern_model::policy::{ConditionKey, Context, Requester};
use postern_model::{AccountId, Code, Refusal};

use crate::error::{Cause, Error};

/// Who is asking. Only the authenticating layer leaves one on a request, so a handler that has one
/// knows that it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A principal of an account.
    Account {
        /// The account.
        account: AccountId,
        /// The principal's ARN.
        principal: Arc<str>,
        /// What is known of the request, for policies.
        origin: Origin,
    },
    /// The operator, who owns no topics.
    Operator,
}

/// What policies may ask of a request besides who sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address that it came from (`aws:SourceIp`).
    pub address: Option<IpAddr>,
    /// Whether it came over TLS (`aws:SecureTransport`).
    pub encrypted: bool,
    /// What the client says that it is (`aws:UserAgent`).
    pub user_agent: Option<Arc<str>>,
}

impl Caller {
    /// The same caller, with what is known of this request.
    #[must_use]
    pub fn from_origin(self, origin: Origin) -> Self {
        match self {
            Self::Account { account, principal, .. } => {
                Self::Account { account, principal, origin }
            }
            Self::Operator => Self::Operator,
        }
    }

    /// What policies may ask of the request.
    pub fn context(&self, now: DateTime<Utc>) -> Context<'_> {
        let Self::Account { account, principal, origin } = self else { return Context::default() };
        let requester = Requester::Account { account: *account, principal };
        let mut context = Context::of(requester, now)
            .with(ConditionKey::SecureTransport, origin.encrypted.to_string());
        if let Some(address) = origin.address {
            context = context.with(ConditionKey::SourceIp, address.to_canonical().to_string());
        }
        if let Some(user_agent) = origin.user_agent.as_deref() {
            context = context.with(ConditionKey::UserAgent, user_agent);
        }
        context
    }

    /// The account that the caller acts for, and the principal's ARN.
    ///
    /// # Errors
    /// When it is the operator.
    pub fn account(&self) -> Result<(AccountId, &str), Error> {
        match self {
            Self::Account { account, principal, .. } => Ok((*account, principal)),
            Self::Operator => Err(Refusal::new(
                Code::UnauthorizedOperation,
                "topics belong to accounts: use the API key of one, not the operator's",
            )
            .into()),
        }
    }
}

/// Knows whom API keys belong to: the control plane.
#[async_trait]
pub trait Identities: Send + Sync {
    /// Whom the key with this SHA-256 belongs to; `None` when to nobody.
    ///
    /// # Errors
    /// When the control plane is away.
    async fn authenticate(&self, api_key_sha256: [u8; 32]) -> Result<Option<Caller>, Cause>;
}
