//! Who is asking: the API key of a request, and whom it belongs to.
//!
//! Answers of the control plane are remembered for seconds, so that a key that was deleted is refused
//! within seconds, and a busy client doesn't cost a call each time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, header};
use postern_model::{Code, Refusal};
use postern_proto::status;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::status_of;
use crate::app::sha256;
use crate::caller::{Caller, Identities};
use crate::error::Error;

/// How long a good key is remembered, and how long a bad one.
const GOOD: Duration = Duration::from_secs(10);
const BAD: Duration = Duration::from_secs(2);
/// How many keys are remembered.
const MAX_KEYS: usize = 10_000;
/// The longest key that is looked at, in bytes.
const MAX_KEY: usize = 256;

/// Whom a key belongs to, and until when that counts.
type Answer = (Option<Caller>, Instant);

/// Finds out who is asking. Clones share what is remembered.
#[derive(Clone)]
pub struct Authenticator {
    identities: Arc<dyn Identities>,
    known: Arc<Mutex<HashMap<[u8; 32], Answer>>>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Asks `identities` whom keys belong to.
    pub fn new(identities: Arc<dyn Identities>) -> Self {
        Self { identities, known: Arc::default() }
    }

    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Status> {
        let key = key(headers).map_err(|refusal| status::status(&refusal))?;
        let hash = sha256(key);
        if let Some(caller) = self.remembered(&hash) {
            return caller.ok_or_else(nobody);
        }
        let caller =
            self.identities.authenticate(hash).await.map_err(|source| {
                status_of(Error::Unavailable { part: "control plane", source })
            })?;
        self.remember(hash, caller.clone());
        caller.ok_or_else(nobody)
    }

    fn remembered(&self, hash: &[u8; 32]) -> Option<Option<Caller>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, until) = known.get(hash)?;
        (Instant::now() < *until).then(|| caller.clone())
    }

    fn remember(&self, hash: [u8; 32], caller: Option<Caller>) {
        let now = Instant::now();
        let until = now + if caller.is_some() { GOOD } else { BAD };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KEYS {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MAX_KEYS {
            known.insert(hash, (caller, until));
        }
    }
}

fn nobody() -> Status {
    status::status(&Refusal::new(Code::AuthFailure, "the API key is not valid"))
}

fn key(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |why: &str| Refusal::new(Code::AuthFailure, why);
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| refuse("send `authorization: Bearer <API key>` with every request"))?;
    let text = value.to_str().map_err(|_| refuse("the authorization is no text"))?;
    let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() || key.len() > MAX_KEY {
        return Err(refuse("expected `authorization: Bearer <API key>`"));
    }
    Ok(key)
}

/// A gRPC service behind the authenticator: its handlers find the caller on every request.
#[derive(Clone, Debug)]
pub struct Authenticated<S> {
    service: S,
    authenticator: Authenticator,
}

impl<S> Authenticated<S> {
    /// Puts the authenticator before a service.
    pub fn new(service: S, authenticator: Authenticator) -> Self {
        Self { service, authenticator }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> tower::Service<Request<Body>> for Authenticated<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was polled ready is used up; its clone is for the next call.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let authenticator = self.authenticator.clone();
        Box::pin(async move {
            match authenticator.caller(request.headers()).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    service.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::error::Cause;

    #[derive(Default)]
    struct Keys(AtomicUsize);

    #[async_trait]
    impl Identities for Keys {
        async fn authenticate(&self, hash: [u8; 32]) -> Result<Option<Caller>, Cause> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok((hash == sha256("good")).then_some(Caller::Operator))
        }
    }

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn a_good_key_is_asked_about_once_and_a_bad_one_is_refused() {
        let keys = Arc::new(Keys::default());
        let authenticator = Authenticator::new(keys.clone());
        for _ in 0..3 {
            assert!(authenticator.caller(&headers("Bearer good")).await.is_ok());
        }
        assert_eq!(keys.0.load(Ordering::SeqCst), 1);
        for text in ["Bearer bad", "Bearer ", "Basic good", "good"] {
            let status = authenticator.caller(&headers(text)).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{text}");
        }
        let status = authenticator.caller(&HeaderMap::new()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
