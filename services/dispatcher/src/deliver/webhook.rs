//! Posting messages to web addresses (spec 8.3).

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use url::Url;

use super::dial::{DialError, Dialer, Dialled};
use super::outbound::is_public;
use super::{Attempt, Verdict, standard};
use crate::store::deliveries::Claimed;
use crate::store::messages::MessageKind;

/// The content type of every message, unless a delivery policy says otherwise.
pub const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";
/// How SNS calls itself.
const USER_AGENT: &str = "Amazon Simple Notification Service Agent";
/// How much of an answer is read, in bytes, and for how long: reading it lets the connection be used
/// again.
const MAX_ANSWER: usize = 64 * 1024;
const BODY: Duration = Duration::from_secs(2);
/// How much of a refusal is kept to be looked at, in bytes.
const SHOWN: usize = 1024;
/// The longest wait that a receiver may ask for, in seconds.
const MAX_RETRY_AFTER: u64 = 3600;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// Idle connections kept for a target, and for how long.
const IDLE_CONNECTIONS: usize = 32;
const IDLE: Duration = Duration::from_secs(30);

/// Posts messages. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Webhooks {
    client: Client<Dialer, Body>,
    dialer: Dialer,
    timeout: Duration,
}

/// The address to post to is none.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("the endpoint is no web address")]
    Url(#[from] url::ParseError),
    #[error("the endpoint is no web address")]
    Http(#[from] http::Error),
}

impl Webhooks {
    /// Posts through `dialer`, and waits for an answer until `timeout` has passed.
    pub fn new(dialer: Dialer, timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(MAX_HEAD)
            .build(dialer.clone());
        Self { client, dialer, timeout }
    }

    /// What may be dialled.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Posts one message. `now` is what its signature says.
    pub async fn post(
        &self,
        claimed: &Claimed,
        kind: MessageKind,
        body: String,
        content_type: Option<&str>,
        now: DateTime<Utc>,
    ) -> Attempt {
        let length = body.len();
        let request = match request(claimed, kind, body, content_type, now) {
            Ok(request) => request,
            Err(error) => return Attempt::failed(Verdict::Permanent, error.to_string()),
        };
        let attempt = match timeout(self.timeout, self.client.request(request)).await {
            Ok(Ok(response)) => self.read(response).await,
            Ok(Err(error)) => Attempt::failed(verdict_of(&error), chain(&error)),
            Err(_) => Attempt::failed(
                Verdict::Retry,
                format!("no answer within {} s", self.timeout.as_secs()),
            ),
        };
        Attempt { request_bytes: length, ..attempt }
    }

    /// The head has said everything: a body that is long or slow costs the connection, not the delivery.
    async fn read(&self, response: Response<Incoming>) -> Attempt {
        let address: Option<SocketAddr> =
            response.extensions().get::<Dialled>().map(|dialled| dialled.0);
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| retry_after(text, Utc::now()));
        let mut body = Body::new(response.into_body()).into_data_stream();
        let mut begins = Vec::new();
        let mut length = 0_usize;
        let read = async {
            while let Some(Ok(data)) = body.next().await {
                length = length.saturating_add(data.len());
                let room = SHOWN.saturating_sub(begins.len()).min(data.len());
                begins.extend_from_slice(data.get(..room).unwrap_or_default());
                if length > MAX_ANSWER {
                    break;
                }
            }
        };
        let _ = timeout(BODY, read).await;
        let verdict = verdict(status);
        let error = match verdict {
            Verdict::Delivered => String::new(),
            Verdict::Permanent if status.is_redirection() => {
                format!("answered {status}; redirects are not followed")
            }
            Verdict::Permanent | Verdict::Retry => format!("answered {status}"),
        };
        // What a host inside says is nothing for those who can only subscribe, even where the policy
        // lets messages go there.
        let shown = verdict != Verdict::Delivered
            && address.is_some_and(|at| is_public(at.ip().to_canonical()));
        Attempt {
            error,
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            retry_after,
            response_bytes: length,
            response: if shown { text(&begins) } else { String::new() },
            ..Attempt::answered(verdict, i32::from(status.as_u16()))
        }
    }
}

