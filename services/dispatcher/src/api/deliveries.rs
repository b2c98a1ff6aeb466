//! The public service of deliveries.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{Stream, stream};
use postern_model::field::parse;
use postern_model::{Code, InvalidField, Refusal};
use postern_proto::page::Page;
use postern_proto::v1::delivery_service_server::DeliveryService;
use postern_proto::{time, v1};
use prost_types::Timestamp;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{caller, status_of};
use crate::app::{App, Inspected, ListDeliveries, ReplayDeliveries};
use crate::error::Error;
use crate::store::deliveries::DeliveryState;

/// How many may watch at a time; each asks the database a few times a second.
const WATCHERS: usize = 32;
/// How often a watcher looks.
const LOOK: Duration = Duration::from_millis(250);

/// The service over the use cases.
#[derive(Clone, Debug)]
pub struct DeliveryApi {
    app: App,
    watchers: Arc<Semaphore>,
}

impl DeliveryApi {
    /// The service over these use cases. It must stand behind the authenticator.
    pub fn new(app: App) -> Self {
        Self { app, watchers: Arc::new(Semaphore::new(WATCHERS)) }
    }
}

fn refused(refusal: impl Into<Refusal>) -> Status {
    status_of(Error::Refused(refusal.into()))
}

/// Reads a field that may be empty.
fn given<T>(name: &str, text: &str) -> Result<Option<T>, InvalidField>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    (!text.is_empty()).then(|| parse(name, text)).transpose()
}

