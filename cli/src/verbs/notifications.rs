//! `postern notification`.

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::notification_service_client::NotificationServiceClient;
use postern_proto::v1::{
    ConnectionEvent, CreateVpcEndpointConnectionNotificationRequest,
    DeleteVpcEndpointConnectionNotificationsRequest, GetVpcEndpointConnectionNotificationRequest,
    ListVpcEndpointConnectionNotificationsRequest, ModifyVpcEndpointConnectionNotificationRequest,
};

use super::{Limit, bulk, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// What happens to an endpoint.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Event {
    /// A consumer made an endpoint.
    Connect,
    /// The provider accepted it.
    Accept,
    /// The provider rejected it.
    Reject,
    /// The consumer deleted it.
    Delete,
}

impl Event {
    fn wire(self) -> i32 {
        let event = match self {
            Self::Connect => ConnectionEvent::Connect,
            Self::Accept => ConnectionEvent::Accept,
            Self::Reject => ConnectionEvent::Reject,
            Self::Delete => ConnectionEvent::Delete,
        };
        event.into()
    }
}

/// Connection notifications.
#[derive(Debug, Subcommand)]
pub enum Notification {
    /// Publish events of a service's endpoints, or of one endpoint, to a topic.
    #[command(after_help = "Example:
  postern --profile provider notification create --service vpce-svc-… \\
      --topic arn:aws:sns:us-east-1:111122223333:connections --event connect --event delete")]
    Create {
        /// The service whose endpoints it is about.
        #[arg(long, conflicts_with = "endpoint")]
        service: Option<String>,
        /// The endpoint that it is about.
        #[arg(long, required_unless_present = "service")]
        endpoint: Option<String>,
        /// The topic's ARN.
        #[arg(long)]
        topic: String,
        /// An event. Repeat it.
        #[arg(long = "event", value_enum, required = true)]
        events: Vec<Event>,
        /// Makes a repeated request harmless.
        #[arg(long, default_value = "")]
        client_token: String,
    },
    /// Show a notification.
    Get {
        /// The notification's id.
        notification_id: String,
    },
    /// List the account's notifications.
    List {
        /// Only those of this service.
        #[arg(long)]
        service: Option<String>,
        /// Only those of this endpoint.
        #[arg(long)]
        endpoint: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change a notification; a disabled one is enabled again when its topic allows.
    Modify {
        /// The notification's id.
        notification_id: String,
        /// The new topic's ARN.
        #[arg(long, default_value = "")]
        topic: String,
        /// The new events, all of them. Repeat it.
        #[arg(long = "event", value_enum)]
        events: Vec<Event>,
    },
    /// Delete notifications.
    Delete {
        /// The notifications' ids.
        #[arg(required = true)]
        notification_ids: Vec<String>,
    },
}

pub(super) async fn run(
    verb: Notification,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Notification::Create { service, endpoint, topic, events, client_token } => {
            let request = CreateVpcEndpointConnectionNotificationRequest {
                service_id: service.unwrap_or_default(),
                vpc_endpoint_id: endpoint.unwrap_or_default(),
                connection_notification_arn: topic,
                connection_events: events.into_iter().map(Event::wire).collect(),
                client_token,
            };
            printer.message(&call!(
                connection,
                control_plane,
                NotificationServiceClient,
                create_vpc_endpoint_connection_notification,
                request
            )?)
        }
        Notification::Get { notification_id } => printer.message(&call!(
            connection,
            control_plane,
            NotificationServiceClient,
            get_vpc_endpoint_connection_notification,
            GetVpcEndpointConnectionNotificationRequest {
                connection_notification_id: notification_id
            }
        )?),
        Notification::List { service, endpoint, limit } => {
            let request = ListVpcEndpointConnectionNotificationsRequest {
                service_id: service.unwrap_or_default(),
                vpc_endpoint_id: endpoint.unwrap_or_default(),
                ..Default::default()
            };
            let notifications = pages!(
                connection,
                control_plane,
                NotificationServiceClient,
                list_vpc_endpoint_connection_notifications,
                request,
                connection_notifications,
                limit.limit
            );
            printer.list(
                "connectionNotifications",
                &notifications,
                &[
                    ("NOTIFICATION", "connectionNotificationId"),
                    ("SERVICE", "serviceId"),
                    ("ENDPOINT", "vpcEndpointId"),
                    ("TOPIC", "connectionNotificationArn"),
                    ("EVENTS", "connectionEvents"),
                    ("STATE", "state"),
                ],
            )
        }
        Notification::Modify { notification_id, topic, events } => {
            let request = ModifyVpcEndpointConnectionNotificationRequest {
                connection_notification_id: notification_id,
                connection_notification_arn: topic,
                connection_events: events.into_iter().map(Event::wire).collect(),
            };
            printer.message(&call!(
                connection,
                control_plane,
                NotificationServiceClient,
                modify_vpc_endpoint_connection_notification,
                request
            )?)
        }
        Notification::Delete { notification_ids } => {
            let answer = call!(
                connection,
                control_plane,
                NotificationServiceClient,
                delete_vpc_endpoint_connection_notifications,
                DeleteVpcEndpointConnectionNotificationsRequest {
                    connection_notification_ids: notification_ids
                }
            )?;
            bulk(printer, &answer.unsuccessful, "deleted")
        }
    }
}
