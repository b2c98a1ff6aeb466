//! Who is asking. Only the authenticating layer makes a [`Caller`], so having one proves that it ran.

use postern_model::{AccountId, Code};
use tonic::{Request, Status};

use crate::error::{Error, Result};

/// The principal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever holds the operator key.
    Operator,
    /// Somebody acting for an account.
    Account {
        /// The account.
        account: AccountId,
        /// The ARN of the principal: `arn:aws:iam::<account>:root` for an account's API key.
        principal: String,
    },
}

impl Caller {
    /// The caller that the authenticating layer left on the request.
    ///
    /// # Errors
    ///
    /// Only where a service was mounted without the layer: our fault, not theirs.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get().cloned().ok_or_else(|| Status::internal("unguarded route"))
    }

    /// The account that asks; the operator has none.
    ///
    /// # Errors
    ///
    /// `UnauthorizedOperation` for the operator, who owns nothing.
    pub fn account(&self) -> Result<AccountId> {
        match self {
            Self::Account { account, .. } => Ok(*account),
            Self::Operator => Err(Error::refused(
                Code::UnauthorizedOperation,
                "the operator owns no resources: use an account's API key",
            )),
        }
    }

    /// The account and the principal's ARN.
    ///
    /// # Errors
    ///
    /// `UnauthorizedOperation` for the operator, who owns nothing.
    pub fn principal(&self) -> Result<(AccountId, &str)> {
        let account = self.account()?;
        match self {
            Self::Account { principal, .. } => Ok((account, principal)),
            Self::Operator => Ok((account, "")),
        }
    }

    /// Checks that it is the operator who asks.
    ///
    /// # Errors
    ///
    /// `UnauthorizedOperation` for anybody else.
    pub fn operator(&self) -> Result<()> {
        match self {
            Self::Operator => Ok(()),
            Self::Account { .. } => {
                Err(Error::refused(Code::UnauthorizedOperation, "only the operator may do this"))
            }
        }
    }
}
