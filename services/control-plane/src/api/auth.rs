//! Who may come in: the layer in front of every public method, which turns the API key of a request
//! into a [`Caller`].
//!
//! Keys are looked up by their hash. An answer, good or bad, is remembered for a few seconds, so that
//! the database is not asked for every request and a deleted key is refused soon. What anybody can
//! send costs nothing much: a text that is no key is refused without a look-up, and only a few
//! look-ups run at a time, so that a flood of invented keys can't take the database's connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use postern_model::{AccountId, Code};
use postern_runtime::clock::Clock;
use postern_runtime::config::Secret;
use postern_runtime::tls::peer_spiffe;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tonic::Status;
use tower::{Layer, Service};

use crate::app::App;
use crate::app::api_keys::is_key;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How long an answer is remembered.
const REMEMBERED: TimeDelta = TimeDelta::seconds(10);
/// How many answers of each kind are remembered.
const ANSWERS_MAX: usize = 16_384;
/// How many keys are looked up in the database at a time.
const LOOKUPS: usize = 8;
/// How long a request waits for its turn to be looked up.
const LOOKUP_WAIT: Duration = Duration::from_secs(3);

/// SHA-256 of a key's whole text.
pub type KeyDigest = [u8; 32];

/// Knows whom an API key belongs to.
#[derive(Clone)]
pub struct Authenticator {
    shared: Arc<Shared>,
}

struct Shared {
    app: App,
    operator: KeyDigest,
    lookups: Semaphore,
    // Apart, so that a flood of invented keys does not push out the real ones.
    known: Mutex<Answers<AccountId>>,
    unknown: Mutex<Answers<()>>,
}

impl Authenticator {
    /// Looks keys up in the database of `app`; `operator` is the operator's own key.
    pub fn new(app: App, operator: &Secret) -> Self {
        let (known, unknown) = Default::default();
        let operator = digest(operator.expose());
        let lookups = Semaphore::new(LOOKUPS);
        Self { shared: Arc::new(Shared { app, operator, lookups, known, unknown }) }
    }

    /// Whose key this is.
    ///
    /// # Errors
    ///
    /// `AuthFailure` when it is nobody's; the database away.
    pub async fn authenticate(&self, key: &str) -> Result<Caller> {
        let digest = digest(key);
        if self.is_operator(&digest) {
            return Ok(Caller::Operator);
        }
        if !is_key(key) {
            return Err(refused());
        }
        self.look_up(&digest).await
    }

    /// Whose key it is that hashes to `digest`.
    ///
    /// # Errors
    ///
    /// `AuthFailure` when it is nobody's; the database away.
    pub async fn authenticate_digest(&self, digest: &KeyDigest) -> Result<Caller> {
        if self.is_operator(digest) {
            return Ok(Caller::Operator);
        }
        self.look_up(digest).await
    }

    fn is_operator(&self, digest: &KeyDigest) -> bool {
        // In constant time, though only hashes are compared: no early end to learn from.
        let differences =
            self.shared.operator.iter().zip(digest).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differences) == 0
    }

    async fn look_up(&self, digest: &KeyDigest) -> Result<Caller> {
        let Shared { app, lookups, known, unknown, .. } = &*self.shared;
        if let Some(account) = recall(known, digest, &*app.clock) {
            return Ok(caller(account));
        }
        if recall(unknown, digest, &*app.clock).is_some() {
            return Err(refused());
        }
        let turn = tokio::time::timeout(LOOKUP_WAIT, lookups.acquire()).await;
        let busy = |source| Error::Unavailable { part: "authentication", source };
        let _turn =
            turn.map_err(|late| busy(late.into()))?.map_err(|closed| busy(closed.into()))?;
        // Dated from before the question: what was true then may have changed since.
        let asked_at = app.clock.now();
        match app.owner_of_key(digest).await? {
            Some(account) => {
                remember(known, *digest, account, asked_at);
                Ok(caller(account))
            }
            None => {
                remember(unknown, *digest, (), asked_at);
                Err(refused())
            }
        }
    }
}

