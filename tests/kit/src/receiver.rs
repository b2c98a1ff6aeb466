//! A webhook receiver that remembers what it was sent and behaves as told.
//!
//! It is the far side of the dispatcher's deliveries. The bad behaviours are about bytes and sockets (a
//! reset, an answer that never ends), so it speaks HTTP/1.1 over the socket itself.

mod http;

use anyhow::Result;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the receiver does with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// Answers with this status and an empty body.
    Status(u16),
    /// Answers with this status, these headers (names and values) and this body.
    Answer {
        /// The status.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// Reads the request and never answers.
    Hang,
    /// Sends the head of an answer without end, a byte every so often.
    TrickleHead(Duration),
    /// Answers 200 and then a byte of a body without end every so often.
    Trickle(Duration),
    /// Closes the connection with a TCP reset instead of an answer.
    Reset,
    /// Answers 302 with this Location.
    Redirect(String),
    /// Answers 200 with a body of so many bytes.
    HugeBody(usize),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its place in the order of arrival, from 0.
    pub number: usize,
    /// When it had been read whole.
    pub at: std::time::Instant,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
    /// What was done with it.
    pub behaviour: Behaviour,
}

impl Received {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.body)?)
    }
}

#[derive(Debug)]
struct State {
    received: watch::Sender<Vec<Received>>,
    plans: Mutex<Plans>,
}

#[derive(Debug, Default)]
struct Plans {
    /// By path, without the query: what the next requests get.
    next: HashMap<String, VecDeque<Behaviour>>,
    /// By path: what all others get. Where nothing stands: 200.
    always: HashMap<String, Behaviour>,
    confirm: bool,
}

impl State {
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiver. It ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts one on a free port of 127.0.0.1, plain HTTP.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), None).await
    }

    /// Starts one at an address; with a TLS configuration it speaks HTTPS.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_at(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state =
            Arc::new(State { received: watch::Sender::new(Vec::new()), plans: Mutex::default() });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = tls.map(TlsAcceptor::from);
        let served = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new(); // They end with the receiver.
            while let Ok((stream, _)) = listener.accept().await {
                let (state, acceptor) = (Arc::clone(&served), acceptor.clone());
                connections.spawn(async move {
                    let _ = match acceptor {
                        None => http::serve(stream, &state).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => http::serve(stream, &state).await,
                            Err(error) => Err(error.into()),
                        },
                    };
                });
            }
        });
        Ok(Self { address, scheme, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path: `receiver.url("/hook")`.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Treats the next requests to `path` in this order, and those after them as
    /// [`Receiver::always`] says.
    pub fn next(&self, path: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.plans().next.entry(path.to_owned()).or_default().extend(behaviours);
    }

    /// Treats every request to `path` for which nothing else was said like this. At first: 200.
    pub fn always(&self, path: &str, behaviour: Behaviour) {
        self.state.plans().always.insert(path.to_owned(), behaviour);
    }

    /// Whether the receiver visits the SubscribeURL of each SubscriptionConfirmation that it answers
    /// with 200, as a subscriber who agrees does. At first it does not.
    pub fn confirm(&self, confirm: bool) {
        self.state.plans().confirm = confirm;
    }

    /// The requests so far, in the order in which they had been read.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.borrow().clone()
    }

    /// The requests to `path` so far.
    pub fn received_at(&self, path: &str) -> Vec<Received> {
        self.received().into_iter().filter(|request| at(request, path)).collect()
    }

    /// Waits for a request that `wanted` likes and returns the first of them.
    ///
    /// # Errors
    /// When none has come after `patience`; the error lists what came.
    pub async fn wait_for(
        &self,
        patience: Duration,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Received> {
        let found = self.wait_for_all(patience, 1, wanted).await?;
        found.into_iter().next().ok_or_else(|| anyhow::anyhow!("no request"))
    }

    /// Waits for `count` requests that `wanted` likes and returns them all.
    ///
    /// # Errors
    /// When fewer have come after `patience`; the error lists what came.
    pub async fn wait_for_all(
        &self,
        patience: Duration,
        count: usize,
        wanted: impl Fn(&Received) -> bool,
    ) -> Result<Vec<Received>> {
        let liked =
            |all: &[Received]| all.iter().filter(|one| wanted(one)).cloned().collect::<Vec<_>>();
        let mut received = self.state.received.subscribe();
        let waited = tokio::time::timeout(
            patience,
            received.wait_for(|all| all.iter().filter(|one| wanted(one)).count() >= count),
        )
        .await
        .map(|found| found.map(|all| liked(&all)));
        if let Ok(Ok(found)) = waited {
            return Ok(found);
        }
        let came: Vec<_> = self.received().into_iter().map(|one| (one.path, one.body)).collect();
        anyhow::bail!("fewer than {count} such requests in {patience:?}; these came: {came:#?}")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a request went to `path`, whatever its query.
fn at(request: &Received, path: &str) -> bool {
    request.path.split('?').next() == Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn client() -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(1)).no_proxy();
        builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
    }

    #[tokio::test]
    async fn each_behaviour_is_what_a_client_sees() {
        let receiver = Receiver::start().await.unwrap();
        let huge = 300_000;
        receiver.next(
            "/hook",
            [
                Behaviour::Status(503),
                Behaviour::Redirect("http://127.0.0.1/".to_owned()),
                Behaviour::HugeBody(huge),
                Behaviour::Reset,
                Behaviour::Hang,
                Behaviour::Trickle(Duration::from_millis(1)),
            ],
        );
        let send = || client().post(receiver.url("/hook?x=1")).body("{}").send();
        assert_eq!(send().await.unwrap().status(), 503);
        assert_eq!(send().await.unwrap().headers()["location"], "http://127.0.0.1/");
        assert_eq!(send().await.unwrap().bytes().await.unwrap().len(), huge);
        let reset = send().await.unwrap_err();
        assert!(!reset.is_timeout(), "{reset:?}");
        assert!(send().await.unwrap_err().is_timeout());
        let trickled = send().await.unwrap();
        assert_eq!(trickled.status(), 200);
        assert!(trickled.bytes().await.unwrap_err().is_timeout());
        assert_eq!(send().await.unwrap().status(), 200);
        assert_eq!(receiver.received_at("/hook").len(), 7);
    }

    #[tokio::test]
    async fn a_confirmation_is_visited_when_the_subscriber_agrees() {
        let (receiver, topic) =
            (Receiver::start().await.unwrap(), Receiver::start().await.unwrap());
        let message = json!({
            "Type": "SubscriptionConfirmation",
            "SubscribeURL": topic.url("/confirm?Token=abc"),
        });
        receiver.confirm(true);
        let sent = client().post(receiver.url("/")).body(message.to_string()).send().await;
        assert_eq!(sent.unwrap().status(), 200);
        let visit = topic.wait_for(Duration::from_secs(5), |one| one.method == "GET").await;
        assert_eq!(visit.unwrap().path, "/confirm?Token=abc");
        assert_eq!(receiver.received()[0].json().unwrap(), message);
    }
}
