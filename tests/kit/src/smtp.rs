//! A mail server that keeps what it is sent.
//!
//! It is the far side of the dispatcher's mail path, so it speaks SMTP (RFC 5321) as servers do and can
//! behave badly: refuse for now, refuse for good, go silent, hang up. It can protect the connection, by
//! STARTTLS (RFC 3207) or from the first byte on, and want a user and a password (RFC 4954).

use anyhow::{Context, Result};
use base64::Engine;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Longer mails and lines are a fault of the sender under test.
const LARGEST_MAIL: usize = 1 << 20;

/// What the server does with a mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reception {
    /// Takes it.
    Accept,
    /// Answers the recipient with 451: try again later.
    Later,
    /// Answers the recipient with 550: never.
    Never,
    /// Says nothing any more after the recipient was named.
    Silence,
    /// Hangs up after the recipient was named.
    HangUp,
}

/// How the server protects its connections.
#[derive(Clone)]
pub enum Protection {
    /// Not at all.
    None,
    /// By STARTTLS; it takes no mail before.
    StartTls(Arc<rustls::ServerConfig>),
    /// From the first byte on.
    Implicit(Arc<rustls::ServerConfig>),
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::StartTls(_) => "StartTls",
            Self::Implicit(_) => "Implicit",
        })
    }
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body as they came, dots unstuffed.
    pub raw: String,
}

impl Mail {
    /// The value of a header, its folded lines joined, by a name in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let (head, _) = self.raw.split_once("\r\n\r\n")?;
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.split("\r\n").find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The text of the mail, its transfer encoding undone: the body, or the part that is plain text.
    ///
    /// # Errors
    /// When there is none, or it is not what its Content-Transfer-Encoding says, or no UTF-8.
    pub fn text(&self) -> Result<String> {
        self.part("text/plain")
    }

    /// The same of the part that is HTML.
    ///
    /// # Errors
    /// As [`Mail::text`].
    pub fn html(&self) -> Result<String> {
        self.part("text/html")
    }

    fn part(&self, kind: &str) -> Result<String> {
        let (_, body) = self.raw.split_once("\r\n\r\n").context("a mail without a body")?;
        let content = self.header("Content-Type").unwrap_or_else(|| "text/plain".to_owned());
        let Some((_, boundary)) = content.split_once("boundary=\"") else {
            anyhow::ensure!(content.starts_with(kind), "{content} where {kind} was wanted");
            return decoded(&self.header("Content-Transfer-Encoding").unwrap_or_default(), body);
        };
        let boundary = boundary.split('"').next().unwrap_or_default();
        let between = format!("--{boundary}");
        let parts = body.split(between.as_str()).skip(1).map(|part| Self {
            from: self.from.clone(),
            to: self.to.clone(),
            // The line break before a boundary is the boundary's.
            raw: part.trim_start_matches("\r\n").strip_suffix("\r\n").unwrap_or(part).to_owned(),
        });
        let wanted = |part: &Self| {
            part.header("Content-Type").is_some_and(|content| content.starts_with(kind))
        };
        parts.into_iter().find(wanted).with_context(|| format!("no part is {kind}"))?.part(kind)
    }
}

fn decoded(encoding: &str, body: &str) -> Result<String> {
    match encoding.to_ascii_lowercase().as_str() {
        "base64" => {
            let packed: String = body.split_whitespace().collect();
            let bytes = base64::engine::general_purpose::STANDARD.decode(packed)?;
            Ok(String::from_utf8(bytes)?)
        }
        "quoted-printable" => quoted_printable(body),
        _ => Ok(body.to_owned()),
    }
}

/// RFC 2045 section 6.7.
fn quoted_printable(body: &str) -> Result<String> {
    let joined = body.replace("=\r\n", "");
    let mut parts = joined.split('=');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).context("a lone = in quoted-printable")?;
        bytes.push(u8::from_str_radix(digits, 16).with_context(|| format!("={digits}"))?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(String::from_utf8(bytes)?)
}

#[derive(Debug)]
struct State {
    mails: watch::Sender<Vec<Mail>>,
    script: Mutex<VecDeque<Reception>>,
    otherwise: Mutex<Reception>,
    protection: Protection,
    /// The user and the password without whom no mail is taken.
    account: Option<(String, String)>,
}

/// The server. It ends when dropped.
#[derive(Debug)]
pub struct MailSink {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl MailSink {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one at an address, such as one where another has ended.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        Self::start_with(address, Protection::None, None).await
    }

