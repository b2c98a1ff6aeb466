//! `postern delivery`: what became of messages, and sending them again.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use postern_proto::time::timestamp;
use postern_proto::v1::delivery_service_client::DeliveryServiceClient;
use postern_proto::v1::{
    DeliveryState, GetDeliveryRequest, ListDeliveriesRequest, ReplayDeliveriesRequest,
    ReplayDeliveryRequest, SendTestEventRequest, WatchDeliveriesRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

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

/// A span of time.
#[derive(Debug, Args)]
pub struct Span {
    /// Made at this time or later, such as 2026-01-02T03:04:05Z.
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Made before this time.
    #[arg(long)]
    until: Option<DateTime<Utc>>,
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
        /// Only those of this message.
        #[arg(long)]
        message: Option<String>,
        /// Only those of this event.
        #[arg(long)]
        event: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show each attempt at a topic's deliveries as it ends, until interrupted.
    Watch {
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// Only those to this subscription.
        #[arg(long)]
        subscription: Option<String>,
    },
    /// Send one ended delivery again.
    Replay {
        /// The delivery's id.
        delivery_id: String,
    },
    /// Send a topic's deliveries again that were given up.
    #[command(after_help = "Example:
  postern delivery replay-all --topic arn:aws:sns:us-east-1:… --from 2026-01-02T00:00:00Z")]
    ReplayAll {
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// Only those to this subscription.
        #[arg(long)]
        subscription: Option<String>,
        #[command(flatten)]
        span: Span,
        /// Those too that were taken; needs --from.
        #[arg(long, requires = "from")]
        include_delivered: bool,
    },
    /// Send a test message to a subscription.
    Test {
        /// The subscription's ARN.
        subscription_arn: String,
    },
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
            DeliveryServiceClient,
            get_delivery,
            GetDeliveryRequest { delivery_id }
        )?),
        Delivery::List { topic, subscription, state, message, event, span, limit } => {
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
                message_id: message.unwrap_or_default(),
                event_id: event.unwrap_or_default(),
                from_time: span.from.map(timestamp),
                until_time: span.until.map(timestamp),
                ..Default::default()
            };
            let deliveries = pages!(
                connection,
                topics,
                DeliveryServiceClient,
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
        Delivery::Watch { topic, subscription } => {
            let mut client = DeliveryServiceClient::new(connection.topics());
            let request = WatchDeliveriesRequest {
                topic_arn: topic,
                subscription_arn: subscription.unwrap_or_default(),
            };
            let mut stream = client.watch_deliveries(request).await?.into_inner();
            while let Some(told) = stream.message().await? {
                if let Some(delivery) = told.delivery {
                    printer.message(&delivery)?;
                }
            }
            Ok(())
        }
        Delivery::Replay { delivery_id } => printer.message(&call!(
            connection,
            topics,
            DeliveryServiceClient,
            replay_delivery,
            ReplayDeliveryRequest { delivery_id }
        )?),
        Delivery::ReplayAll { topic, subscription, span, include_delivered } => {
            let request = ReplayDeliveriesRequest {
                topic_arn: topic,
                subscription_arn: subscription.unwrap_or_default(),
                from_time: span.from.map(timestamp),
                until_time: span.until.map(timestamp),
                include_delivered,
            };
            printer.message(&call!(
                connection,
                topics,
                DeliveryServiceClient,
                replay_deliveries,
                request
            )?)
        }
        Delivery::Test { subscription_arn } => printer.message(&call!(
            connection,
            topics,
            DeliveryServiceClient,
            send_test_event,
            SendTestEventRequest { subscription_arn }
        )?),
    }
}
