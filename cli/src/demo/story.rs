//! The story itself: what a provider, a consumer and the operator do, and what must come of it.
//! What is set up first is in `setup`, what happens to the endpoint in `endpoint`.

mod clean;
mod endpoint;
mod setup;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::DemoOptions;
use super::hook::Hook;
use super::network::Networks;
use super::page::PageServer;
use super::steps::Steps;
use crate::connect::Connection;
use crate::exit::Failure;

/// The port of the service at the endpoint's addresses.
const PORT: u16 = 80;
/// The name that the provider gives its service.
const PRIVATE_NAME: &str = "orders.demo.example.com";
/// How long a page may take where it comes, and how long silence is listened to where it doesn't.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a rejection must have ended the traffic (spec 2.1).
const CUT_WITHIN: Duration = Duration::from_secs(5);

/// The players and their things.
pub struct Story {
    options: DemoOptions,
    networks: Networks,
    operator: Connection,
    provider: Option<Player>,
    consumer: Option<Player>,
    hook: Option<Hook>,
    servers: Vec<PageServer>,
    /// Names, in the order in which they were made.
    made: Vec<Made>,
}

struct Player {
    account: String,
    connection: Connection,
}

/// Something that must be cleaned up.
#[derive(Clone, Debug)]
enum Made {
    Key(String),
    ProviderVpc(String),
    ConsumerVpc(String),
    Subnet(String),
    Group(String),
    Attachment(String),
    Topic(String),
    Notification(String),
    Service(String),
    Endpoint(String),
}

fn differs(what: impl Into<String>) -> Failure {
    Failure::Demo(what.into())
}

impl Story {
    /// A story that has not begun.
    pub fn new(options: DemoOptions, operator: Connection) -> Self {
        let networks = Networks::choose(&options, &mut rand::rng());
        Self {
            options,
            networks,
            operator,
            provider: None,
            consumer: None,
            hook: None,
            servers: Vec::new(),
            made: Vec::new(),
        }
    }

    /// The messages that the webhook got.
    pub fn messages(&self) -> Vec<Value> {
        self.hook.as_ref().map(Hook::messages).unwrap_or_default()
    }

    fn provider(&self) -> Result<&Player, Failure> {
        self.provider.as_ref().ok_or_else(|| differs("there is no provider account"))
    }

    fn consumer(&self) -> Result<&Player, Failure> {
        self.consumer.as_ref().ok_or_else(|| differs("there is no consumer account"))
    }

    /// Plays it to its end, or to the first step that differs.
    pub async fn play(&mut self, steps: &mut Steps) -> Result<(), Failure> {
        steps.step("The operator makes two accounts", self.accounts()).await?;
        let zones = steps.step("Which zones there are", self.zones()).await?;
        steps.step("The provider's servers start", self.servers(&zones)).await?;
        let vpcs = steps.step("VPCs, subnets, a security group", self.networks(&zones)).await?;
        let resolvers =
            steps.step("The operator attaches the VPCs to hosts", self.attach(&vpcs)).await?;
        let service =
            steps.step("The provider publishes the service", self.publish(&vpcs, &zones)).await?;
        steps.step("Topic, policy, webhook, notification", self.notify(&service)).await?;
        let endpoint =
            steps.step("The consumer opens an endpoint", self.open(&vpcs, &service)).await?;
        let addresses =
            steps.step("Its addresses answer with a reset", self.waiting(&endpoint)).await?;
        steps
            .step("The provider sees the request and accepts", self.accept(&service, &endpoint))
            .await?;
        steps.step("The endpoint becomes available", self.available(&endpoint)).await?;
        steps.step("Private DNS is switched on", self.private_dns(&endpoint)).await?;
        let entries = steps
            .step(
                "Regional, zonal and private names resolve",
                self.names(&endpoint, &addresses, resolvers),
            )
            .await?;
        steps.step("A page comes through the private name", self.fetch(&entries)).await?;
        steps
            .step("A stranger to the security group times out", self.stranger(&vpcs, &entries))
            .await?;
        steps
            .step(
                "The provider rejects the live connection",
                self.reject(&service, &endpoint, &entries),
            )
            .await?;
        steps.step("The page is gone, and the name", self.gone(&entries)).await?;
        steps.step("The consumer deletes the endpoint", self.delete(&endpoint)).await?;
        steps.step("The webhook heard of it all, signed", self.heard(&endpoint)).await
    }
}

struct Vpcs {
    provider: String,
    consumer: String,
    subnets: Vec<String>,
    group: String,
    rule: String,
}

#[derive(Clone, Copy)]
struct Resolvers {
    consumer: SocketAddr,
    provider: SocketAddr,
}

struct Service {
    id: String,
    name: String,
}

struct Entries {
    resolver: SocketAddr,
    addresses: Vec<Ipv4Addr>,
}
