//! The dispatcher's own HTTP port, for whoever receives messages: the signing certificate, and the
//! links that confirm and end subscriptions, answered in SNS's XML (spec 8.1 to 8.3), or to a browser in
//! words.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use postern_model::{Class, Code, Refusal};
use postern_runtime::shutdown::Stop;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::app::{App, Confirm};
use crate::deliver::email::compose::escaped;
use crate::deliver::sign::keys::SigningKeys;
use crate::error::Error;

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
/// Connections open at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// For a request's head to come in.
const HEAD: Duration = Duration::from_secs(10);
/// For a connection in all: what comes here is one short request, or a few.
const CONNECTION: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Site {
    app: App,
    keys: SigningKeys,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(rename = "Action")]
    action: Option<String>,
    #[serde(rename = "TopicArn")]
    topic_arn: Option<String>,
    #[serde(rename = "Token")]
    token: Option<String>,
    #[serde(rename = "SubscriptionArn")]
    subscription_arn: Option<String>,
    #[serde(rename = "AuthenticateOnUnsubscribe")]
    authenticate_on_unsubscribe: Option<String>,
}

/// The pages of the port.
pub fn router(app: App, keys: SigningKeys) -> Router {
    Router::new()
        .route("/", get(action).post(one_click))
        .route("/{file}", get(certificate))
        .with_state(Site { app, keys })
}

/// Serves the port until asked to stop.
///
/// # Errors
/// None: a connection that fails is its client's business.
pub async fn serve(listener: TcpListener, router: Router, stop: Stop) -> anyhow::Result<()> {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving certificate and subscription links");
    }
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), accepted) = accepted else { break };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of file descriptors, most likely: one bad accept must not end the loop.
                warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
            tokio::pin!(connection);
            let served = timeout(CONNECTION, async {
                tokio::select! {
                    served = connection.as_mut() => return served,
                    () = stop.stopped() => connection.as_mut().graceful_shutdown(),
                }
                tokio::select! {
                    served = connection.as_mut() => served,
                    () = stop.killed() => Ok(()),
                }
            });
            if let Ok(Err(error)) = served.await {
                debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = stop.killed() => {}
    }
    Ok(())
}

async fn certificate(State(site): State<Site>, Path(file): Path<String>) -> Response {
    let pem = match site.keys.certificate(&file).await {
        Ok(Some(pem)) => pem,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(error) => return Failed::of(error).xml(Uuid::new_v4()),
    };
    let headers = [
        (header::CONTENT_TYPE, "application/x-pem-file"),
        // The name changes with the content.
        (header::CACHE_CONTROL, "public, max-age=86400"),
    ];
    (headers, pem).into_response()
}

async fn action(
    State(site): State<Site>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let request_id = Uuid::new_v4();
    let done = perform(&site.app, parameters).await;
    // A browser says that it reads HTML: a person followed the link in a mail. Programs get SNS's XML.
    let person = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|text| text.contains("text/html")));
    match done {
        Ok((action, _)) if person => words(StatusCode::OK, said(action)),
        Ok((action, result)) => success(action, &result, request_id),
        Err(error) => {
            let failed = Failed::of(error);
            if person { words(failed.status, &failed.message) } else { failed.xml(request_id) }
        }
    }
}

/// What a mail program posts when its user unsubscribes with one click (RFC 8058). The body says so and
/// nothing else; it is not read.
async fn one_click(State(site): State<Site>, Query(parameters): Query<Parameters>) -> Response {
    let request_id = Uuid::new_v4();
    if parameters.action.as_deref() != Some("Unsubscribe") {
        return Failed::of(missing("Action")).xml(request_id);
    }
    match perform(&site.app, parameters).await {
        Ok((action, result)) => success(action, &result, request_id),
        Err(error) => Failed::of(error).xml(request_id),
    }
}

fn said(action: &str) -> &'static str {
    match action {
        "ConfirmSubscription" => "Your subscription is confirmed.",
        _ => {
            "Your subscription has ended. A message with a link that takes this back is on its way."
        }
    }
}

