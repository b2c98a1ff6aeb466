//! `AccountService`: the operator's.

use postern_model::AccountId;
use postern_model::id::ApiKeyId;
use postern_proto::time::timestamp;
use postern_proto::v1;
use postern_proto::v1::account_service_server::AccountService;
use tonic::{Request, Response, Status};

use super::fields::{optional, page, required, required_words, words};
use crate::app::App;
use crate::app::accounts::CreateAccount;
use crate::app::api_keys::{CreateApiKey, CreatedApiKey};
use crate::caller::Caller;
use crate::error::Error;
use crate::store::accounts::{AccountRow, ApiKeyRow};

/// The most characters of an account's name.
const NAME_MAX: usize = 128;
/// The most characters of what a key is for.
const DESCRIPTION_MAX: usize = 255;

/// Accounts and their API keys.
#[derive(Clone)]
pub struct Accounts {
    app: App,
}

impl Accounts {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::CreateAccountResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateAccount::try_from(request.into_inner())?;
        let account = self.app.create_account(&caller, command).await?;
        Ok(Response::new(v1::CreateAccountResponse { account: Some(account.into()) }))
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetAccountRequest { account_id } = request.into_inner();
        let id: AccountId = required("account_id", &account_id)?;
        let account = self.app.get_account(&caller, id).await?;
        Ok(Response::new(v1::GetAccountResponse { account: Some(account.into()) }))
    }

    async fn list_accounts(
        &self,
        request: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListAccountsRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let (accounts, next_page_token) = self.app.list_accounts(&caller, &page).await?;
        let accounts = accounts.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListAccountsResponse { accounts, next_page_token }))
    }

    async fn create_api_key(
        &self,
        request: Request<v1::CreateApiKeyRequest>,
    ) -> Result<Response<v1::CreateApiKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateApiKey::try_from(request.into_inner())?;
        let CreatedApiKey { key, secret } = self.app.create_api_key(&caller, command).await?;
        Ok(Response::new(v1::CreateApiKeyResponse {
            api_key: Some(key.into()),
            secret: secret.expose().to_owned(),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<v1::ListApiKeysRequest>,
    ) -> Result<Response<v1::ListApiKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListApiKeysRequest { account_id, page_size, page_token } = request.into_inner();
        let account = required("account_id", &account_id)?;
        let page = page(page_size, &page_token)?;
        let (keys, next_page_token) = self.app.list_api_keys(&caller, account, &page).await?;
        let api_keys = keys.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListApiKeysResponse { api_keys, next_page_token }))
    }

    async fn delete_api_key(
        &self,
        request: Request<v1::DeleteApiKeyRequest>,
    ) -> Result<Response<v1::DeleteApiKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteApiKeyRequest { api_key_id } = request.into_inner();
        let id: ApiKeyId = required("api_key_id", &api_key_id)?;
        self.app.delete_api_key(&caller, id).await?;
        Ok(Response::new(v1::DeleteApiKeyResponse {}))
    }
}

impl TryFrom<v1::CreateAccountRequest> for CreateAccount {
    type Error = Error;

    fn try_from(request: v1::CreateAccountRequest) -> Result<Self, Error> {
        let v1::CreateAccountRequest { name, account_id } = request;
        Ok(Self {
            name: required_words("name", name, NAME_MAX)?,
            id: optional("account_id", &account_id)?,
        })
    }
}

impl TryFrom<v1::CreateApiKeyRequest> for CreateApiKey {
    type Error = Error;

    fn try_from(request: v1::CreateApiKeyRequest) -> Result<Self, Error> {
        let v1::CreateApiKeyRequest { account_id, description } = request;
        Ok(Self {
            account: required("account_id", &account_id)?,
            description: words("description", description, DESCRIPTION_MAX)?,
        })
    }
}

impl From<AccountRow> for v1::Account {
    fn from(account: AccountRow) -> Self {
        let AccountRow { id, name, created_at } = account;
        Self { account_id: id.to_string(), name, create_time: Some(timestamp(created_at)) }
    }
}

impl From<ApiKeyRow> for v1::ApiKey {
    fn from(key: ApiKeyRow) -> Self {
        let ApiKeyRow { id, account, description, created_at } = key;
        Self {
            api_key_id: id.to_string(),
            account_id: account.to_string(),
            description,
            create_time: Some(timestamp(created_at)),
        }
    }
}
