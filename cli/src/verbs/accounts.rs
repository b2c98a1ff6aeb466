//! `postern account` and `postern api-key`.

use clap::Subcommand;
use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::{
    CreateAccountRequest, CreateApiKeyRequest, DeleteApiKeyRequest, GetAccountRequest,
    ListAccountsRequest, ListApiKeysRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// Accounts.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Make an account.
    #[command(after_help = "Example:\n  postern --profile operator account create --name acme")]
    Create {
        /// A name for people.
        #[arg(long)]
        name: String,
        /// The id to give it, 12 digits [default: a random one].
        #[arg(long)]
        account_id: Option<String>,
    },
    /// Show an account.
    Get {
        /// The account's id.
        account_id: String,
    },
    /// List accounts.
    List(Limit),
}

/// API keys.
#[derive(Debug, Subcommand)]
pub enum ApiKey {
    /// Make an API key; its secret is shown once.
    #[command(
        after_help = "Example:\n  postern --profile operator api-key create --account 111122223333 --description ci"
    )]
    Create {
        /// The account that it is for.
        #[arg(long)]
        account: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List an account's keys.
    List {
        /// The account.
        #[arg(long)]
        account: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Delete a key.
    Delete {
        /// The key's id.
        api_key_id: String,
    },
}

pub(super) async fn account(
    verb: Account,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Account::Create { name, account_id } => {
            let account_id = account_id.unwrap_or_default();
            let request = CreateAccountRequest { name, account_id };
            printer.message(&call!(
                connection,
                control_plane,
                AccountServiceClient,
                create_account,
                request
            )?)
        }
        Account::Get { account_id } => printer.message(&call!(
            connection,
            control_plane,
            AccountServiceClient,
            get_account,
            GetAccountRequest { account_id }
        )?),
        Account::List(limit) => {
            let accounts = pages!(
                connection,
                control_plane,
                AccountServiceClient,
                list_accounts,
                ListAccountsRequest::default(),
                accounts,
                limit.limit
            );
            printer.list(
                "accounts",
                &accounts,
                &[("ACCOUNT", "accountId"), ("NAME", "name"), ("CREATED", "createTime")],
            )
        }
    }
}

pub(super) async fn api_key(
    verb: ApiKey,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        ApiKey::Create { account, description } => printer.message(&call!(
            connection,
            control_plane,
            AccountServiceClient,
            create_api_key,
            CreateApiKeyRequest { account_id: account, description }
        )?),
        ApiKey::List { account, limit } => {
            let keys = pages!(
                connection,
                control_plane,
                AccountServiceClient,
                list_api_keys,
                ListApiKeysRequest { account_id: account.clone(), ..Default::default() },
                api_keys,
                limit.limit
            );
            printer.list(
                "apiKeys",
                &keys,
                &[("KEY", "apiKeyId"), ("DESCRIPTION", "description"), ("CREATED", "createTime")],
            )
        }
        ApiKey::Delete { api_key_id } => {
            let request = DeleteApiKeyRequest { api_key_id: api_key_id.clone() };
            call!(connection, control_plane, AccountServiceClient, delete_api_key, request)?;
            printer.done(&format!("{api_key_id} deleted"));
            Ok(())
        }
    }
}
