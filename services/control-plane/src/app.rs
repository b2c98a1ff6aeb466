//! The use cases, a file each. A use case is told who asks and what for, owns its transaction, and has
//! never heard of gRPC.

pub mod accounts;
pub mod api_keys;
pub mod attachments;
pub mod client_tokens;
pub mod connections;
pub mod endpoints;
mod events;
pub mod hosts;
pub mod interfaces;
pub mod items;
pub mod names;
pub mod notifications;
pub mod permissions;
pub mod security_groups;
pub mod services;
pub mod subnets;
pub mod vpcs;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postern_model::id::HostId;
use postern_model::zone::{Region, ZoneId};
use postern_runtime::clock::Clock;

use crate::error::Result;
use crate::pokes::{Poke, Pokes};
use crate::store::Store;

/// What the use cases share.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// What the operator chose.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Word for those who wait, after a commit.
    pub pokes: Pokes,
    /// Whether topics take notifications.
    pub topics: Arc<dyn TopicAccess>,
}

impl App {
    /// Pokes those who tell these hosts what to do: their generations have advanced, and the commit is
    /// done.
    pub(crate) fn poke_hosts(&self, hosts: &[HostId]) {
        for host in hosts {
            self.pokes.poke(Poke::Host(*host));
        }
    }
}

/// The trace context of the request under way, to go with what follows from it.
pub(crate) fn trace_context() -> BTreeMap<String, String> {
    postern_runtime::telemetry::inject(&tracing::Span::current())
}

/// What the operator chose: the region and the quotas (spec 9).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region of everything here.
    pub region: Region,
    /// The region's zones.
    pub zones: Vec<ZoneId>,
    /// What the names of endpoints end in.
    pub dns_suffix: String,
    /// How much an account may have.
    pub quotas: Quotas,
    /// How long things take, wait and stay.
    pub times: Times,
}

/// How long things take, wait and stay. Each is a setting with a default (spec 0.3, 2.3, 4.1).
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a request waits for the provider's decision before it expires: seven days (spec 2.3).
    pub pending_acceptance_ttl: Duration,
    /// How long the hosts have to bind an endpoint's interfaces before the endpoint is `partial` or
    /// `failed`: ten minutes, as long as clients poll (spec 2.2).
    pub pending_timeout: Duration,
    /// How long a deleted endpoint is still shown: an hour (spec 2.3).
    pub deleted_retention: Duration,
    /// How long a client token is remembered: a day (spec 0.3).
    pub client_token_retention: Duration,
    /// How long an address rests before it is given out again: a minute (spec 4.1).
    pub address_rest: Duration,
    /// How often a watch looks by itself, should word of a change have been lost: five seconds.
    pub watch_refresh: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            pending_acceptance_ttl: Duration::from_secs(7 * 24 * 3600),
            pending_timeout: Duration::from_secs(600),
            deleted_retention: Duration::from_secs(3600),
            client_token_retention: Duration::from_secs(24 * 3600),
            address_rest: Duration::from_secs(60),
            watch_refresh: Duration::from_secs(5),
        }
    }
}

/// How much an account may have (spec 9).
#[derive(Clone, Debug)]
pub struct Quotas {
    /// VPCs of an account.
    pub vpcs: u32,
    /// Subnets of a VPC.
    pub subnets_per_vpc: u32,
    /// Security groups of a VPC.
    pub groups_per_vpc: u32,
    /// Ingress rules of a group.
    pub rules_per_group: u32,
    /// Groups of an interface.
    pub groups_per_interface: u32,
    /// Endpoints of a VPC.
    pub endpoints_per_vpc: u32,
    /// Services of an account.
    pub services: u32,
    /// Principals of a service.
    pub principals_per_service: u32,
    /// Notifications of a service, or of an endpoint.
    pub notifications_per_resource: u32,
}

impl Default for Quotas {
    /// Today's quotas of AWS where they are known (spec 9).
    fn default() -> Self {
        Self {
            vpcs: 5,
            subnets_per_vpc: 200,
            groups_per_vpc: 500,
            rules_per_group: 60,
            groups_per_interface: 5,
            endpoints_per_vpc: 50,
            services: 20,
            principals_per_service: 500,
            notifications_per_resource: 10,
        }
    }
}

/// What a topic's policy says of a publish by `vpce.amazonaws.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishDecision {
    /// A statement allows it and none denies it.
    Allowed,
    /// No statement allows it, or one denies it.
    Denied {
        /// Why, and a statement that would allow it.
        explanation: String,
    },
    /// There is no such topic.
    NoSuchTopic,
}

/// Knows whether topics take notifications: the dispatcher.
#[async_trait]
pub trait TopicAccess: Send + Sync {
    /// Evaluates the policy of `topic` for a publish about `source_arn`, which `source_account` owns.
    ///
    /// # Errors
    ///
    /// The dispatcher away.
    async fn check_publish(
        &self,
        topic_arn: &str,
        source_arn: &str,
        source_account: &str,
    ) -> Result<PublishDecision>;
}