    /// Starts one that protects its connections, and takes mails from this user with this password
    /// alone.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_with(
        address: SocketAddr,
        protection: Protection,
        account: Option<(&str, &str)>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            mails: watch::Sender::new(Vec::new()),
            script: Mutex::default(),
            otherwise: Mutex::new(Reception::Accept),
            protection,
            account: account.map(|(user, password)| (user.to_owned(), password.to_owned())),
        });
        let served = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new(); // They end with the sink.
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                sessions.spawn(async move { drop(session(stream, &state).await) });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Treats the next recipients in this order, and those after them as [`MailSink::always`] says.
    pub fn next(&self, receptions: impl IntoIterator<Item = Reception>) {
        let mut script = self.state.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.extend(receptions);
    }

    /// Treats every recipient for whom nothing else was said like this. At first: accept.
    pub fn always(&self, reception: Reception) {
        *self.state.otherwise.lock().unwrap_or_else(PoisonError::into_inner) = reception;
    }

    /// The mails taken so far, the oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        self.state.mails.borrow().clone()
    }

    /// Waits until a mail that `wanted` likes has been taken, and returns the first of them.
    ///
    /// # Errors
    /// When none has come after `patience`; the error lists what came.
    pub async fn wait_for(
        &self,
        patience: Duration,
        wanted: impl Fn(&Mail) -> bool,
    ) -> Result<Mail> {
        let mut mails = self.state.mails.subscribe();
        let found =
            tokio::time::timeout(patience, mails.wait_for(|mails| mails.iter().any(&wanted)))
                .await
                .map(|found| found.map(|mails| mails.iter().find(|mail| wanted(mail)).cloned()));
        if let Ok(Ok(Some(mail))) = found {
            return Ok(mail);
        }
        let came: Vec<_> = self.mails().iter().map(|mail| mail.header("Subject")).collect();
        anyhow::bail!("no such mail in {patience:?}; these came: {came:?}")
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn session(stream: TcpStream, state: &State) -> Result<()> {
    let mut stream = BufReader::new(stream);
    match &state.protection {
        Protection::None => {
            say(&mut stream, GREETING).await?;
            talk(&mut stream, state, false).await.map(drop)
        }
        Protection::StartTls(config) => {
            say(&mut stream, GREETING).await?;
            match talk(&mut stream, state, true).await? {
                Talk::Over => Ok(()),
                Talk::StartTls => {
                    // What came in clear before the handshake is not listened to (RFC 3207 section 6).
                    anyhow::ensure!(stream.buffer().is_empty(), "words before the handshake");
                    let accepted = TlsAcceptor::from(Arc::clone(config));
                    let mut stream = BufReader::new(accepted.accept(stream.into_inner()).await?);
                    talk(&mut stream, state, false).await.map(drop)
                }
            }
        }
        Protection::Implicit(config) => {
            let accepted =
                TlsAcceptor::from(Arc::clone(config)).accept(stream.into_inner()).await?;
            let mut stream = BufReader::new(accepted);
            say(&mut stream, GREETING).await?;
            talk(&mut stream, state, false).await.map(drop)
        }
    }
}

const GREETING: &str = "220 sink.postern.test ESMTP";

/// How a talk ended.
enum Talk {
    /// With the connection.
    Over,
    /// With the client's wish for TLS.
    StartTls,
}

/// Speaks with a client, in clear and to be protected by STARTTLS, or as it is.
async fn talk<S>(stream: &mut BufReader<S>, state: &State, in_clear: bool) -> Result<Talk>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut known = state.account.is_none();
    loop {
        let line = line(stream).await?;
        let upper = line.to_ascii_uppercase();
        if upper.starts_with("EHLO") {
            let mut told = "250-sink.postern.test\r\n250-8BITMIME\r\n".to_owned();
            told += match (in_clear, &state.account) {
                (true, _) => "250-STARTTLS\r\n",
                (false, Some(_)) => "250-AUTH PLAIN\r\n",
                (false, None) => "",
            };
            say(stream, &format!("{told}250 SMTPUTF8")).await?;
        } else if upper == "STARTTLS" && in_clear {
            say(stream, "220 2.0.0 go on").await?;
            return Ok(Talk::StartTls);
        } else if in_clear && (upper.starts_with("MAIL") || upper.starts_with("AUTH")) {
            say(stream, "530 5.7.0 STARTTLS first").await?;
        } else if upper.starts_with("AUTH PLAIN ") {
            known = is_account(&line["AUTH PLAIN ".len()..], state);
            let answer = if known { "235 2.7.0 welcome" } else { "535 5.7.8 nobody we know" };
            say(stream, answer).await?;
        } else if !known && upper.starts_with("MAIL") {
            say(stream, "530 5.7.0 who are you?").await?;
        } else if upper.starts_with("MAIL FROM:") {
            (from, to) = (address(&line), Vec::new());
            say(stream, "250 2.1.0 ok").await?;
        } else if upper.starts_with("RCPT TO:") {
            let scripted = state.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let otherwise = *state.otherwise.lock().unwrap_or_else(PoisonError::into_inner);
            match scripted.unwrap_or(otherwise) {
                Reception::Accept => {
                    to.push(address(&line));
                    say(stream, "250 2.1.5 ok").await?;
                }
                Reception::Later => say(stream, "451 4.3.0 try again later").await?,
                Reception::Never => say(stream, "550 5.1.1 no such user").await?,
                Reception::Silence => std::future::pending().await,
                Reception::HangUp => return Ok(Talk::Over),
            }
        } else if upper == "DATA" && !to.is_empty() {
            say(stream, "354 go on").await?;
            let raw = data(stream).await?;
            let mail = Mail { from: std::mem::take(&mut from), to: std::mem::take(&mut to), raw };
            // Kept before it is acknowledged: a sender that was told so finds it here.
            state.mails.send_modify(|mails| mails.push(mail));
            say(stream, "250 2.0.0 kept").await?;
        } else if upper == "DATA" {
            say(stream, "503 5.5.1 for whom?").await?;
        } else if upper == "QUIT" {
            say(stream, "221 2.0.0 bye").await?;
            return Ok(Talk::Over);
        } else if upper.starts_with("HELO") || upper == "NOOP" {
            say(stream, "250 ok").await?;
        } else if upper == "RSET" {
            (from, to) = (String::new(), Vec::new());
            say(stream, "250 ok").await?;
        } else {
            say(stream, "500 5.5.2 unknown").await?;
        }
    }
}

