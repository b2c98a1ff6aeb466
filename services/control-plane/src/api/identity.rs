//! `IdentityService`: tells the other services of Postern who a caller is, over mTLS.

use postern_model::Code;
use postern_proto::internal::v1;
use postern_proto::internal::v1::identity_service_server::IdentityService;
use tonic::{Request, Response, Status};

use super::auth::{Authenticator, KeyDigest, service_only};
use crate::caller::Caller;
use crate::error::Error;

/// Who a caller is.
#[derive(Clone)]
pub struct Identity {
    authenticator: Authenticator,
}

impl Identity {
    /// Answers with what `authenticator` knows.
    pub fn new(authenticator: Authenticator) -> Self {
        Self { authenticator }
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn authenticate(
        &self,
        request: Request<v1::AuthenticateRequest>,
    ) -> Result<Response<v1::AuthenticateResponse>, Status> {
        service_only(&request)?;
        let v1::AuthenticateRequest { api_key_sha256 } = request.into_inner();
        let digest = KeyDigest::try_from(api_key_sha256.as_ref()).map_err(|_| {
            Error::of_field(Code::InvalidParameterValue, "api_key_sha256", "must have 32 bytes")
        })?;
        let caller = self.authenticator.authenticate_digest(&digest).await?;
        Ok(Response::new(caller.into()))
    }
}

impl From<Caller> for v1::AuthenticateResponse {
    fn from(caller: Caller) -> Self {
        match caller {
            Caller::Operator => {
                Self { account_id: String::new(), principal_arn: String::new(), is_operator: true }
            }
            Caller::Account { account, principal } => Self {
                account_id: account.to_string(),
                principal_arn: principal,
                is_operator: false,
            },
        }
    }
}