/// Bytes as a text that can be kept and shown.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|character| !character.is_control() || *character == '\n')
        .collect()
}

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110, 10.2.3). An hour at most, which is
/// as long as any retries may last.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let seconds = match text.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(text.trim()).ok()?;
            u64::try_from((at.to_utc() - now).num_seconds()).unwrap_or_default()
        }
    };
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// What an answer means (spec 8.4).
fn verdict(status: StatusCode) -> Verdict {
    match status {
        _ if status.is_success() => Verdict::Delivered,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Verdict::Retry,
        _ if status.is_redirection() || status.is_client_error() => Verdict::Permanent,
        _ => Verdict::Retry,
    }
}

/// What it means that there is no answer: a connection may work later, but what the policy forbids
/// stays forbidden. Names change, so a name that leads inside today is tried again like one that
/// leads nowhere.
fn verdict_of(error: &hyper_util::client::legacy::Error) -> Verdict {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<DialError>() {
            return match error {
                DialError::Address => Verdict::Permanent,
                DialError::Forbidden(super::outbound::Forbidden::Port(_)) => Verdict::Permanent,
                DialError::Forbidden(_)
                | DialError::Name(..)
                | DialError::Connect(..)
                | DialError::Handshake(..) => Verdict::Retry,
            };
        }
        source = cause.source();
    }
    Verdict::Retry
}

/// The causes of an error, from the one that says most to the deepest.
fn chain(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = error.source();
    }
    // The client's own "client error (Connect)" says less than its cause.
    if texts.len() > 1 {
        texts.remove(0);
    }
    texts.join(": ").chars().take(512).collect()
}

fn request(
    claimed: &Claimed,
    kind: MessageKind,
    body: String,
    content_type: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Request<Body>, RequestError> {
    let mut url = Url::parse(&claimed.endpoint)?;
    let credentials = (!url.username().is_empty()).then(|| {
        let decoded = |text: &str| percent_decoded(text);
        let user = decoded(url.username());
        let password = decoded(url.password().unwrap_or_default());
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    });
    // These fail only for addresses without a host, which have no credentials either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let raw = claimed.raw && kind == MessageKind::Notification;
    let content_type =
        content_type.filter(|_| kind == MessageKind::Notification).unwrap_or(CONTENT_TYPE);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(header::CONTENT_TYPE, content_type)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT_ENCODING, "gzip,deflate")
        .header(header::CONNECTION, "Keep-Alive")
        .header("x-amz-sns-message-type", kind.as_str())
        .header("x-amz-sns-message-id", claimed.message_id.to_string())
        .header("x-amz-sns-topic-arn", claimed.topic_arn());
    if kind != MessageKind::SubscriptionConfirmation {
        request = request.header("x-amz-sns-subscription-arn", claimed.subscription_arn());
    }
    if raw {
        request = request.header("x-amz-sns-rawdelivery", "true");
    }
    let previous = claimed
        .webhook_secret_previous
        .as_deref()
        .filter(|_| claimed.webhook_secret_previous_until.is_some_and(|until| now < until));
    let secrets: Vec<&str> =
        claimed.webhook_secret.as_deref().into_iter().chain(previous).collect();
    let id = claimed.message_id.to_string();
    for (name, value) in
        standard::headers(&id, now, body.as_bytes(), &secrets).into_iter().flatten()
    {
        request = request.header(name, value);
    }
    if let Some(credentials) = credentials {
        let mut value = HeaderValue::from_str(&credentials).map_err(http::Error::from)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    Ok(request.body(Body::from(body))?)
}

/// Undoes `%41` and the like; what isn't one stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_specification_says() {
        for (status, expected) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (301, Verdict::Permanent),
            (307, Verdict::Permanent),
            (400, Verdict::Permanent),
            (404, Verdict::Permanent),
            (408, Verdict::Retry),
            (429, Verdict::Retry),
            (500, Verdict::Retry),
            (503, Verdict::Retry),
        ] {
            assert_eq!(verdict(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date_and_bounded() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let wait = |text: &str| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait(" 999999999 "), Some(3600));
        assert_eq!(wait("Fri, 02 Jan 2026 03:05:05 GMT"), Some(60));
        assert_eq!(wait("Thu, 01 Jan 2026 03:05:05 GMT"), Some(0));
        assert_eq!((wait("soon"), wait("-1")), (None, None));
    }

    #[test]
    fn credentials_are_decoded_before_they_are_sent() {
        assert_eq!(percent_decoded("a%40b%zz%4"), "a@b%zz%4");
    }
}
