//! Sending mails by SMTP (spec 8.3).

pub mod compose;

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use postern_runtime::config::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use self::compose::{Composed, Letter};
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
            Ok(Ok(response)) => {
                Attempt::answered(Verdict::Delivered, i32::from(u16::from(response.code())))
            }
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
        let to: Address =
            claimed.endpoint.parse().map_err(|_| "the endpoint is no mail address".to_owned())?;
        let Composed { sender, subject, text, html, unsubscribe } =
            compose::compose(&Letter::of(claimed, kind), public);
        let mut mail = Message::builder()
            .from(Mailbox::new(Some(sender), self.from.clone()))
            .to(Mailbox::new(None, to))
            .subject(subject)
            .date(claimed.published_at.into())
            // The same in every attempt, so that a mail program shows a repeat once.
            .message_id(Some(format!("<{}@{}>", claimed.id, self.from.domain())))
            // Nobody's out-of-office answer is wanted (RFC 3834).
            .raw_header(header("Auto-Submitted", "auto-generated".to_owned())?);
        if let Some(link) = unsubscribe {
            // One click is a POST, and by RFC 8058 to an https address alone.
            if link.starts_with("https://") {
                let value = "List-Unsubscribe=One-Click".to_owned();
                mail = mail.raw_header(header("List-Unsubscribe-Post", value)?);
            }
            mail = mail.raw_header(header("List-Unsubscribe", format!("<{link}>"))?);
        }
        let mail = match json {
            Some(json) => mail.header(ContentType::TEXT_PLAIN).body(json),
            None => mail.multipart(MultiPart::alternative_plain_html(text, html)),
        };
        mail.map_err(|error| format!("the mail cannot be composed: {error}"))
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

fn header(name: &'static str, value: String) -> Result<HeaderValue, String> {
    let name = HeaderName::new_from_ascii(name.to_owned()).map_err(|error| error.to_string())?;
    Ok(HeaderValue::new(name, value))
}

/// What the server's refusal means (RFC 5321, section 4.2; RFC 3463 for the enhanced code at the
/// beginning of its text).
///
/// 4yz is for now and 5yz for good, but for answers that say less than that of the recipient: a mailbox
/// that is full (552, x.2.2) is emptied some day, an enhanced code of class 4 takes a 5yz back, and that
/// we may not send at all (530, 534, 535, 538, x.7.8 and the like) is our configuration's fault, which
/// should not cost the mails of the meantime.
fn verdict(code: u16, text: &str) -> Verdict {
    if code / 100 != 5 {
        return Verdict::Retry;
    }
    let enhanced = enhanced(text);
    let full = code == 552 || matches!(enhanced, Some((_, 2, 2)));
    let ours = matches!(code, 530 | 534 | 535 | 538) || matches!(enhanced, Some((_, 7, 8..=14)));
    if full || ours || matches!(enhanced, Some((4, _, _))) {
        return Verdict::Retry;
    }
    Verdict::Permanent
}

/// The enhanced status code that a text begins with, such as `5.1.1`.
fn enhanced(text: &str) -> Option<(u8, u16, u16)> {
    let mut parts = text.split_whitespace().next()?.split('.');
    let code = (
        parts.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(code)
}

fn refused(error: &SmtpError) -> Attempt {
    // Without an answer the error names its cause itself.
    let Some(status) = error.status().map(u16::from) else {
        return Attempt::failed(Verdict::Retry, cut(&error.to_string()));
    };
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let verdict = verdict(status, &cause);
    let how = match verdict {
        Verdict::Permanent => "for good",
        Verdict::Delivered | Verdict::Retry => "for now",
    };
    Attempt {
        status: i32::from(status),
        ..Attempt::failed(verdict, cut(&format!("refused {how}: {status} {cause}")))
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_for_now_or_for_good() {
        for (code, text, expected) in [
            (421, "4.3.2 shutting down", Verdict::Retry),
            (450, "4.2.0 greylisted", Verdict::Retry),
            (451, "4.3.0 try again later", Verdict::Retry),
            (452, "4.2.2 over quota", Verdict::Retry),
            (450, "no enhanced code", Verdict::Retry),
            (550, "5.1.1 no such user", Verdict::Permanent),
            (550, "5.7.1 rejected as spam", Verdict::Permanent),
            (551, "5.1.6 moved", Verdict::Permanent),
            (553, "mailbox name not allowed", Verdict::Permanent),
            (554, "transaction failed", Verdict::Permanent),
            (550, "4.7.1 come back in an hour", Verdict::Retry),
            (552, "5.2.2 mailbox full", Verdict::Retry),
            (550, "5.2.2 mailbox full", Verdict::Retry),
            (535, "5.7.8 bad credentials", Verdict::Retry),
            (530, "authentication required", Verdict::Retry),
        ] {
            assert_eq!(verdict(code, text), expected, "{code} {text}");
        }
    }

    #[test]
    fn an_enhanced_code_is_three_numbers_in_front() {
        assert_eq!(enhanced("5.1.1 no such user"), Some((5, 1, 1)));
        for text in ["", "no", "5.1", "5.1.1.1", "9.1.1", "see 5.1.1", "10.0.0.1 is blocked"] {
            assert_eq!(enhanced(text), None, "{text}");
        }
    }
}