/// A page for people.
fn words(status: StatusCode, sentence: &str) -> Response {
    let body = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Postern</title></head>\
         <body style=\"font:16px/1.5 sans-serif;max-width:40em;margin:4em auto\"><p>{}</p></body></html>\n",
        escaped(sentence)
    );
    // The address holds a token: it goes nowhere else.
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

fn missing(name: &str) -> Error {
    Refusal::new(Code::InvalidParameter, format!("Invalid parameter: {name}")).into()
}

async fn perform(app: &App, parameters: Parameters) -> Result<(&'static str, String), Error> {
    let invalid = |name: &str, error: &dyn std::fmt::Display| {
        Error::from(Refusal::new(
            Code::InvalidParameter,
            format!("Invalid parameter: {name} Reason: {error}"),
        ))
    };
    match parameters.action.as_deref() {
        Some("ConfirmSubscription") => {
            let topic = parameters.topic_arn.ok_or_else(|| missing("TopicArn"))?;
            let token = parameters.token.ok_or_else(|| missing("Token"))?;
            if parameters.authenticate_on_unsubscribe.as_deref() == Some("true") {
                let why = "AuthenticateOnUnsubscribe needs an authenticated request";
                return Err(Refusal::new(Code::AuthorizationError, why).into());
            }
            let topic = topic.parse().map_err(|error| invalid("TopicArn", &error))?;
            let arn = app.confirm(Confirm { topic, token, guarded: false }).await?;
            let result = format!(
                "<ConfirmSubscriptionResult><SubscriptionArn>{}</SubscriptionArn>\
                 </ConfirmSubscriptionResult>",
                escaped(&arn.to_string())
            );
            Ok(("ConfirmSubscription", result))
        }
        Some("Unsubscribe") => {
            let arn = parameters.subscription_arn.ok_or_else(|| missing("SubscriptionArn"))?;
            let arn = arn.parse().map_err(|error| invalid("SubscriptionArn", &error))?;
            app.unsubscribe(None, &arn).await?;
            Ok(("Unsubscribe", String::new()))
        }
        _ => Err(missing("Action")),
    }
}

fn xml(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
}

fn success(action: &str, result: &str, request_id: Uuid) -> Response {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\">{result}<ResponseMetadata>\
         <RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>\n"
    );
    xml(StatusCode::OK, body)
}

/// How a request failed, as SNS says it.
struct Failed {
    status: StatusCode,
    side: &'static str,
    code: &'static str,
    message: String,
}

impl Failed {
    fn of(error: Error) -> Self {
        let (status, side, code, message) = match error {
            Error::Refused(refusal) => {
                let status = match refusal.code.class() {
                    Class::NotFound => StatusCode::NOT_FOUND,
                    Class::Denied | Class::Unauthenticated | Class::Exhausted => {
                        StatusCode::FORBIDDEN
                    }
                    Class::Throttled => StatusCode::TOO_MANY_REQUESTS,
                    Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                    Class::Invalid | Class::AlreadyExists | Class::WrongState | Class::DryRun => {
                        StatusCode::BAD_REQUEST
                    }
                };
                (status, "Sender", refusal.code.as_str(), refusal.message)
            }
            Error::Unavailable { part, source } => {
                let cause = anyhow::Error::from_boxed(source);
                warn!(part, cause = format!("{cause:#}"), "a part is not available");
                let message = format!("the {part} is unavailable, try again later");
                (StatusCode::SERVICE_UNAVAILABLE, "Receiver", "ServiceUnavailable", message)
            }
            Error::Internal(source) => {
                let cause = anyhow::Error::from_boxed(source);
                error!(cause = format!("{cause:#}"), "internal error");
                let message = "internal error".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, "Receiver", "InternalError", message)
            }
        };
        Self { status, side, code, message }
    }

    fn xml(&self, request_id: Uuid) -> Response {
        let Self { status, side, code, message } = self;
        let body = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{side}</Type><Code>{code}</Code>\
             <Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>\n",
            escaped(message)
        );
        xml(*status, body)
    }
}