fn moment(name: &str, at: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, InvalidField> {
    at.map(|at| time::datetime(at).ok_or_else(|| InvalidField::new(name, "is no time"))).transpose()
}

impl TryFrom<v1::ListDeliveriesRequest> for ListDeliveries {
    type Error = Refusal;

    fn try_from(request: v1::ListDeliveriesRequest) -> Result<Self, Refusal> {
        let v1::ListDeliveriesRequest {
            topic_arn,
            subscription_arn,
            state,
            message_id,
            page_size,
            page_token,
            event_id,
            from_time,
            until_time,
        } = request;
        use v1::DeliveryState as State;
        let state = match State::try_from(state) {
            Ok(State::Unspecified) => None,
            Ok(State::Pending) => Some(DeliveryState::Pending),
            Ok(State::Delivered) => Some(DeliveryState::Delivered),
            Ok(State::DeadLettered) => Some(DeliveryState::DeadLettered),
            Ok(State::Dropped) => Some(DeliveryState::Dropped),
            Err(_) => {
                return Err(InvalidField::new("state", "is none of those that there are").into());
            }
        };
        Ok(Self {
            topic: parse("topic_arn", &topic_arn)?,
            subscription: given("subscription_arn", &subscription_arn)?,
            state,
            message: given("message_id", &message_id)?,
            event: given("event_id", &event_id)?,
            from: moment("from_time", from_time)?,
            until: moment("until_time", until_time)?,
            page: Page::parse(page_size, &page_token)?,
        })
    }
}

impl TryFrom<v1::ReplayDeliveriesRequest> for ReplayDeliveries {
    type Error = Refusal;

    fn try_from(request: v1::ReplayDeliveriesRequest) -> Result<Self, Refusal> {
        let v1::ReplayDeliveriesRequest {
            topic_arn,
            subscription_arn,
            from_time,
            until_time,
            include_delivered,
        } = request;
        Ok(Self {
            topic: parse("topic_arn", &topic_arn)?,
            subscription: given("subscription_arn", &subscription_arn)?,
            from: moment("from_time", from_time)?,
            until: moment("until_time", until_time)?,
            delivered: include_delivered,
        })
    }
}

#[tonic::async_trait]
impl DeliveryService for DeliveryApi {
    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let v1::GetDeliveryRequest { delivery_id } = request.into_inner();
        let id = parse("delivery_id", &delivery_id).map_err(refused)?;
        let delivery = self.app.get_delivery(&caller, id).await.map_err(status_of)?;
        Ok(Response::new(v1::GetDeliveryResponse { delivery: Some(delivery.into()) }))
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(|error: Refusal| refused(error))?;
        let (rows, next_page_token) =
            self.app.list_deliveries(&caller, asked).await.map_err(status_of)?;
        let deliveries = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListDeliveriesResponse { deliveries, next_page_token }))
    }

    type WatchDeliveriesStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchDeliveriesResponse, Status>> + Send>>;

    async fn watch_deliveries(
        &self,
        request: Request<v1::WatchDeliveriesRequest>,
    ) -> Result<Response<Self::WatchDeliveriesStream>, Status> {
        let caller = caller(&request)?;
        let v1::WatchDeliveriesRequest { topic_arn, subscription_arn } = request.into_inner();
        let topic = parse("topic_arn", &topic_arn).map_err(refused)?;
        let subscription = given("subscription_arn", &subscription_arn).map_err(refused)?;
        let place = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            refused(Refusal::new(
                Code::RequestLimitExceeded,
                "too many watch deliveries, try again later",
            ))
        })?;
        let watch = self.app.watch_deliveries(&caller, &topic, subscription.as_ref()).await;
        let watch = watch.map_err(status_of)?;
        let app = self.app.clone();
        let state = (app, caller, watch, BTreeSet::new(), place);
        // One look after the other; what each found is handed out before the next.
        let looks = stream::unfold(Some(state), |state| async move {
            let (app, caller, mut watch, mut seen, place) = state?;
            loop {
                tokio::time::sleep(LOOK).await;
                match app.watched(&caller, &mut watch, &mut seen).await {
                    Ok(found) if found.is_empty() => {}
                    Ok(found) => {
                        return Some((Ok(found), Some((app, caller, watch, seen, place))));
                    }
                    Err(error) => return Some((Err(status_of(error)), None)),
                }
            }
        });
        let attempts = futures_util::StreamExt::flat_map(looks, |found| {
            let told: Vec<Result<v1::WatchDeliveriesResponse, Status>> = match found {
                Ok(found) => found.into_iter().map(|one| Ok(told(one))).collect(),
                Err(status) => vec![Err(status)],
            };
            stream::iter(told)
        });
        Ok(Response::new(Box::pin(attempts)))
    }

    async fn replay_delivery(
        &self,
        request: Request<v1::ReplayDeliveryRequest>,
    ) -> Result<Response<v1::ReplayDeliveryResponse>, Status> {
        let caller = caller(&request)?;
        let v1::ReplayDeliveryRequest { delivery_id } = request.into_inner();
        let id = parse("delivery_id", &delivery_id).map_err(refused)?;
        let delivery = self.app.replay_delivery(&caller, id).await.map_err(status_of)?;
        Ok(Response::new(v1::ReplayDeliveryResponse { delivery: Some(delivery.into()) }))
    }

    async fn replay_deliveries(
        &self,
        request: Request<v1::ReplayDeliveriesRequest>,
    ) -> Result<Response<v1::ReplayDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().try_into().map_err(|error: Refusal| refused(error))?;
        let replayed = self.app.replay_deliveries(&caller, asked).await.map_err(status_of)?;
        let replayed = i64::try_from(replayed).unwrap_or(i64::MAX);
        Ok(Response::new(v1::ReplayDeliveriesResponse { replayed }))
    }

    async fn send_test_event(
        &self,
        request: Request<v1::SendTestEventRequest>,
    ) -> Result<Response<v1::SendTestEventResponse>, Status> {
        let caller = caller(&request)?;
        let v1::SendTestEventRequest { subscription_arn } = request.into_inner();
        let arn = parse("subscription_arn", &subscription_arn).map_err(refused)?;
        let sent = self.app.send_test_event(&caller, &arn).await.map_err(status_of)?;
        Ok(Response::new(v1::SendTestEventResponse {
            delivery_id: sent.delivery.to_string(),
            message_id: sent.message.to_string(),
        }))
    }
}

fn told(inspected: Inspected) -> v1::WatchDeliveriesResponse {
    v1::WatchDeliveriesResponse { delivery: Some(inspected.into()) }
}
