//! Topics.

use std::collections::HashMap;

use postern_model::arn::{TopicArn, TopicName};
use postern_model::policy::{self, Policy};
use postern_model::{Code, Refusal};
use postern_proto::page::Page;
use sqlx::PgConnection;
use uuid::Uuid;

use super::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::plan::TopicPolicy;
use crate::store::policy_changes;
use crate::store::topics::{self, Counts, TopicRow};

/// The most topics of an account (spec 9).
const MAX_TOPICS: i64 = 100_000;

/// A topic, as it is shown.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The topic.
    pub row: TopicRow,
    /// Its subscriptions.
    pub counts: Counts,
}

/// Asks for a topic.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// Its name.
    pub name: TopicName,
    /// The sender's name in mails.
    pub display_name: Option<String>,
    /// A policy in place of the default one.
    pub policy: Option<String>,
    /// 1 or 2.
    pub signature_version: Option<i16>,
    /// How deliveries are retried.
    pub delivery_policy: Option<String>,
    /// The topic that gets notices about this one; empty: none.
    pub notice_topic: Option<String>,
}

/// Asks to change attributes.
#[derive(Clone, Debug)]
pub struct SetTopicAttributes {
    /// The topic.
    pub topic: TopicArn,
    /// The new policy.
    pub policy: Option<String>,
    /// The sender's new name in mails.
    pub display_name: Option<String>,
    /// 1 or 2.
    pub signature_version: Option<i16>,
    /// How deliveries are retried; empty takes it away.
    pub delivery_policy: Option<String>,
    /// The topic that gets notices about this one; empty takes it away.
    pub notice_topic: Option<String>,
}

pub(super) fn check_policy(document: &str, topic: &TopicArn) -> Result<(), Error> {
    let fault = |fault: policy::PolicyFault| {
        Refusal::of_field(
            Code::InvalidParameter,
            "policy",
            format!("Invalid parameter: Policy Error: {fault}"),
        )
    };
    Policy::parse_for(document, topic).map_err(fault)?;
    Ok(())
}

fn check_delivery_policy(document: &str) -> Result<(), Error> {
    TopicPolicy::parse(document).map_err(|fault| {
        Refusal::of_field(
            Code::InvalidParameter,
            "delivery_policy",
            format!("Invalid parameter: DeliveryPolicy: {fault}"),
        )
    })?;
    Ok(())
}

/// Reads which topic gets notices: one of the same account and region.
fn check_notice_topic(text: &str, topic: &TopicArn) -> Result<(), Error> {
    let bad = |why: String| Refusal::of_field(Code::InvalidParameter, "notice_topic_arn", why);
    let arn: TopicArn = text.parse().map_err(|error| bad(format!("{error}")))?;
    if arn.account() != topic.account() || arn.region() != topic.region() {
        return Err(bad("must be a topic of the same account and region".to_owned()).into());
    }
    if arn == *topic {
        return Err(bad("must be another topic".to_owned()).into());
    }
    Ok(())
}

impl App {
    /// Makes a topic, or returns the one that there is when nothing else was asked for.
    ///
    /// # Errors
    /// Bad attributes, a topic of the name with other attributes, or too many topics.
    pub async fn create_topic(&self, caller: &Caller, asked: CreateTopic) -> Result<Topic, Error> {
        let (account, _) = caller.account()?;
        let arn = TopicArn::new(self.region.clone(), account, asked.name.clone());
        if let Some(document) = &asked.policy {
            check_policy(document, &arn)?;
        }
        let delivery_policy = asked.delivery_policy.clone().filter(|text| !text.is_empty());
        if let Some(document) = &delivery_policy {
            check_delivery_policy(document)?;
        }
        let notice_topic_arn = asked.notice_topic.clone().filter(|text| !text.is_empty());
        if let Some(text) = &notice_topic_arn {
            check_notice_topic(text, &arn)?;
        }
        let row = TopicRow {
            id: Uuid::now_v7(),
            owner_id: account.to_string(),
            region: self.region.to_string(),
            name: asked.name.to_string(),
            display_name: asked.display_name.clone().unwrap_or_default(),
            policy: asked.policy.clone().unwrap_or_else(|| policy::default_document(&arn)),
            signature_version: asked.signature_version.unwrap_or(2),
            delivery_policy,
            created_at: self.clock.now(),
            notice_topic_arn,
        };
        let mut tx = self.store.begin().await?;
        if topics::insert(&mut tx, &row).await? {
            if topics::count(&mut tx, account, &row.region).await? > MAX_TOPICS {
                let message = format!("an account has at most {MAX_TOPICS} topics");
                return Err(Refusal::new(Code::TopicLimitExceeded, message).into());
            }
            // Notifications may have been made to a topic of this name that is gone.
            self.note_policy(&mut tx, &row).await?;
            tx.commit().await?;
            self.decided.notify_one();
            return Ok(Topic { row, counts: Counts::default() });
        }
        let found = topics::find(&mut tx, &arn).await?.ok_or_else(|| super::no_topic(&arn))?;
        let same = asked.display_name.is_none_or(|name| name == found.display_name)
            && asked.policy.is_none_or(|policy| policy == found.policy)
            && asked.signature_version.is_none_or(|version| version == found.signature_version)
            && asked
                .delivery_policy
                .is_none_or(|policy| policy == found.delivery_policy.clone().unwrap_or_default())
            && asked
                .notice_topic
                .is_none_or(|topic| topic == found.notice_topic_arn.clone().unwrap_or_default());
        if !same {
            return Err(Refusal::new(
                Code::InvalidParameter,
                "Invalid parameter: Attributes Reason: Topic already exists with different attributes",
            )
            .into());
        }
        self.shown(&mut tx, found).await
    }

