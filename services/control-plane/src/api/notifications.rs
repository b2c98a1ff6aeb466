//! `NotificationService`: connection notifications.

use postern_model::Code;
use postern_model::event::EventKind;
use postern_model::id::NotificationId;
use postern_proto::time::timestamp;
use postern_proto::v1;
use postern_proto::v1::ConnectionEvent as Wire;
use postern_proto::v1::notification_service_server::NotificationService;
use tonic::{Request, Response, Status};

use super::fields::{missing, optional, page, required};
use super::lists::{BULK_MAX, bounded, bulk, unsuccessful};
use crate::app::App;
use crate::app::client_tokens::ClientToken;
use crate::app::notifications::{CreateNotification, ModifyNotification};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::notifications::{About, Notification};

/// Connection notifications.
#[derive(Clone)]
pub struct Notifications {
    app: App,
}

impl Notifications {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl NotificationService for Notifications {
    async fn create_vpc_endpoint_connection_notification(
        &self,
        request: Request<v1::CreateVpcEndpointConnectionNotificationRequest>,
    ) -> Result<Response<v1::CreateVpcEndpointConnectionNotificationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateNotification::try_from(request.into_inner())?;
        let notification = self.app.create_notification(&caller, command).await?;
        let connection_notification = Some(notification.into());
        Ok(Response::new(v1::CreateVpcEndpointConnectionNotificationResponse {
            connection_notification,
        }))
    }

    async fn get_vpc_endpoint_connection_notification(
        &self,
        request: Request<v1::GetVpcEndpointConnectionNotificationRequest>,
    ) -> Result<Response<v1::GetVpcEndpointConnectionNotificationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetVpcEndpointConnectionNotificationRequest { connection_notification_id } =
            request.into_inner();
        let id: NotificationId =
            required("connection_notification_id", &connection_notification_id)?;
        let notification = self.app.notification(&caller, id).await?;
        let connection_notification = Some(notification.into());
        Ok(Response::new(v1::GetVpcEndpointConnectionNotificationResponse {
            connection_notification,
        }))
    }

    async fn list_vpc_endpoint_connection_notifications(
        &self,
        request: Request<v1::ListVpcEndpointConnectionNotificationsRequest>,
    ) -> Result<Response<v1::ListVpcEndpointConnectionNotificationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointConnectionNotificationsRequest {
            service_id,
            vpc_endpoint_id,
            page_size,
            page_token,
        } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let service = optional("service_id", &service_id)?;
        let endpoint = optional("vpc_endpoint_id", &vpc_endpoint_id)?;
        let mut found = self.app.notifications(&caller, service, endpoint, &page).await?;
        let next_page_token = page.cut(&mut found, |notification| notification.id.to_string());
        let connection_notifications = found.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListVpcEndpointConnectionNotificationsResponse {
            connection_notifications,
            next_page_token,
        }))
    }

    async fn modify_vpc_endpoint_connection_notification(
        &self,
        request: Request<v1::ModifyVpcEndpointConnectionNotificationRequest>,
    ) -> Result<Response<v1::ModifyVpcEndpointConnectionNotificationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = ModifyNotification::try_from(request.into_inner())?;
        let notification = self.app.modify_notification(&caller, command).await?;
        let connection_notification = Some(notification.into());
        Ok(Response::new(v1::ModifyVpcEndpointConnectionNotificationResponse {
            connection_notification,
        }))
    }

    async fn delete_vpc_endpoint_connection_notifications(
        &self,
        request: Request<v1::DeleteVpcEndpointConnectionNotificationsRequest>,
    ) -> Result<Response<v1::DeleteVpcEndpointConnectionNotificationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteVpcEndpointConnectionNotificationsRequest { connection_notification_ids } =
            request.into_inner();
        let ids: Vec<NotificationId> =
            bulk("connection_notification_ids", &connection_notification_ids)?;
        let failed = self.app.delete_notifications(&caller, &ids).await?;
        let unsuccessful = unsuccessful(failed);
        Ok(Response::new(v1::DeleteVpcEndpointConnectionNotificationsResponse { unsuccessful }))
    }
}

