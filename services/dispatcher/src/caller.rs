//! Who is asking.

use std::sync::Arc;

use async_trait::async_trait;
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
    },
    /// The operator, who owns no topics.
    Operator,
}

impl Caller {
    /// The account that the caller acts for, and the principal's ARN.
    ///
    /// # Errors
    /// When it is the operator.
    pub fn account(&self) -> Result<(AccountId, &str), Error> {
        match self {
            Self::Account { account, principal } => Ok((*account, principal)),
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