/// Whether these are the user and the password, in the form of PLAIN (RFC 4616).
fn is_account(packed: &str, state: &State) -> bool {
    let given = base64::engine::general_purpose::STANDARD.decode(packed.trim());
    let wanted =
        state.account.as_ref().map(|(user, password)| format!("\0{user}\0{password}").into_bytes());
    given.ok() == wanted
}

async fn data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<String> {
    let mut raw = String::new();
    loop {
        let line = line(stream).await?;
        if line == "." {
            return Ok(raw);
        }
        raw.push_str(line.strip_prefix('.').unwrap_or(&line));
        raw.push_str("\r\n");
        anyhow::ensure!(raw.len() <= LARGEST_MAIL, "the mail is too long");
    }
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<String> {
    let mut line = Vec::new();
    let read = stream.take(LARGEST_MAIL as u64).read_until(b'\n', &mut line).await?;
    anyhow::ensure!(read > 0 && line.ends_with(b"\r\n"), "the client went away");
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn say<S>(stream: &mut BufReader<S>, line: &str) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(format!("{line}\r\n").as_bytes()).await?;
    // TLS keeps what is written until it is flushed.
    Ok(stream.flush().await?)
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(address, _)| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn speak(sink: &MailSink, lines: &[&str]) -> String {
        let mut stream = TcpStream::connect(sink.address()).await.unwrap();
        stream.write_all(lines.join("\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        answers
    }

    #[tokio::test]
    async fn a_mail_is_kept_with_its_envelope_and_read_without_its_encoding() {
        let sink = MailSink::start().await.unwrap();
        #[rustfmt::skip]
        let answers = speak(&sink, &[
            "EHLO me", "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "DATA",
            "Subject: a", " folded one", "Content-Transfer-Encoding: quoted-printable", "",
            "caf=C3=A9 and a long=", " line", "..dot", ".", "QUIT", "",
        ])
        .await;
        assert!(answers.contains("250 2.0.0 kept"), "{answers}");
        let mail = sink.wait_for(Duration::from_secs(5), |_| true).await.unwrap();
        assert_eq!((mail.from.as_str(), &mail.to[..]), ("a@x.test", &["b@x.test".to_owned()][..]));
        assert_eq!(mail.header("subject").as_deref(), Some("a folded one"));
        assert_eq!(mail.text().unwrap(), "café and a long line\r\n.dot\r\n");
    }

    #[tokio::test]
    async fn recipients_are_treated_as_told_and_then_as_always() {
        let sink = MailSink::start().await.unwrap();
        sink.next([Reception::Later, Reception::Never]);
        #[rustfmt::skip]
        let answers = speak(&sink, &[
            "EHLO me", "MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "RCPT TO:<b@x.test>",
            "RCPT TO:<b@x.test>", "QUIT", "",
        ])
        .await;
        let codes: Vec<_> = answers.lines().filter_map(|line| line.get(..3)).collect();
        assert_eq!(codes, ["220", "250", "250", "250", "250", "451", "550", "250", "221"]);
        assert!(sink.mails().is_empty());
    }
}
