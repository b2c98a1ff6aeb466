//! The public service of topics, subscriptions and deliveries.

use postern_model::{InvalidField, Refusal, field};
use postern_proto::page::Page;
use postern_proto::v1::topic_service_server::TopicService;
use postern_proto::{time, v1};
use tonic::{Request, Response, Status};

use super::{caller, status_of};
use crate::app::{App, SubscriptionSecret};
use crate::error::Error;

/// The service over the use cases.
#[derive(Clone, Debug)]
pub struct TopicApi {
    app: App,
}

impl TopicApi {
    /// The service over these use cases. It must stand behind the authenticator.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

/// Reads a field, or says which one is wrong.
fn parse<T>(name: &str, text: &str) -> Result<T, Status>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    field::parse(name, text).map_err(|fault| status_of(fault.into()))
}

fn page(size: i32, token: &str) -> Result<Page, Status> {
    Page::parse(size, token).map_err(refused)
}

fn refused(refusal: Refusal) -> Status {
    status_of(Error::Refused(refusal))
}

fn duration(name: &str, given: prost_types::Duration) -> Result<chrono::Duration, Status> {
    u32::try_from(given.nanos)
        .ok()
        .and_then(|nanos| chrono::Duration::new(given.seconds, nanos))
        .ok_or_else(|| status_of(InvalidField::new(name, "is not from 0 to 7 days").into()))
}