impl TryFrom<v1::CreateVpcEndpointConnectionNotificationRequest> for CreateNotification {
    type Error = Error;

    fn try_from(request: v1::CreateVpcEndpointConnectionNotificationRequest) -> Result<Self> {
        let v1::CreateVpcEndpointConnectionNotificationRequest {
            service_id,
            vpc_endpoint_id,
            connection_notification_arn,
            connection_events,
            client_token,
        } = request;
        let about = match (
            optional("service_id", &service_id)?,
            optional("vpc_endpoint_id", &vpc_endpoint_id)?,
        ) {
            (Some(service), None) => About::Service(service),
            (None, Some(endpoint)) => About::Endpoint(endpoint),
            (Some(_), Some(_)) => {
                return Err(Error::of_field(
                    Code::InvalidParameter,
                    "vpc_endpoint_id",
                    "a notification is about a service or an endpoint, not both",
                ));
            }
            (None, None) => return Err(missing("service_id")),
        };
        if connection_events.is_empty() {
            return Err(no_events("must name at least one event"));
        }
        Ok(Self {
            about,
            topic: required("connection_notification_arn", &connection_notification_arn)?,
            events: events(&connection_events)?,
            client_token: ClientToken::read(client_token)?,
        })
    }
}

impl TryFrom<v1::ModifyVpcEndpointConnectionNotificationRequest> for ModifyNotification {
    type Error = Error;

    fn try_from(request: v1::ModifyVpcEndpointConnectionNotificationRequest) -> Result<Self> {
        let v1::ModifyVpcEndpointConnectionNotificationRequest {
            connection_notification_id,
            connection_notification_arn,
            connection_events,
        } = request;
        let events = events(&connection_events)?;
        Ok(Self {
            id: required("connection_notification_id", &connection_notification_id)?,
            topic: optional("connection_notification_arn", &connection_notification_arn)?,
            events: if events.is_empty() { None } else { Some(events) },
        })
    }
}

fn no_events(reason: &str) -> Error {
    Error::of_field(Code::InvalidParameter, "connection_events", reason)
}

/// Events, in order and each once; an unknown one is `InvalidParameter` (spec 1.13).
fn events(numbers: &[i32]) -> Result<Vec<EventKind>> {
    bounded("connection_events", numbers.len(), BULK_MAX)?;
    let mut kinds = Vec::with_capacity(numbers.len());
    for number in numbers {
        kinds.push(match Wire::try_from(*number) {
            Ok(Wire::Connect) => EventKind::Connect,
            Ok(Wire::Accept) => EventKind::Accept,
            Ok(Wire::Reject) => EventKind::Reject,
            Ok(Wire::Delete) => EventKind::Delete,
            Ok(Wire::Unspecified) | Err(_) => {
                return Err(no_events(&format!("{number} is no event")));
            }
        });
    }
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

impl From<Notification> for v1::ConnectionNotification {
    fn from(notification: Notification) -> Self {
        let Notification {
            id,
            owner: _,
            about,
            topic_arn,
            events,
            enabled,
            disabled_reason,
            created_at,
        } = notification;
        let (service_id, vpc_endpoint_id) = match about {
            About::Service(service) => (service.to_string(), String::new()),
            About::Endpoint(endpoint) => (String::new(), endpoint.to_string()),
        };
        let event = |kind: &EventKind| match kind {
            EventKind::Connect => Wire::Connect.into(),
            EventKind::Accept => Wire::Accept.into(),
            EventKind::Reject => Wire::Reject.into(),
            EventKind::Delete => Wire::Delete.into(),
        };
        let state =
            if enabled { v1::NotificationState::Enabled } else { v1::NotificationState::Disabled };
        Self {
            connection_notification_id: id.to_string(),
            service_id,
            vpc_endpoint_id,
            connection_notification_arn: topic_arn,
            connection_events: events.iter().map(event).collect(),
            state: state.into(),
            disabled_reason,
            create_time: Some(timestamp(created_at)),
        }
    }
}
