//! Asks the resolvers of the outside world about names that are not ours, through hickory's client
//! and its cache. Bounded in time and in number: a resolver that hangs costs its callers a SERVFAIL
//! and nobody else anything.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::metrics::{Ending, Metrics};
use crate::packet::Forwarded;

/// How long an answer of others is kept at most, whatever they say.
const KEPT_MAX: Duration = Duration::from_secs(86_400);
/// The same for answers that there is nothing: they are wrong more often, and for longer than wanted.
const ABSENCE_KEPT_MAX: Duration = Duration::from_secs(300);

/// Which other resolvers there are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Upstreams {
    /// None: what is not ours is refused.
    None,
    /// Those of the host, from /etc/resolv.conf as it is when the agent starts.
    #[default]
    System,
    /// These, over UDP and TCP.
    Addresses(Vec<SocketAddr>),
}

/// How other resolvers are asked.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// Which ones.
    pub upstreams: Upstreams,
    /// How long one of them gets before the question is put again.
    pub attempt: Duration,
    /// How long a client waits in all. Stub resolvers give up after five seconds.
    pub deadline: Duration,
    /// How many questions may be on their way at once; others fail immediately.
    pub concurrency: usize,
    /// How many answers are kept.
    pub cache: u64,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            upstreams: Upstreams::default(),
            attempt: Duration::from_millis(1_500),
            deadline: Duration::from_secs(4),
            concurrency: 512,
            cache: 8_192,
        }
    }
}

/// Other resolvers can't be asked like that.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The host's configuration of resolvers can't be used.
    #[error("the resolvers of the host can't be read from /etc/resolv.conf")]
    System(#[source] NetError),
    /// The client of other resolvers can't be made.
    #[error("the client of other resolvers can't be made")]
    Client(#[source] NetError),
    /// A list of resolvers with none in it.
    #[error("the list of other resolvers is empty: say that there are none, or name one")]
    NoAddresses,
}

/// The way to other resolvers. Clones share the cache and the bounds; the resolvers of all VPCs on a
/// host may share one.
#[derive(Clone, Debug)]
pub struct Forward {
    client: Option<Arc<Client>>,
}

#[derive(Debug)]
struct Client {
    resolver: TokioResolver,
    upstreams: Vec<SocketAddr>,
    deadline: Duration,
    slots: Arc<Semaphore>,
}

impl Forward {
    /// Nobody else is asked.
    pub fn none() -> Self {
        Self { client: None }
    }

    /// The way to the configured resolvers. Nothing is sent before a question comes. Questions leave
    /// from the network namespace of the runtime's threads.
    ///
    /// # Errors
    ///
    /// An unreadable /etc/resolv.conf, or an empty list.
    pub fn new(config: &ForwardConfig) -> Result<Self, ForwardError> {
        let (servers, mut options) = match &config.upstreams {
            Upstreams::None => return Ok(Self::none()),
            Upstreams::System => {
                let (system, options) = read_system_conf().map_err(ForwardError::System)?;
                (system.name_servers().to_vec(), options)
            }
            Upstreams::Addresses(addresses) => {
                (addresses.iter().map(server).collect(), ResolverOpts::default())
            }
        };
        if servers.is_empty() {
            return Err(ForwardError::NoAddresses);
        }
        options.timeout = config.attempt;
        options.attempts = 2;
        options.try_tcp_on_error = true;
        options.cache_size = config.cache;
        options.positive_max_ttl = Some(KEPT_MAX);
        options.negative_max_ttl = Some(ABSENCE_KEPT_MAX);
        options.max_active_requests = config.concurrency;
        // The host's own names are none of a VPC's business.
        options.use_hosts_file = ResolveHosts::Never;
        let upstreams = servers
            .iter()
            .flat_map(|server| server.connections.iter().map(|c| (server.ip, c.port).into()))
            .collect();
        let resolver_config = ResolverConfig::from_name_servers(servers);
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(resolver_config, provider)
            .with_options(options)
            .build()
            .map_err(ForwardError::Client)?;
        let slots = Arc::new(Semaphore::new(config.concurrency));
        let deadline = config.deadline;
        Ok(Self { client: Some(Arc::new(Client { resolver, upstreams, deadline, slots })) })
    }

    /// Whether there is anybody to ask.
    pub fn is_configured(&self) -> bool {
        self.client.is_some()
    }

    /// Whether a question that comes in at `address` would be sent there again, for ever.
    pub(crate) fn leads_to(&self, address: SocketAddr) -> bool {
        let same = |ip: IpAddr| ip == address.ip() || address.ip().is_unspecified();
        self.client.as_ref().is_some_and(|client| {
            client.upstreams.iter().any(|to| to.port() == address.port() && same(to.ip()))
        })
    }

    /// A place among the questions on their way; `None` when all are taken.
    pub(crate) fn admit(&self) -> Option<Admitted> {
        let client = Arc::clone(self.client.as_ref()?);
        let slot = Arc::clone(&client.slots).try_acquire_owned().ok()?;
        Some(Admitted { client, _slot: slot })
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port).to_vec();
    NameServerConfig::new(address.ip(), true, connections)
}

/// A place among the questions on their way.
#[derive(Debug)]
pub(crate) struct Admitted {
    client: Arc<Client>,
    _slot: OwnedSemaphorePermit,
}

impl Admitted {
    /// Asks, and writes the reply. Takes no longer than the deadline.
    pub(crate) async fn resolve(self, question: Forwarded, metrics: &Metrics) -> (Vec<u8>, Ending) {
        let asked = Instant::now();
        let _in_flight = InFlight::new(metrics);
        let lookup = self.client.resolver.lookup(question.name().clone(), question.record_type());
        let answer = timeout(self.client.deadline, lookup).await.unwrap_or(Err(NetError::Timeout));
        metrics.forward_seconds.observe(asked.elapsed().as_secs_f64());
        match answer {
            Ok(lookup) => {
                let answers = lookup.answers().to_vec();
                let authorities = lookup.authorities().to_vec();
                (question.reply(ResponseCode::NoError, answers, authorities), Ending::Forwarded)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let soa = none.soa.map(|soa| {
                    let mut soa: Record = soa.into_record_of_rdata();
                    soa.ttl = soa.ttl.min(none.negative_ttl.unwrap_or(soa.ttl));
                    soa
                });
                let code = match none.response_code {
                    ResponseCode::NXDomain => ResponseCode::NXDomain,
                    _ => ResponseCode::NoError,
                };
                (question.reply(code, vec![], soa.into_iter().collect()), Ending::Forwarded)
            }
            Err(error) => {
                debug!(name = %question.name(), %error, "no other resolver gave an answer");
                let reply = question.reply(ResponseCode::ServFail, vec![], vec![]);
                (reply, Ending::ForwardFailed)
            }
        }
    }
}

/// Counts a question that is on its way, until it is dropped.
struct InFlight<'m>(&'m Metrics);

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.forwards.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.forwards.dec();
    }
}
