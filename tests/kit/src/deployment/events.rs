//! What subscribers see: webhooks, with their signatures checked.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use crate::receiver::{Received, Receiver};

/// A message about an endpoint, as a webhook got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The message's id: repeats of one message have the same.
    pub message_id: String,
    /// The event's id.
    pub event_id: String,
    /// `Connect`, `Accept`, `Reject` or `Delete`.
    pub kind: String,
    /// The endpoint.
    pub endpoint: String,
}

/// A webhook that is subscribed to a topic.
#[derive(Debug)]
pub struct Hook {
    /// The server.
    pub receiver: Receiver,
    /// The topic.
    pub topic_arn: String,
}

impl Hook {
    /// The messages about endpoints so far, in the order of their first arrival, each once.
    pub fn events(&self) -> Vec<Event> {
        let mut seen = std::collections::BTreeSet::new();
        let all = self.receiver.received();
        let events = all.iter().filter_map(event);
        events.filter(|event| seen.insert(event.message_id.clone())).collect()
    }

    /// The kinds of the events about one endpoint so far.
    pub fn kinds(&self, endpoint: &str) -> Vec<String> {
        let about = self.events().into_iter().filter(|event| event.endpoint == endpoint);
        about.map(|event| event.kind).collect()
    }

    /// The events of each endpoint, in the order of their arrival.
    pub fn by_endpoint(&self) -> BTreeMap<String, Vec<Event>> {
        let mut all: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in self.events() {
            all.entry(event.endpoint.clone()).or_default().push(event);
        }
        all
    }
}

fn event(request: &Received) -> Option<Event> {
    let body = request.json().ok().filter(|body| body["Type"] == "Notification")?;
    let message: Value = serde_json::from_str(body["Message"].as_str()?).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Event {
        message_id: text(&body["MessageId"])?,
        event_id: text(&message["eventId"])?,
        kind: text(&message["event"])?,
        endpoint: text(&message["vpcEndpointId"])?,
    })
}

/// Checks a message's signature with OpenSSL, which shares no code with what made it. The canonical
/// text is put together here as the documentation of SNS says.
pub async fn verify(message: &Value) {
    let url = message["SigningCertURL"].as_str().expect("a message names its certificate");
    let (status, certificate) = get(url).await.expect("the certificate");
    assert_eq!(status, 200);
    let keys: &[&str] = match message["Type"].as_str() {
        Some("Notification") => {
            &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        }
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let pair = |key: &&str| Some(format!("{key}\n{}\n", message.get(*key)?.as_str()?));
    let text: String = keys.iter().filter_map(pair).collect();
    let digest = if message["SignatureVersion"] == "1" { "-sha1" } else { "-sha256" };
    let signature = message["Signature"].as_str().expect("a message has a signature");
    let signature = base64::engine::general_purpose::STANDARD.decode(signature).expect("Base64");
    let folder = tempfile::tempdir().expect("a directory");
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for (name, content) in
        [("cert.pem", certificate.as_bytes()), ("text", text.as_bytes()), ("signature", &signature)]
    {
        std::fs::write(file(name), content).expect("writing a file");
    }
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    openssl(&["x509", "-in", &certificate, "-pubkey", "-noout", "-out", &key]);
    let (signature, text) = (file("signature"), file("text"));
    openssl(&["dgst", digest, "-verify", &key, "-signature", &signature, &text]);
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("running openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
}

/// Fetches a page: status and text.
///
/// # Errors
/// When there is no answer in five seconds.
pub(super) async fn get(url: &str) -> anyhow::Result<(u16, String)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let response = client.get(url).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}