fn caller(account: AccountId) -> Caller {
    Caller::Account { account, principal: account.root_arn() }
}

fn refused() -> Error {
    Error::refused(
        Code::AuthFailure,
        "send a valid API key as metadata: `authorization: Bearer <API key>`",
    )
}

/// SHA-256 of a key's whole text.
pub fn digest(key: &str) -> KeyDigest {
    Sha256::digest(key.as_bytes()).into()
}

/// Answers, each with the time of the question.
type Answers<T> = HashMap<KeyDigest, (DateTime<Utc>, T)>;

/// Whether an answer of `asked_at` still counts. A clock that was set back makes it too old as well:
/// it must never make it last.
fn is_fresh(asked_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (TimeDelta::zero()..=REMEMBERED).contains(&(now - asked_at))
}

fn recall<T: Copy>(
    answers: &Mutex<Answers<T>>,
    digest: &KeyDigest,
    clock: &dyn Clock,
) -> Option<T> {
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    let (asked_at, answer) = answers.get(digest)?;
    is_fresh(*asked_at, clock.now()).then_some(*answer)
}

fn remember<T>(answers: &Mutex<Answers<T>>, digest: KeyDigest, answer: T, asked_at: DateTime<Utc>) {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    if answers.len() >= ANSWERS_MAX {
        answers.retain(|_, (other, _)| is_fresh(*other, asked_at));
    }
    // Full of fresh answers: this one is not remembered, and asked for again.
    if answers.len() < ANSWERS_MAX {
        answers.insert(digest, (asked_at, answer));
    }
}

/// The layer that lets in only requests with a valid API key, and leaves the [`Caller`] on them.
#[derive(Clone)]
pub struct AuthLayer {
    authenticator: Authenticator,
}

impl AuthLayer {
    /// Asks `authenticator` about each request.
    pub fn new(authenticator: Authenticator) -> Self {
        Self { authenticator }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { inner, authenticator: self.authenticator.clone() }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Clone)]
pub struct AuthService<S> {
    inner: S,
    authenticator: Authenticator,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let authenticator = self.authenticator.clone();
        // The one that is ready goes with the request; the clone gets ready for the next.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let caller = match bearer(request.headers()) {
                Some(key) => authenticator.authenticate(key).await,
                None => Err(refused()),
            };
            match caller {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

/// The key of `authorization: Bearer <key>`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        // With two it is not clear who is asking.
        return None;
    };
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

/// Checks that it is a service of Postern's that asks, by its certificate. Hosts have certificates of
/// the same authority, and may not ask for what services may.
///
/// # Errors
///
/// `UnauthorizedOperation` for anybody else.
pub fn service_only<T>(request: &tonic::Request<T>) -> Result<()> {
    match peer_spiffe(request) {
        Some(peer) if peer.as_service().is_some() => Ok(()),
        _ => Err(Error::refused(
            Code::UnauthorizedOperation,
            "only a service of Postern may do this, and it must show its certificate",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn only_one_bearer_key_is_read_whatever_the_case_of_the_scheme() {
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for values in [&["Basic abc"][..], &["abc"], &[""], &["Bearer a", "Bearer b"], &[]] {
            assert_eq!(bearer(&headers(values)), None, "{values:?}");
        }
    }

    #[test]
    fn an_answer_is_forgotten_after_ten_seconds_and_when_the_clock_is_set_back() {
        let asked = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert!(is_fresh(asked, asked + TimeDelta::seconds(10)));
        assert!(!is_fresh(asked, asked + TimeDelta::seconds(11)));
        assert!(!is_fresh(asked, asked - TimeDelta::seconds(1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let answers = Mutex::new(Answers::new());
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for number in 0..ANSWERS_MAX + 10 {
            remember(&answers, digest(&number.to_string()), (), now);
        }
        assert_eq!(answers.lock().unwrap().len(), ANSWERS_MAX);
        remember(&answers, digest("later"), (), now + TimeDelta::seconds(60));
        assert_eq!(answers.lock().unwrap().len(), 1, "the old ones make room");
    }
}
