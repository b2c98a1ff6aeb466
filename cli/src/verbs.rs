//! The calls of the API, a noun a file. A verb makes the request, calls, and shows the answer; what is
//! allowed is for the server to say.

mod accounts;
mod deliveries;
mod endpoints;
mod hosts;
mod networks;
mod notifications;
mod services;
mod subscriptions;
mod topics;

use clap::Subcommand;
use postern_proto::v1::UnsuccessfulItem;

use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::{Column, Printer};

/// Calls a method of the control plane or of the dispatcher and takes the message out of the answer.
macro_rules! call {
    ($connection:expr, $channel:ident, $client:ident, $method:ident, $request:expr) => {
        $client::new($connection.$channel())
            .$method($connection.request($request))
            .await
            .map(tonic::Response::into_inner)
    };
}
pub(crate) use call;

/// Fetches every page of a list, or as many as hold `limit` items.
macro_rules! pages {
    ($connection:expr, $channel:ident, $client:ident, $method:ident, $request:expr, $items:ident, $limit:expr) => {{
        let limit: Option<usize> = $limit;
        let mut request = $request;
        let mut items = Vec::new();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(items.len()));
            request.page_size = left.map_or(1000, |left| left.clamp(1, 1000) as i32);
            let page =
                $crate::verbs::call!($connection, $channel, $client, $method, request.clone())?;
            items.extend(page.$items);
            let full = limit.is_some_and(|limit| items.len() >= limit);
            if page.next_page_token.is_empty() || full {
                items.truncate(limit.unwrap_or(usize::MAX));
                break items;
            }
            request.page_token = page.next_page_token;
        }
    }};
}
pub(crate) use pages;

/// How many items a list shows.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Limit {
    /// Show at most this many [default: all].
    #[arg(long)]
    pub limit: Option<usize>,
}

/// The calls of the API.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Accounts (operator).
    #[command(subcommand)]
    Account(accounts::Account),
    /// API keys of accounts (operator).
    #[command(subcommand)]
    ApiKey(accounts::ApiKey),
    /// Hosts (operator).
    #[command(subcommand)]
    Host(hosts::Host),
    /// How hosts reach VPCs (operator).
    #[command(subcommand)]
    Attachment(hosts::Attachment),
    /// VPCs.
    #[command(subcommand)]
    Vpc(networks::Vpc),
    /// Subnets.
    #[command(subcommand)]
    Subnet(networks::Subnet),
    /// Security groups and their rules.
    #[command(subcommand)]
    SecurityGroup(networks::SecurityGroup),
    /// Availability zones, as the account names them.
    #[command(subcommand)]
    Zone(networks::Zone),
    /// Endpoint services: the provider's side.
    #[command(subcommand)]
    Service(services::Service),
    /// Connections to endpoint services: the provider's side.
    #[command(subcommand)]
    Connection(services::Connection),
    /// Interface endpoints: the consumer's side.
    #[command(subcommand)]
    Endpoint(endpoints::Endpoint),
    /// Network interfaces of endpoints.
    #[command(subcommand)]
    Interface(endpoints::Interface),
    /// Connection notifications.
    #[command(subcommand)]
    Notification(notifications::Notification),
    /// Topics.
    #[command(subcommand)]
    Topic(topics::Topic),
    /// Subscriptions to topics.
    #[command(subcommand)]
    Subscription(subscriptions::Subscription),
    /// Deliveries to subscriptions.
    #[command(subcommand)]
    Delivery(deliveries::Delivery),
}

/// Does what the verb says.
pub async fn run(verb: Verb, connection: &Connection, printer: &Printer) -> Result<(), Failure> {
    match verb {
        Verb::Account(verb) => accounts::account(verb, connection, printer).await,
        Verb::ApiKey(verb) => accounts::api_key(verb, connection, printer).await,
        Verb::Host(verb) => hosts::host(verb, connection, printer).await,
        Verb::Attachment(verb) => hosts::attachment(verb, connection, printer).await,
        Verb::Vpc(verb) => networks::vpc(verb, connection, printer).await,
        Verb::Subnet(verb) => networks::subnet(verb, connection, printer).await,
        Verb::SecurityGroup(verb) => networks::security_group(verb, connection, printer).await,
        Verb::Zone(verb) => networks::zone(verb, connection, printer).await,
        Verb::Service(verb) => services::service(verb, connection, printer).await,
        Verb::Connection(verb) => services::connection(verb, connection, printer).await,
        Verb::Endpoint(verb) => endpoints::endpoint(verb, connection, printer).await,
        Verb::Interface(verb) => endpoints::interface(verb, connection, printer).await,
        Verb::Notification(verb) => notifications::run(verb, connection, printer).await,
        Verb::Topic(verb) => topics::topic(verb, connection, printer).await,
        Verb::Subscription(verb) => subscriptions::run(verb, connection, printer).await,
        Verb::Delivery(verb) => deliveries::delivery(verb, connection, printer).await,
    }
}

/// Shows what a bulk request did not do; nothing left out is success.
pub fn bulk(
    printer: &Printer,
    unsuccessful: &[UnsuccessfulItem],
    done: &str,
) -> Result<(), Failure> {
    const COLUMNS: &[Column] =
        &[("RESOURCE", "resourceId"), ("CODE", "code"), ("MESSAGE", "message")];
    if printer.is_json() {
        printer.list("unsuccessful", unsuccessful, COLUMNS)?;
    } else if unsuccessful.is_empty() {
        printer.done(done);
    } else {
        printer.list("unsuccessful", unsuccessful, COLUMNS)?;
    }
    match unsuccessful.len() {
        0 => Ok(()),
        items => Err(Failure::Unsuccessful(items)),
    }
}
