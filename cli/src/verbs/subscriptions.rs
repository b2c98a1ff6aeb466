//! `postern subscription`: served by the dispatcher.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::{
    ConfirmSubscriptionRequest, EnableSubscriptionRequest, FilterPolicyScope,
    GetSubscriptionRequest, GetSubscriptionSecretRequest, ListSubscriptionsRequest,
    RotateSubscriptionSecretRequest, SetSubscriptionAttributesRequest, SubscribeRequest,
    SubscriptionProtocol, UnsubscribeRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// How messages reach an endpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Protocol {
    /// A POST over HTTP.
    Http,
    /// A POST over HTTPS.
    Https,
    /// A mail for people.
    Email,
    /// A mail with the JSON message.
    EmailJson,
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// The message's attributes.
    Attributes,
    /// The message itself, which is JSON.
    Body,
}

impl Scope {
    fn wire(scope: Option<Self>) -> i32 {
        let scope = match scope {
            None => FilterPolicyScope::Unspecified,
            Some(Self::Attributes) => FilterPolicyScope::MessageAttributes,
            Some(Self::Body) => FilterPolicyScope::MessageBody,
        };
        scope.into()
    }
}

/// Attributes of a subscription.
#[derive(Clone, Debug, clap::Args)]
pub struct Attributes {
    /// Send the message alone, without SNS's envelope.
    #[arg(long, value_name = "BOOL")]
    raw: Option<bool>,
    /// How deliveries are repeated, as SNS's JSON; empty for the topic's.
    #[arg(long, value_name = "JSON")]
    delivery_policy: Option<String>,
    /// Which messages are wanted, as SNS's JSON; empty for all.
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    /// What the filter looks at [default: attributes].
    #[arg(long, value_enum)]
    filter_scope: Option<Scope>,
    /// Where messages go that are given up, as SNS's JSON; empty for nowhere.
    #[arg(long, value_name = "JSON")]
    redrive_policy: Option<String>,
    /// Let a message wait until those before it about the same endpoint have ended.
    #[arg(long, value_name = "BOOL")]
    ordered: Option<bool>,
    /// Collect messages for so many seconds into one mail; 0 for a mail each.
    #[arg(long, value_name = "SECONDS")]
    digest: Option<i32>,
}

