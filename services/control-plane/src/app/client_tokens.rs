//! Client tokens in use cases: a request that is sent again with the same token makes nothing again.

use chrono::{DateTime, Utc};
use postern_model::{AccountId, Code};
use sqlx::PgConnection;

use super::App;
use crate::error::{Error, Result};
use crate::store::client_tokens::{self, Claim, Fingerprint, Scope, Taking};
use crate::store::sites::{self, Ground, before};

/// How many characters a token has at most (spec 0.3).
pub const LENGTH_MAX: usize = 64;

/// A token as it came, well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken(String);

impl ClientToken {
    /// Reads the token of a request; an empty text is none.
    ///
    /// # Errors
    ///
    /// `InvalidClientToken` when it is longer than 64 characters, or not printable ASCII.
    pub fn read(text: String) -> Result<Option<Self>, postern_model::Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > LENGTH_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            let reason = format!("must be at most {LENGTH_MAX} printable ASCII characters");
            let code = Code::InvalidClientToken;
            return Err(postern_model::Refusal::of_field(code, "client_token", reason));
        }
        Ok(Some(Self(text)))
    }

    fn scope<'a>(&'a self, account: AccountId, action: &'a str) -> Scope<'a> {
        Scope { account, action, token: &self.0 }
    }
}

/// What a token is asked about: the request that it came with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) account: AccountId,
    pub(crate) action: &'a str,
    pub(crate) token: Option<&'a ClientToken>,
    pub(crate) fingerprint: Fingerprint,
}

impl App {
    /// Takes the request's token for the resource that it is about to make. Without one, each request
    /// is the first.
    pub(crate) async fn claim(
        &self,
        db: &mut PgConnection,
        asked: Asked<'_>,
        resource: &str,
        now: DateTime<Utc>,
    ) -> Result<Claim> {
        let Some(token) = asked.token else { return Ok(Claim::First) };
        let scope = token.scope(asked.account, asked.action);
        let since = before(now, self.settings.times.client_token_retention);
        client_tokens::claim(db, scope, asked.fingerprint, resource, now, since).await
    }

    /// As [`App::claim`], and holds what the resource will stand on, in the same round trip.
    pub(crate) async fn claim_and_hold(
        &self,
        db: &mut PgConnection,
        asked: Asked<'_>,
        resource: &str,
        now: DateTime<Utc>,
        ground: Ground,
    ) -> Result<Claim> {
        let Some(token) = asked.token else {
            sites::hold(db, ground.owner, ground.vpc, ground.service).await?;
            return Ok(Claim::First);
        };
        let scope = token.scope(asked.account, asked.action);
        let since = before(now, self.settings.times.client_token_retention);
        let taking = Taking { fingerprint: asked.fingerprint, resource, now, since };
        client_tokens::claim_and_hold(db, scope, taking, ground).await
    }

    /// Looks the request's token up without taking it.
    pub(crate) async fn peek(
        &self,
        db: &mut PgConnection,
        asked: Asked<'_>,
        now: DateTime<Utc>,
    ) -> Result<Claim> {
        let Some(token) = asked.token else { return Ok(Claim::First) };
        let scope = token.scope(asked.account, asked.action);
        let since = before(now, self.settings.times.client_token_retention);
        client_tokens::find(db, scope, asked.fingerprint, since).await
    }
}

/// The refusal for a token that came with another request.
pub(crate) fn mismatch() -> Error {
    Error::of_field(
        Code::IdempotentParameterMismatch,
        "client_token",
        "the token was used by a request with other parameters",
    )
}