#[tonic::async_trait]
impl TopicService for TopicApi {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Result<Response<v1::CreateTopicResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let topic = self.app.create_topic(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::CreateTopicResponse { topic: Some(topic.into()) }))
    }

    async fn get_topic(
        &self,
        request: Request<v1::GetTopicRequest>,
    ) -> Result<Response<v1::GetTopicResponse>, Status> {
        let caller = caller(&request)?;
        let v1::GetTopicRequest { topic_arn } = request.into_inner();
        let arn = parse("topic_arn", &topic_arn)?;
        let topic = self.app.get_topic(&caller, &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::GetTopicResponse { topic: Some(topic.into()) }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let caller = caller(&request)?;
        let v1::ListTopicsRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let (topics, next_page_token) =
            self.app.list_topics(&caller, &page).await.map_err(status_of)?;
        let topics = topics.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListTopicsResponse { topics, next_page_token }))
    }

    async fn set_topic_attributes(
        &self,
        request: Request<v1::SetTopicAttributesRequest>,
    ) -> Result<Response<v1::SetTopicAttributesResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let topic = self.app.set_topic_attributes(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::SetTopicAttributesResponse { topic: Some(topic.into()) }))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Result<Response<v1::DeleteTopicResponse>, Status> {
        let caller = caller(&request)?;
        let v1::DeleteTopicRequest { topic_arn } = request.into_inner();
        let arn = parse("topic_arn", &topic_arn)?;
        self.app.delete_topic(&caller, &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::DeleteTopicResponse {}))
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let id = self.app.publish(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::PublishResponse { message_id: id.to_string() }))
    }

    async fn add_permission(
        &self,
        request: Request<v1::AddPermissionRequest>,
    ) -> Result<Response<v1::AddPermissionResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let topic = self.app.add_permission(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::AddPermissionResponse { topic: Some(topic.into()) }))
    }

    async fn remove_permission(
        &self,
        request: Request<v1::RemovePermissionRequest>,
    ) -> Result<Response<v1::RemovePermissionResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let topic = self.app.remove_permission(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::RemovePermissionResponse { topic: Some(topic.into()) }))
    }

    async fn explain_topic(
        &self,
        request: Request<v1::ExplainTopicRequest>,
    ) -> Result<Response<v1::ExplainTopicResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let explained = self.app.explain_topic(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(explained.into()))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<v1::SubscribeResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let subscription = self.app.subscribe(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::SubscribeResponse { subscription: Some(subscription.into()) }))
    }

    async fn confirm_subscription(
        &self,
        request: Request<v1::ConfirmSubscriptionRequest>,
    ) -> Result<Response<v1::ConfirmSubscriptionResponse>, Status> {
        // Any account's key will do: the token is what counts.
        caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let arn = self.app.confirm(asked).await.map_err(status_of)?;
        let subscription_arn = arn.to_string();
        Ok(Response::new(v1::ConfirmSubscriptionResponse { subscription_arn }))
    }

    async fn unsubscribe(
        &self,
        request: Request<v1::UnsubscribeRequest>,
    ) -> Result<Response<v1::UnsubscribeResponse>, Status> {
        let caller = caller(&request)?;
        let v1::UnsubscribeRequest { subscription_arn } = request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn)?;
        self.app.unsubscribe(Some(&caller), &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::UnsubscribeResponse {}))
    }

    async fn get_subscription(
        &self,
        request: Request<v1::GetSubscriptionRequest>,
    ) -> Result<Response<v1::GetSubscriptionResponse>, Status> {
        let caller = caller(&request)?;
        let v1::GetSubscriptionRequest { subscription_arn } = request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn)?;
        let subscription = self.app.get_subscription(&caller, &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::GetSubscriptionResponse { subscription: Some(subscription.into()) }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Result<Response<v1::ListSubscriptionsResponse>, Status> {
        let caller = caller(&request)?;
        let v1::ListSubscriptionsRequest { topic_arn, page_size, page_token } =
            request.into_inner();
        let topic = match topic_arn.as_str() {
            "" => None,
            text => Some(parse("topic_arn", text)?),
        };
        let page = page(page_size, &page_token)?;
        let (rows, next_page_token) =
            self.app.list_subscriptions(&caller, topic.as_ref(), &page).await.map_err(status_of)?;
        let subscriptions = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListSubscriptionsResponse { subscriptions, next_page_token }))
    }

    async fn set_subscription_attributes(
        &self,
        request: Request<v1::SetSubscriptionAttributesRequest>,
    ) -> Result<Response<v1::SetSubscriptionAttributesResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(refused)?;
        let row = self.app.set_subscription_attributes(&caller, asked).await.map_err(status_of)?;
        Ok(Response::new(v1::SetSubscriptionAttributesResponse { subscription: Some(row.into()) }))
    }

    async fn enable_subscription(
        &self,
        request: Request<v1::EnableSubscriptionRequest>,
    ) -> Result<Response<v1::EnableSubscriptionResponse>, Status> {
        let caller = caller(&request)?;
        let v1::EnableSubscriptionRequest { subscription_arn } = request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn)?;
        let row = self.app.enable_subscription(&caller, &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::EnableSubscriptionResponse { subscription: Some(row.into()) }))
    }

    async fn get_subscription_secret(
        &self,
        request: Request<v1::GetSubscriptionSecretRequest>,
    ) -> Result<Response<v1::GetSubscriptionSecretResponse>, Status> {
        let caller = caller(&request)?;
        let v1::GetSubscriptionSecretRequest { subscription_arn } = request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn)?;
        let SubscriptionSecret { secret, previous_until } =
            self.app.get_subscription_secret(&caller, &arn).await.map_err(status_of)?;
        let previous_until_time = previous_until.map(time::timestamp);
        Ok(Response::new(v1::GetSubscriptionSecretResponse { secret, previous_until_time }))
    }

    async fn rotate_subscription_secret(
        &self,
        request: Request<v1::RotateSubscriptionSecretRequest>,
    ) -> Result<Response<v1::RotateSubscriptionSecretResponse>, Status> {
        let caller = caller(&request)?;
        let v1::RotateSubscriptionSecretRequest { subscription_arn, overlap } =
            request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn)?;
        let overlap = overlap.map(|overlap| duration("overlap", overlap)).transpose()?;
        let SubscriptionSecret { secret, previous_until } =
            self.app.rotate_subscription_secret(&caller, &arn, overlap).await.map_err(status_of)?;
        let previous_until_time = previous_until.map(time::timestamp);
        Ok(Response::new(v1::RotateSubscriptionSecretResponse { secret, previous_until_time }))
    }
}
