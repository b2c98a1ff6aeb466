//! `postern topic`, `subscription` and `delivery`: served by the dispatcher.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::{
    ConfirmSubscriptionRequest, CreateTopicRequest, DeleteTopicRequest, DeliveryState,
    GetDeliveryRequest, GetSubscriptionRequest, GetTopicRequest, ListDeliveriesRequest,
    ListSubscriptionsRequest, ListTopicsRequest, PublishRequest, SetSubscriptionAttributesRequest,
    SetTopicAttributesRequest, SignatureVersion, SubscribeRequest, SubscriptionProtocol,
    UnsubscribeRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// How messages are signed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Signature {
    /// RSA with SHA-1: weak, for receivers that know nothing else.
    #[value(name = "1")]
    Sha1,
    /// RSA with SHA-256.
    #[value(name = "2")]
    Sha256,
}

impl Signature {
    fn wire(signature: Option<Self>) -> i32 {
        let version = match signature {
            None => SignatureVersion::Unspecified,
            Some(Self::Sha1) => SignatureVersion::Sha1,
            Some(Self::Sha256) => SignatureVersion::Sha256,
        };
        version.into()
    }
}

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

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Standing {
    /// On its way, or waiting for its next attempt.
    Pending,
    /// Taken.
    Delivered,
    /// Given up.
    DeadLettered,
    /// Not wanted any more.
    Dropped,
}

/// Topics.
#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Make a topic.
    #[command(
        after_help = "Example:\n  postern --profile provider topic create connections --policy-file policy.json"
    )]
    Create {
        /// Its name: letters, digits, - and _.
        name: String,
        /// A file with its policy [default: AWS's default policy].
        #[arg(long)]
        policy_file: Option<PathBuf>,
        /// The sender's name in mails.
        #[arg(long)]
        display_name: Option<String>,
        /// How messages are signed.
        #[arg(long, value_enum)]
        signature_version: Option<Signature>,
        /// How deliveries are repeated, as SNS's JSON.
        #[arg(long)]
        delivery_policy: Option<String>,
    },
    /// Show a topic with its policy.
    Get {
        /// The topic's ARN.
        topic_arn: String,
    },
    /// List the account's topics.
    List(Limit),
    /// Change a topic's attributes.
    Set {
        /// The topic's ARN.
        topic_arn: String,
        /// A file with its new policy.
        #[arg(long)]
        policy_file: Option<PathBuf>,
        /// The sender's name in mails.
        #[arg(long)]
        display_name: Option<String>,
        /// How messages are signed.
        #[arg(long, value_enum)]
        signature_version: Option<Signature>,
        /// How deliveries are repeated, as SNS's JSON; empty for the default.
        #[arg(long)]
        delivery_policy: Option<String>,
    },
    /// Delete a topic with its subscriptions.
    Delete {
        /// The topic's ARN.
        topic_arn: String,
    },
    /// Publish a message to a topic.
    Publish {
        /// The topic's ARN.
        topic_arn: String,
        /// The message.
        #[arg(long)]
        message: String,
        /// The subject.
        #[arg(long, default_value = "")]
        subject: String,
    },
}

/// Subscriptions.
#[derive(Debug, Subcommand)]
pub enum Subscription {
    /// Ask that a topic's messages be sent somewhere; it takes effect once confirmed there.
    #[command(after_help = "Example:
  postern subscription create --topic arn:aws:sns:us-east-1:… --protocol https --to https://hooks.example/postern")]
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
        /// Send the message alone, without SNS's envelope.
        #[arg(long)]
        raw: Option<bool>,
        /// How deliveries are repeated, as SNS's JSON.
        #[arg(long)]
        delivery_policy: Option<String>,
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
    /// Show a subscription.
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
    Set {
        /// The subscription's ARN.
        subscription_arn: String,
        /// Send the message alone, without SNS's envelope.
        #[arg(long)]
        raw: Option<bool>,
        /// How deliveries are repeated, as SNS's JSON; empty for the topic's.
        #[arg(long)]
        delivery_policy: Option<String>,
    },
    /// End a subscription.
    Delete {
        /// The subscription's ARN.
        subscription_arn: String,
    },
}

/// Deliveries.
#[derive(Debug, Subcommand)]
pub enum Delivery {
    /// Show a delivery with its attempts.
    Get {
        /// The delivery's id.
        delivery_id: String,
    },
    /// List a topic's deliveries, the newest first.
    List {
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// Only those to this subscription.
        #[arg(long)]
        subscription: Option<String>,
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<Standing>,
        #[command(flatten)]
        limit: Limit,
    },
}

