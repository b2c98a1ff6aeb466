//! Sending mails by SMTP (spec 8.3).

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use postern_runtime::config::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use super::message::PublicUrl;
use super::{Attempt, Verdict};
use crate::store::deliveries::Claimed;
use crate::store::messages::MessageKind;

/// For one mail, with the connection to the server.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// Not at all: for a server on the same machine or network.
    None,
    /// By STARTTLS, or no mail is sent.
    StartTls,
    /// From the first byte on (port 465).
    Implicit,
}

impl std::str::FromStr for MailTls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::StartTls),
            "implicit" => Ok(Self::Implicit),
            _ => Err("expected none, starttls or implicit".to_owned()),
        }
    }
}

/// The mail server, and who sends.
#[derive(Clone, Debug)]
pub struct MailConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Authorities to trust besides the machine's, PEM.
    pub ca_file: Option<PathBuf>,
    /// User and password, when the server wants them.
    pub credentials: Option<(String, Secret)>,
    /// The sender's address.
    pub from: Address,
}

/// The mail server's configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MailConfigError {
    /// No TLS with these authorities.
    #[error("the mail server's TLS cannot be configured")]
    Tls(#[from] SmtpError),
    /// The authorities cannot be read.
    #[error("POSTERN_SMTP_CA_FILE, {0}, cannot be read")]
    Authorities(PathBuf, #[source] rustls::pki_types::pem::Error),
}

/// Sends mails. Clones share the connections.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Mailer {
    /// A mailer that connects when it first sends.
    ///
    /// # Errors
    /// When TLS is wanted and cannot be configured.
    pub fn new(config: &MailConfig) -> Result<Self, MailConfigError> {
        let parameters = || parameters(config);
        let tls = match config.tls {
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(parameters()?),
            MailTls::Implicit => Tls::Wrapper(parameters()?),
        };
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.clone())
                .port(config.port)
                .tls(tls)
                .timeout(Some(TIMEOUT));
        if let Some((user, password)) = &config.credentials {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            builder = builder.credentials(credentials);
        }
        Ok(Self { transport: builder.build(), from: config.from.clone() })
    }

    /// Sends one message; `json` is the signed JSON where the subscription wants that.
    pub async fn send(
        &self,
        claimed: &Claimed,
        kind: MessageKind,
        json: Option<String>,
        public: &PublicUrl,
    ) -> Attempt {
        let message = match self.compose(claimed, kind, json, public) {
            Ok(message) => message,
            Err(error) => return Attempt::failed(Verdict::Permanent, error),
        };
        match timeout(TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(response)) => Attempt {
                verdict: Verdict::Delivered,
                status: i32::from(u16::from(response.code())),
                error: String::new(),
                address: String::new(),
            },
            Ok(Err(error)) => refused(&error),
            Err(_) => Attempt::failed(
                Verdict::Retry,
                format!("the mail server did not take it within {} s", TIMEOUT.as_secs()),
            ),
        }
    }

    fn compose(
        &self,
        claimed: &Claimed,
        kind: MessageKind,
        json: Option<String>,
        public: &PublicUrl,
    ) -> Result<Message, String> {
        let name = match claimed.display_name.as_str() {
            "" => "Postern Notifications",
            name => name,
        };
        let to: Address =
            claimed.endpoint.parse().map_err(|_| "the endpoint is no mail address".to_owned())?;
        let subject = claimed.subject.clone().unwrap_or_else(|| default_subject(kind).to_owned());
        let text = json.unwrap_or_else(|| text(claimed, kind, public));
        Message::builder()
            .from(Mailbox::new(Some(name.to_owned()), self.from.clone()))
            .to(Mailbox::new(None, to))
            .subject(subject)
            // The same in every attempt, so that a mail program shows a repeat once.
            .message_id(Some(format!("<{}@{}>", claimed.id, self.from.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| format!("the mail cannot be composed: {error}"))
    }
}

/// What the server is believed by.
fn parameters(config: &MailConfig) -> Result<TlsParameters, MailConfigError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let unread = |error| MailConfigError::Authorities(path.clone(), error);
        let authorities = CertificateDer::pem_file_iter(path).map_err(unread)?;
        for authority in authorities {
            let authority = authority.map_err(unread)?.to_vec();
            builder = builder.add_root_certificate(Certificate::from_der(authority)?);
        }
    }
    Ok(builder.build_rustls()?)
}

fn default_subject(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Notification => "Notification",
        MessageKind::SubscriptionConfirmation => "Subscription confirmation",
        MessageKind::UnsubscribeConfirmation => "Your subscription has ended",
    }
}

fn text(claimed: &Claimed, kind: MessageKind, public: &PublicUrl) -> String {
    let topic = claimed.topic_arn();
    let token = claimed.token.as_deref().unwrap_or_default();
    match kind {
        MessageKind::Notification => format!(
            "{}\n\n--\nTo stop receiving notifications from this topic, open this link:\n{}\n",
            claimed.body,
            public.unsubscribe(&claimed.subscription_arn()),
        ),
        MessageKind::SubscriptionConfirmation => format!(
            "You have chosen to subscribe to the topic:\n{topic}\n\n\
             To confirm this subscription, open this link:\n{}\n\n\
             If you did not ask for this, do nothing: no mail will follow.\n",
            public.subscribe(&topic, token),
        ),
        MessageKind::UnsubscribeConfirmation => format!(
            "Your subscription to this topic has ended:\n{topic}\n\n\
             If this was not what you wanted, open this link to take it back:\n{}\n",
            public.subscribe(&topic, token),
        ),
    }
}

fn refused(error: &SmtpError) -> Attempt {
    // It names its cause itself.
    let text = error.to_string();
    let status = error.status().map_or(0, |code| i32::from(u16::from(code)));
    // RFC 4954 section 6: these are about us and our password, not about the mail.
    let ours = matches!(status, 530 | 534 | 535 | 538);
    let verdict = if error.is_permanent() && !ours { Verdict::Permanent } else { Verdict::Retry };
    Attempt { verdict, status, error: text.chars().take(512).collect(), address: String::new() }
}