    /// The topic with its attributes.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub async fn get_topic(&self, caller: &Caller, arn: &TopicArn) -> Result<Topic, Error> {
        let mut db = self.store.connection().await?;
        let row = self.topic(&mut db, caller, arn, "SNS:GetTopicAttributes", false).await?;
        self.shown(&mut db, row).await
    }

    /// A page of the caller's topics, and the token of the next.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_topics(
        &self,
        caller: &Caller,
        page: &Page,
    ) -> Result<(Vec<Topic>, String), Error> {
        let (account, _) = caller.account()?;
        let mut db = self.store.connection().await?;
        let after = page.after.as_deref().unwrap_or_default();
        let mut rows =
            topics::list(&mut db, account, self.region.as_str(), after, page.limit()).await?;
        let token = page.cut(&mut rows, |row| row.name.clone());
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut counts: HashMap<Uuid, Counts> = topics::counts(&mut db, &ids)
            .await?
            .into_iter()
            .map(|counts| (counts.topic_id, counts))
            .collect();
        let topics = rows
            .into_iter()
            .map(|row| Topic { counts: counts.remove(&row.id).unwrap_or_default(), row })
            .collect();
        Ok((topics, token))
    }

    /// Changes attributes; what is absent stays.
    ///
    /// # Errors
    /// Bad attributes, or no such topic.
    pub async fn set_topic_attributes(
        &self,
        caller: &Caller,
        asked: SetTopicAttributes,
    ) -> Result<Topic, Error> {
        if let Some(document) = &asked.policy {
            check_policy(document, &asked.topic)?;
        }
        if let Some(document) = asked.delivery_policy.as_ref().filter(|text| !text.is_empty()) {
            check_delivery_policy(document)?;
        }
        if let Some(text) = asked.notice_topic.as_ref().filter(|text| !text.is_empty()) {
            check_notice_topic(text, &asked.topic)?;
        }
        let mut tx = self.store.begin().await?;
        let action = "SNS:SetTopicAttributes";
        let mut row = self.topic(&mut tx, caller, &asked.topic, action, true).await?;
        let policy_changes = asked.policy.as_ref().is_some_and(|policy| *policy != row.policy);
        row.policy = asked.policy.unwrap_or(row.policy);
        row.display_name = asked.display_name.unwrap_or(row.display_name);
        row.signature_version = asked.signature_version.unwrap_or(row.signature_version);
        if let Some(document) = asked.delivery_policy {
            row.delivery_policy = Some(document).filter(|text| !text.is_empty());
        }
        if let Some(text) = asked.notice_topic {
            row.notice_topic_arn = Some(text).filter(|text| !text.is_empty());
        }
        topics::update(&mut tx, &row).await?;
        if policy_changes {
            self.note_policy(&mut tx, &row).await?;
        }
        let topic = self.shown(&mut tx, row).await?;
        tx.commit().await?;
        self.decided.notify_one();
        Ok(topic)
    }

    /// Deletes a topic with its subscriptions; one of the caller's own that is not there is no fault.
    ///
    /// # Errors
    /// When it is another account's and not visible, or the policy denies it.
    pub async fn delete_topic(&self, caller: &Caller, arn: &TopicArn) -> Result<(), Error> {
        let (account, _) = caller.account()?;
        let mut tx = self.store.begin().await?;
        match self.topic(&mut tx, caller, arn, "SNS:DeleteTopic", true).await {
            Ok(_) => topics::delete(&mut tx, arn).await?,
            Err(Error::Refused(refusal))
                if refusal.code == Code::NotFound && arn.account() == account =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        tx.commit().await?;
        Ok(())
    }

    /// Notes that the topic's policy changed: the control plane asks again for notifications that the
    /// topic had refused (spec 7).
    pub(super) async fn note_policy(
        &self,
        db: &mut PgConnection,
        row: &TopicRow,
    ) -> Result<(), Error> {
        Ok(policy_changes::insert(db, &row.arn(), self.clock.now()).await?)
    }

    pub(super) async fn shown(&self, db: &mut PgConnection, row: TopicRow) -> Result<Topic, Error> {
        let counts = topics::counts(db, &[row.id]).await?.pop().unwrap_or_default();
        Ok(Topic { row, counts })
    }
}