fn policy(file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    file.map(|path| {
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
    })
    .transpose()
}

pub(super) async fn topic(
    verb: Topic,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Topic::Create { name, policy_file, display_name, signature_version, delivery_policy } => {
            let request = CreateTopicRequest {
                name,
                display_name,
                policy: policy(policy_file)?,
                signature_version: Signature::wire(signature_version),
                delivery_policy,
            };
            printer.message(&call!(connection, topics, TopicServiceClient, create_topic, request)?)
        }
        Topic::Get { topic_arn } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            get_topic,
            GetTopicRequest { topic_arn }
        )?),
        Topic::List(limit) => {
            let topics = pages!(
                connection,
                topics,
                TopicServiceClient,
                list_topics,
                ListTopicsRequest::default(),
                topics,
                limit.limit
            );
            printer.list(
                "topics",
                &topics,
                &[
                    ("TOPIC", "topicArn"),
                    ("CONFIRMED", "subscriptionsConfirmed"),
                    ("PENDING", "subscriptionsPending"),
                    ("CREATED", "createTime"),
                ],
            )
        }
        Topic::Set { topic_arn, policy_file, display_name, signature_version, delivery_policy } => {
            let request = SetTopicAttributesRequest {
                topic_arn,
                policy: policy(policy_file)?,
                display_name,
                signature_version: Signature::wire(signature_version),
                delivery_policy,
            };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                set_topic_attributes,
                request
            )?)
        }
        Topic::Delete { topic_arn } => {
            let request = DeleteTopicRequest { topic_arn: topic_arn.clone() };
            call!(connection, topics, TopicServiceClient, delete_topic, request)?;
            printer.done(&format!("{topic_arn} deleted"));
            Ok(())
        }
        Topic::Publish { topic_arn, message, subject } => {
            let request = PublishRequest { topic_arn, message, subject, ..Default::default() };
            printer.message(&call!(connection, topics, TopicServiceClient, publish, request)?)
        }
    }
}

pub(super) async fn subscription(
    verb: Subscription,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Subscription::Create { topic, protocol, to, raw, delivery_policy } => {
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
                raw_message_delivery: raw,
                delivery_policy,
                ..Default::default()
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
        Subscription::List { topic, limit } => {
            let request = ListSubscriptionsRequest {
                topic_arn: topic.unwrap_or_default(),
                ..Default::default()
            };
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
                ],
            )
        }
        Subscription::Set { subscription_arn, raw, delivery_policy } => {
            let request = SetSubscriptionAttributesRequest {
                subscription_arn,
                raw_message_delivery: raw,
                delivery_policy,
                ..Default::default()
            };
            printer.message(&call!(
                connection,
                topics,
                TopicServiceClient,
                set_subscription_attributes,
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

pub(super) async fn delivery(
    verb: Delivery,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Delivery::Get { delivery_id } => printer.message(&call!(
            connection,
            topics,
            TopicServiceClient,
            get_delivery,
            GetDeliveryRequest { delivery_id }
        )?),
        Delivery::List { topic, subscription, state, limit } => {
            let state = match state {
                None => DeliveryState::Unspecified,
                Some(Standing::Pending) => DeliveryState::Pending,
                Some(Standing::Delivered) => DeliveryState::Delivered,
                Some(Standing::DeadLettered) => DeliveryState::DeadLettered,
                Some(Standing::Dropped) => DeliveryState::Dropped,
            };
            let request = ListDeliveriesRequest {
                topic_arn: topic,
                subscription_arn: subscription.unwrap_or_default(),
                state: state.into(),
                ..Default::default()
            };
            let deliveries = pages!(
                connection,
                topics,
                TopicServiceClient,
                list_deliveries,
                request,
                deliveries,
                limit.limit
            );
            printer.list(
                "deliveries",
                &deliveries,
                &[
                    ("DELIVERY", "deliveryId"),
                    ("KIND", "kind"),
                    ("TO", "endpoint"),
                    ("STATE", "state"),
                    ("ATTEMPTS", "attemptCount"),
                    ("STATUS", "lastStatusCode"),
                    ("ERROR", "lastError"),
                    ("CREATED", "createTime"),
                ],
            )
        }
    }
}
