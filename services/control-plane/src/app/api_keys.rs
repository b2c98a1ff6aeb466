//! API keys: what clients authenticate with. Only a hash of a key is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_model::id::ApiKeyId;
use postern_model::{AccountId, Code};
use postern_proto::page::Page;
use postern_runtime::config::Secret;
use rand::RngCore;
use sha2::{Digest as _, Sha256};

use super::App;
use super::accounts::unknown_account;
use crate::caller::Caller;
use crate::error::{Error, Result, violated};
use crate::store::accounts::{self, ApiKeyRow};

/// What every key starts with, so that one is known for what it is wherever it turns up.
const PREFIX: &str = "pst_";
/// The length of the key's id in the key: its hex digits.
const ID_DIGITS: usize = 17;
/// How many random bytes the secret part has.
const SECRET_BYTES: usize = 32;
/// The length of the secret part: 32 bytes as base64url without padding.
const SECRET_CHARS: usize = 43;

/// Asks for an API key.
#[derive(Clone, Debug)]
pub struct CreateApiKey {
    /// The account that it is for.
    pub account: AccountId,
    /// What it is for, in words for people.
    pub description: String,
}

/// A key just made.
#[derive(Clone, Debug)]
pub struct CreatedApiKey {
    /// What is kept of it.
    pub key: ApiKeyRow,
    /// The key's text, which can't be had again.
    pub secret: Secret,
}

impl App {
    /// Makes an API key.
    ///
    /// # Errors
    ///
    /// `InvalidAccountID.NotFound`; anybody but the operator asking; the database away.
    pub async fn create_api_key(
        &self,
        caller: &Caller,
        command: CreateApiKey,
    ) -> Result<CreatedApiKey> {
        caller.operator()?;
        let CreateApiKey { account, description } = command;
        let (id, secret) = generate(&mut rand::rng());
        let sha256: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut db = self.store.acquire().await?;
        let inserted = accounts::insert_api_key(&mut db, account, id, &description, &sha256).await;
        let key = inserted.map_err(|error| match violated(&error) {
            Some("api_key_account_id_fkey") => unknown_account(account),
            _ => error.into(),
        })?;
        Ok(CreatedApiKey { key, secret: Secret::new(secret) })
    }

    /// Lists the API keys of an account.
    ///
    /// # Errors
    ///
    /// `InvalidAccountID.NotFound`; anybody but the operator asking; the database away.
    pub async fn list_api_keys(
        &self,
        caller: &Caller,
        account: AccountId,
        page: &Page,
    ) -> Result<(Vec<ApiKeyRow>, String)> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        if accounts::find(&mut db, account).await?.is_none() {
            return Err(unknown_account(account));
        }
        let mut keys = accounts::list_api_keys(&mut db, account, page).await?;
        let next = page.cut(&mut keys, |key| key.id.to_string());
        Ok((keys, next))
    }

    /// Deletes an API key. Requests with it are refused as soon as no answer about it is remembered.
    ///
    /// # Errors
    ///
    /// `InvalidApiKeyID.NotFound`; anybody but the operator asking; the database away.
    pub async fn delete_api_key(&self, caller: &Caller, key: ApiKeyId) -> Result<()> {
        caller.operator()?;
        let mut db = self.store.acquire().await?;
        if accounts::delete_api_key(&mut db, key).await? {
            return Ok(());
        }
        Err(Error::refused(
            Code::InvalidApiKeyNotFound,
            format!("the API key '{key}' does not exist"),
        ))
    }

    /// The account whose key hashes to `sha256`. Nobody need be asking: this is how callers are known.
    ///
    /// # Errors
    ///
    /// The database away.
    pub async fn owner_of_key(&self, sha256: &[u8; 32]) -> Result<Option<AccountId>> {
        let mut db = self.store.acquire().await?;
        Ok(accounts::owner_of_key(&mut db, sha256).await?)
    }
}

/// A new key: its id, and its text `pst_<the id's digits>_<secret>`.
fn generate(random: &mut impl RngCore) -> (ApiKeyId, String) {
    let id = ApiKeyId::generate(random);
    let mut secret = [0; SECRET_BYTES];
    random.fill_bytes(&mut secret);
    (id, format!("{PREFIX}{}_{}", id.digits(), URL_SAFE_NO_PAD.encode(secret)))
}

/// Whether a text has the form of an API key.
pub fn is_key(text: &str) -> bool {
    let Some((id, secret)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    id.len() == ID_DIGITS
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && secret.len() == SECRET_CHARS
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_form_of_one_and_carries_its_id() {
        let (id, text) = generate(&mut rand::rng());
        assert!(is_key(&text), "{text}");
        assert_eq!(text[4..21], *id.digits());
    }

    #[test]
    fn what_is_no_key_is_known_without_a_look_up() {
        let good = format!("pst_{}_{}", "0".repeat(17), "A".repeat(43));
        assert!(is_key(&good));
        for bad in ["", "pst_", &good[1..], &good[..good.len() - 1], &good.replace('0', "G")] {
            assert!(!is_key(bad), "{bad}");
        }
        assert!(!is_key(&format!("pst_{}_{}", "0".repeat(17), "ä".repeat(43))));
    }
}
