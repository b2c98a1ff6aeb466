//! Single statements of a topic's policy: added and removed by a label.

use postern_model::arn::TopicArn;
use postern_model::policy::{PermissionFault, add_permission, remove_permission};
use postern_model::{AccountId, Code, Refusal};

use super::{App, Topic};
use crate::caller::Caller;
use crate::error::Error;
use crate::store::topics::{self, TopicRow};

/// Asks for a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPermission {
    /// The topic.
    pub topic: TopicArn,
    /// The statement's `Sid`.
    pub label: String,
    /// Who is allowed.
    pub accounts: Vec<AccountId>,
    /// What: `Publish`.
    pub actions: Vec<String>,
}

/// Asks to take a statement away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovePermission {
    /// The topic.
    pub topic: TopicArn,
    /// The statement's `Sid`.
    pub label: String,
}

fn refused(fault: &PermissionFault) -> Error {
    let (code, field) = match fault {
        PermissionFault::Label | PermissionFault::Exists(_) => (Code::InvalidParameter, "label"),
        PermissionFault::NoAccount => (Code::InvalidParameter, "account_ids"),
        PermissionFault::NoAction | PermissionFault::UnknownAction(_) => {
            (Code::InvalidParameter, "action_names")
        }
        PermissionFault::NoSuchLabel(_) => (Code::NotFound, "label"),
        PermissionFault::Policy(_) => (Code::InvalidParameter, "policy"),
    };
    Refusal::of_field(code, field, format!("Invalid parameter: {fault}")).into()
}

impl App {
    /// Adds a statement to a topic's policy.
    ///
    /// # Errors
    /// When there is no such topic, the label is taken (`InvalidParameter`), an action is none of a
    /// topic's, or the policy would be too large.
    pub async fn add_permission(
        &self,
        caller: &Caller,
        asked: AddPermission,
    ) -> Result<Topic, Error> {
        let AddPermission { topic, label, accounts, actions } = asked;
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        self.change_policy(caller, &topic, "SNS:AddPermission", |row| {
            add_permission(&row.policy, &topic, &label, &accounts, &actions)
        })
        .await
    }

    /// Removes the statement of a label from a topic's policy.
    ///
    /// # Errors
    /// When there is no such topic, or no statement of the label (`NotFound`).
    pub async fn remove_permission(
        &self,
        caller: &Caller,
        asked: RemovePermission,
    ) -> Result<Topic, Error> {
        let RemovePermission { topic, label } = asked;
        self.change_policy(caller, &topic, "SNS:RemovePermission", |row| {
            remove_permission(&row.policy, &label)
        })
        .await
    }

    async fn change_policy(
        &self,
        caller: &Caller,
        arn: &TopicArn,
        action: &str,
        change: impl FnOnce(&TopicRow) -> Result<String, PermissionFault>,
    ) -> Result<Topic, Error> {
        let mut tx = self.store.begin().await?;
        // Held, so that of two changes at a time neither is lost.
        let mut row = self.topic(&mut tx, caller, arn, action, true).await?;
        row.policy = change(&row).map_err(|fault| refused(&fault))?;
        topics::update(&mut tx, &row).await?;
        self.note_policy(&mut tx, &row).await?;
        let topic = self.shown(&mut tx, row).await?;
        tx.commit().await?;
        self.decided.notify_one();
        Ok(topic)
    }
}
