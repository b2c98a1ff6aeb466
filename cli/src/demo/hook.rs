//! A webhook subscriber as one writes it for SNS: it confirms its subscription by the URL that it is
//! sent, and believes no message whose signature it did not verify.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The largest message that SNS sends, and its envelope.
const BODY_MAX: usize = 512 * 1024;

/// A subscriber that runs until it is dropped.
pub struct Hook {
    /// What to subscribe.
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Value>>,
    faults: Mutex<Vec<String>>,
    changed: Notify,
}

impl Hook {
    /// Listens on a free port of `address`.
    pub async fn start(address: Ipv4Addr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let at: SocketAddr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/hook", post(take))
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the webhook ended");
            }
        });
        Ok(Self { url: format!("http://{at}/hook"), shared, task })
    }

    /// The messages so far, each with whether its signature was right.
    pub fn messages(&self) -> Vec<Value> {
        self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the notifications satisfy `enough`.
    pub async fn wait(&self, enough: impl Fn(&[Value]) -> bool) -> anyhow::Result<()> {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(fault) =
                self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).first()
            {
                bail!("the webhook got a message that it can't believe: {fault}");
            }
            if enough(&self.messages()) {
                return Ok(());
            }
            changed.await;
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    let status = match believe(&body).await {
        Ok(message) => {
            let mut messages = shared.messages.lock().unwrap_or_else(PoisonError::into_inner);
            // Deliveries are at least once: a repeat is known by its id.
            if !messages.iter().any(|known| known["messageId"] == message["messageId"]) {
                messages.push(message);
            }
            StatusCode::OK
        }
        Err(error) => {
            let fault = format!("{error:#}");
            shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
            StatusCode::FORBIDDEN
        }
    };
    shared.changed.notify_waiters();
    status
}

/// Verifies a message, and confirms the subscription where it asks for that.
async fn believe(body: &[u8]) -> anyhow::Result<Value> {
    let message: Value = serde_json::from_slice(body).context("the body is no JSON")?;
    let text =
        |key: &str| message[key].as_str().with_context(|| format!("the message has no text {key}"));
    let kind = text("Type")?;
    verify(&message).await?;
    let mut shown = json!({
        "type": kind,
        "messageId": text("MessageId")?,
        "topicArn": text("TopicArn")?,
        "signatureVersion": text("SignatureVersion")?,
        "signature": "verified",
    });
    match kind {
        "SubscriptionConfirmation" => {
            get(text("SubscribeURL")?).await.context("confirming the subscription")?;
        }
        "Notification" => {
            shown["subject"] = message["Subject"].clone();
            // The message of an endpoint's event is JSON in a text.
            shown["message"] = serde_json::from_str(text("Message")?)
                .unwrap_or_else(|_| message["Message"].clone());
        }
        other => bail!("a message of type {other}"),
    }
    Ok(shown)
}

/// Verifies the signature over the canonical text, with the certificate that the message names
/// (spec 8.3). A subscriber on the open network also checks that the certificate's URL is one that
/// it trusts; here everything is one machine's.
async fn verify(message: &Value) -> anyhow::Result<()> {
    let confirmation = message["Type"] != "Notification";
    let keys: &[&str] = match confirmation {
        true => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
        false => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
    };
    let mut canonical = String::new();
    for key in keys {
        match message[*key].as_str() {
            Some(value) => canonical.push_str(&format!("{key}\n{value}\n")),
            None if *key == "Subject" => {}
            None => bail!("the message has no text {key}"),
        }
    }
    let url = message["SigningCertURL"].as_str().context("the message names no certificate")?;
    let pem = get(url).await.context("fetching the certificate")?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).context("the certificate is no PEM")?;
    let certificate = pem.parse_x509().context("the certificate is none")?;
    let key = certificate.public_key().subject_public_key.data.as_ref();
    let signature = message["Signature"].as_str().context("the message has no signature")?;
    let signature = STANDARD.decode(signature).context("the signature is no Base64")?;
    let algorithm = match message["SignatureVersion"].as_str() {
        Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &RSA_PKCS1_2048_8192_SHA256,
        other => bail!("signature version {other:?}"),
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(canonical.as_bytes(), &signature)
        .map_err(|_| anyhow!("the signature is wrong"))
}

async fn get(url: &str) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    Ok(client.get(url).send().await?.error_for_status()?.bytes().await?.to_vec())
}