/// Subscriptions.
#[derive(Debug, Subcommand)]
pub enum Subscription {
    /// Ask that a topic's messages be sent somewhere; it takes effect once confirmed there.
    #[command(after_help = "Examples:
  postern subscription create --topic arn:aws:sns:us-east-1:… --protocol https --to https://hooks.example/postern
  postern subscription create --topic arn:aws:sns:us-east-1:… --protocol email --to team@example.com \\
      --digest 3600 --filter '{\"event\": [\"Reject\", \"Delete\"]}'")]
    Create {
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// How.
        #[arg(long, value_enum)]
        protocol: Protocol,
        /// Where: a URL or a mail address.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        attributes: Attributes,
    },
    /// Confirm a subscription with the token that was sent.
    Confirm {
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// The token.
        #[arg(long)]
        token: String,
        /// Only the owner may end it later.
        #[arg(long)]
        authenticate_on_unsubscribe: bool,
    },
    /// Show a subscription, and how its deliveries go.
    Get {
        /// The subscription's ARN.
        subscription_arn: String,
    },
    /// List the account's subscriptions, or those of a topic.
    List {
        /// The topic's ARN.
        #[arg(long)]
        topic: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change a subscription's attributes.
    #[command(after_help = "Examples:
  postern subscription set arn:aws:sns:us-east-1:… --filter '{\"event\": [\"Connect\"]}'
  postern subscription set arn:aws:sns:us-east-1:… --filter '' --digest 0")]
    Set {
        /// The subscription's ARN.
        subscription_arn: String,
        #[command(flatten)]
        attributes: Attributes,
    },
    /// Enable a subscription that was disabled because its endpoint failed for long.
    Enable {
        /// The subscription's ARN.
        subscription_arn: String,
    },
    /// Show the secret that messages to a web address are signed with (Standard Webhooks).
    Secret {
        /// The subscription's ARN.
        subscription_arn: String,
    },
    /// Make a new secret; for a while messages are signed with both.
    #[command(after_help = "Example:
  postern subscription rotate-secret arn:aws:sns:us-east-1:… --overlap 3600")]
    RotateSecret {
        /// The subscription's ARN.
        subscription_arn: String,
        /// For how many seconds the present one signs too [default: a day].
        #[arg(long, value_name = "SECONDS")]
        overlap: Option<u64>,
    },
    /// End a subscription.
    Delete {
        /// The subscription's ARN.
        subscription_arn: String,
    },
}

pub(super) async fn run(
    verb: Subscription,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Subscription::Create { topic, protocol, to, attributes } => {
            let protocol = match protocol {
                Protocol::Http => SubscriptionProtocol::Http,
                Protocol::Https => SubscriptionProtocol::Https,
                Protocol::Email => SubscriptionProtocol::Email,
                Protocol::EmailJson => SubscriptionProtocol::EmailJson,
            };
            let request = SubscribeRequest {
                topic_arn: topic,
                protocol: protocol.into(),
                endpoint: to,
                raw_message_delivery: attributes.raw,
                delivery_policy: attributes.delivery_policy,
                filter_policy: attributes.filter,
                redrive_policy: attributes.redrive_policy,
                filter_policy_scope: Scope::wire(attributes.filter_scope),
                ordered: attributes.ordered,
                digest_seconds: attributes.digest,
            };
            printer.message(&call!(connection, topics, TopicServiceClient, subscribe, request)?)
        }
        Subscription::Confirm { topic, token, authenticate_on_unsubscribe } => {
            let request =
                ConfirmSubscriptionRequest { topic_arn: topic, token, authenticate_on_unsubscribe };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                confirm_subscription,
                request
            )?)
        }
        Subscription::Get { subscription_arn } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            get_subscription,
            GetSubscriptionRequest { subscription_arn }
        )?),
        Subscription::List { topic, limit } => list(topic, limit, connection, printer).await,
        Subscription::Set { subscription_arn, attributes } => {
            let request = SetSubscriptionAttributesRequest {
                subscription_arn,
                raw_message_delivery: attributes.raw,
                delivery_policy: attributes.delivery_policy,
                filter_policy: attributes.filter,
                redrive_policy: attributes.redrive_policy,
                filter_policy_scope: Scope::wire(attributes.filter_scope),
                ordered: attributes.ordered,
                digest_seconds: attributes.digest,
            };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                set_subscription_attributes,
                request
            )?)
        }
        Subscription::Enable { subscription_arn } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            enable_subscription,
            EnableSubscriptionRequest { subscription_arn }
        )?),
        Subscription::Secret { subscription_arn } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            get_subscription_secret,
            GetSubscriptionSecretRequest { subscription_arn }
        )?),
        Subscription::RotateSecret { subscription_arn, overlap } => {
            let overlap = overlap
                .map(|seconds| Duration::from_secs(seconds).try_into())
                .transpose()
                .map_err(|_| Failure::Usage("--overlap: too many seconds".to_owned()))?;
            let request = RotateSubscriptionSecretRequest { subscription_arn, overlap };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                rotate_subscription_secret,
                request
            )?)
        }
        Subscription::Delete { subscription_arn } => {
            let request = UnsubscribeRequest { subscription_arn: subscription_arn.clone() };
            call!(connection, topics, TopicServiceClient, unsubscribe, request)?;
            printer.done(&format!("{subscription_arn} deleted"));
            Ok(())
        }
    }
}

async fn list(
    topic: Option<String>,
    limit: Limit,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    let request =
        ListSubscriptionsRequest { topic_arn: topic.unwrap_or_default(), ..Default::default() };
    let subscriptions = pages!(
        connection,
        topics,
        TopicServiceClient,
        list_subscriptions,
        request,
        subscriptions,
        limit.limit
    );
    printer.list(
        "subscriptions",
        &subscriptions,
        &[
            ("SUBSCRIPTION", "subscriptionArn"),
            ("PROTOCOL", "protocol"),
            ("TO", "endpoint"),
            ("STATE", "state"),
            ("LAST SUCCESS", "status.lastSuccessTime"),
            ("FAILURES", "status.failureStreak"),
            ("DISABLED", "status.disabledTime"),
        ],
    )
}
