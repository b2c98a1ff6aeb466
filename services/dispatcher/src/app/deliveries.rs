//! Looking at deliveries.

use postern_model::arn::{SubscriptionArn, TopicArn};
use postern_model::{Code, Refusal};
use postern_proto::page::Page;
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::deliveries::{self, AttemptRow, DeliveryRow, DeliveryState, Filter};
use crate::store::topics;

/// A delivery with its attempts.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The delivery.
    pub delivery: DeliveryRow,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// Asks for a page of deliveries.
#[derive(Clone, Debug)]
pub struct ListDeliveries {
    /// The topic.
    pub topic: TopicArn,
    /// Only those to this subscription.
    pub subscription: Option<SubscriptionArn>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those of this message.
    pub message: Option<Uuid>,
    /// Which page.
    pub page: Page,
}

impl App {
    /// A delivery of one of the caller's topics.
    ///
    /// # Errors
    /// When there is none.
    pub async fn get_delivery(&self, caller: &Caller, id: Uuid) -> Result<Inspected, Error> {
        let (account, _) = caller.account()?;
        let mut db = self.store.connection().await?;
        let delivery = deliveries::find(&mut db, account, self.region.as_str(), id).await?;
        let delivery = delivery.ok_or_else(|| {
            let message = format!("the delivery {id} does not exist");
            Refusal::of_field(Code::NotFound, "delivery_id", message)
        })?;
        let attempts = deliveries::attempts(&mut db, id).await?;
        Ok(Inspected { delivery, attempts })
    }

    /// A page of the deliveries of one of the caller's topics, and the token of the next.
    ///
    /// # Errors
    /// When the topic isn't the caller's.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        asked: ListDeliveries,
    ) -> Result<(Vec<DeliveryRow>, String), Error> {
        let (account, _) = caller.account()?;
        let before = asked.page.after.as_deref().map(str::parse::<i64>).transpose();
        let before = before.map_err(|_| {
            let message = "no list of deliveries gave out this token";
            Refusal::of_field(Code::InvalidNextToken, "page_token", message)
        })?;
        let mut db = self.store.connection().await?;
        let topic = if asked.topic.account() == account && *asked.topic.region() == self.region {
            topics::find(&mut db, &asked.topic).await?
        } else {
            None
        };
        let topic = topic.ok_or_else(|| super::no_topic(&asked.topic))?;
        let filter = Filter {
            subscription: asked.subscription.map(|arn| arn.id()),
            state: asked.state.map(DeliveryState::as_str),
            message: asked.message,
            before,
        };
        let mut rows = deliveries::list(&mut db, topic.id, filter, asked.page.limit()).await?;
        let token = asked.page.cut(&mut rows, |row| row.seq.to_string());
        Ok((rows, token))
    }
}
