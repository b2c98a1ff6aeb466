//! The secrets that messages to web addresses are signed with (Standard Webhooks). Only the
//! subscription's owner sees them: the topic's owner has no business with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use postern_model::arn::SubscriptionArn;
use postern_model::{Code, Refusal};
use rand::RngCore as _;

use super::SubscriptionProtocol;
use crate::app::App;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::subscriptions;

/// The bytes of a secret; the specification of Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;
/// How long a replaced secret signs too, when nothing is said.
const OVERLAP: chrono::Duration = chrono::Duration::hours(24);
/// The longest that it may.
const MAX_OVERLAP: chrono::Duration = chrono::Duration::days(7);

/// A secret, as its owner sees it.
#[derive(Clone, PartialEq, Eq)]
pub struct SubscriptionSecret {
    /// `whsec_` and base64.
    pub secret: String,
    /// Until when the one before it signs too.
    pub previous_until: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for SubscriptionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriptionSecret")
            .field("previous_until", &self.previous_until)
            .finish_non_exhaustive()
    }
}

/// A new secret: `whsec_` and base64.
pub(super) fn generate() -> String {
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    format!("whsec_{}", STANDARD.encode(bytes))
}

fn none() -> Error {
    let why = "only subscriptions of http and https have a secret";
    Refusal::of_field(Code::InvalidParameter, "subscription_arn", why).into()
}

impl App {
    /// The secret of one of the caller's subscriptions.
    ///
    /// # Errors
    /// When there is no such subscription, or it is of mail.
    pub async fn get_subscription_secret(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
    ) -> Result<SubscriptionSecret, Error> {
        let now = self.clock.now();
        let mut db = self.store.connection().await?;
        let row = subscriptions::find(&mut db, arn).await?;
        let row = self.owned(caller, arn, row)?;
        let found = subscriptions::secret(&mut db, row.id).await?;
        Ok(SubscriptionSecret {
            secret: found.webhook_secret.ok_or_else(none)?,
            previous_until: found.webhook_secret_previous_until.filter(|until| now < *until),
        })
    }

    /// Makes a new secret for one of the caller's subscriptions; the present one signs too for
    /// `overlap`, 24 hours when that is not said.
    ///
    /// # Errors
    /// When there is no such subscription, it is of mail, or the overlap is longer than 7 days.
    pub async fn rotate_subscription_secret(
        &self,
        caller: &Caller,
        arn: &SubscriptionArn,
        overlap: Option<chrono::Duration>,
    ) -> Result<SubscriptionSecret, Error> {
        let overlap = overlap.unwrap_or(OVERLAP);
        if overlap < chrono::Duration::zero() || overlap > MAX_OVERLAP {
            let why = "must be from 0 to 7 days";
            return Err(Refusal::of_field(Code::InvalidParameter, "overlap", why).into());
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let row = subscriptions::lock(&mut tx, arn).await?;
        let row = self.owned(caller, arn, row)?;
        if SubscriptionProtocol::of(&row.protocol).is_mail() {
            return Err(none());
        }
        let secret = generate();
        let previous_until = (overlap > chrono::Duration::zero()).then(|| now + overlap);
        subscriptions::rotate_secret(&mut tx, row.id, &secret, previous_until).await?;
        tx.commit().await?;
        Ok(SubscriptionSecret { secret, previous_until })
    }
}
