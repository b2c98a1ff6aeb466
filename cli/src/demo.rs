//! `postern demo`: the whole story on real parts, each step checked and timed.
//!
//! It plays a provider with a real HTTP server and a webhook, and a consumer with a DNS client and an
//! HTTP client, in two accounts that it makes for itself; the operator's key is all that it needs. It
//! cleans up behind itself, whether or not the story ends well.

mod dns;
mod fetch;
mod hook;
mod network;
mod page;
mod steps;
mod story;

use std::net::Ipv4Addr;
use std::time::Duration;

use postern_model::net::Cidr;

use crate::args::{Globals, Output};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;
use crate::profile::Profiles;
use network::AttachedHost;
use steps::Steps;
pub use steps::say;
use story::Story;

/// Where the demo plays. By default in 127.0.0.0/8, against `postern dev`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  postern demo
  postern demo --json | jq .ok
  postern demo --attach agent-a=10.77.0.11,10.88.0.11 --attach agent-b=10.77.0.12,10.88.0.12 \\
      --consumer-cidr 10.77.0.0/16 --provider-cidr 10.88.0.0/16 \\
      --source 10.77.0.50 --target-address 10.88.0.50 --webhook-address 10.66.0.50")]
pub struct DemoOptions {
    /// Print one JSON document at the end, for machines.
    #[arg(long)]
    pub json: bool,
    /// A host, with the addresses of its interfaces in the consumer's and the provider's network.
    /// Without any, every host serves both VPCs in 127.0.0.0/8. Repeat it.
    #[arg(long = "attach", value_name = "HOST=CONSUMER,PROVIDER", requires_all = ["consumer_cidr", "provider_cidr", "source", "target_address"])]
    pub attach: Vec<AttachedHost>,
    /// The consumer's network [default: a free one in 127.0.0.0/8].
    #[arg(long)]
    pub consumer_cidr: Option<Cidr>,
    /// The provider's network [default: a free one in 127.0.0.0/8].
    #[arg(long)]
    pub provider_cidr: Option<Cidr>,
    /// The address of this machine that the consumer's client connects from.
    #[arg(long)]
    pub source: Option<Ipv4Addr>,
    /// The address of this machine that the provider's server listens on.
    #[arg(long)]
    pub target_address: Option<Ipv4Addr>,
    /// The address of this machine that the dispatcher reaches the webhook at.
    #[arg(long, default_value = "127.0.0.1")]
    pub webhook_address: Ipv4Addr,
    /// How long each step may take, in seconds.
    #[arg(long, default_value = "30", value_parser = crate::args::seconds, value_name = "SECONDS")]
    pub step_timeout: Duration,
}

/// Plays the story and says whether it went as it should.
pub async fn run(
    options: DemoOptions,
    globals: &Globals,
    printer: &Printer,
) -> Result<(), Failure> {
    let json = options.json || printer.is_json();
    // The demo needs the operator's key: of the profile named, or of the one that `dev` writes.
    let mut globals = globals.clone();
    if globals.profile.is_none() && globals.api_key.is_none() {
        let profiles = Profiles::load(&globals)?;
        if profiles.profile.contains_key("operator") {
            globals.profile = Some("operator".to_owned());
        }
    }
    let operator = Connection::open(&globals)?;
    let mut steps = Steps::new(json, options.step_timeout);
    let mut story = Story::new(options, operator);
    let played = story.play(&mut steps).await;
    let messages = story.messages();
    // Cleaning up is a step of its own, and its failure is one too; but it hides no earlier one.
    let cleaned = story.clean_up(&mut steps).await;
    let outcome = played.and(cleaned);
    if json {
        Printer::new(Output::Json).value(&steps.report(outcome.is_ok(), &messages));
    } else {
        steps.close(outcome.is_ok());
    }
    outcome
}
