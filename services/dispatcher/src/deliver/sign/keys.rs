//! The keys over time: made when there is none, rotated, sealed, and followed by every replica.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use postern_runtime::shutdown::Stop;
use tokio::time::sleep;
use tracing::{info, warn};

use super::seal::SealingKey;
use super::{SignError, Signer};
use crate::error::Error;
use crate::store::Store;
use crate::store::signing_key::{self, SigningKeyRow};

/// How often a replica looks whether there is a newer key.
const LOOK: Duration = Duration::from_secs(5);

/// What the signing key is sealed with: the key in use, and the one before it while it is replaced.
#[derive(Clone, Debug, Default)]
pub struct Sealing {
    /// New keys are sealed with this one; without one they are kept in the clear.
    pub current: Option<SealingKey>,
    /// What was sealed with this one is opened, and sealed anew.
    pub previous: Option<SealingKey>,
}

/// The signer of the moment. Clones share it.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    store: Store,
    sealing: Arc<Sealing>,
    current: Arc<RwLock<(i64, Signer)>>,
}

/// The private key can't be had.
#[derive(Debug, thiserror::Error)]
enum KeyFault {
    #[error(
        "the signing key is sealed with the key {0}: set POSTERN_KEY_ENCRYPTION_KEY, or \
         POSTERN_KEY_ENCRYPTION_KEY_PREVIOUS, to that one"
    )]
    Missing(String),
    #[error("the signing key cannot be opened with the key {0}")]
    Open(String, #[source] super::seal::SealError),
    #[error("the signing key that is kept has no private part")]
    Empty,
    #[error("the signing key is gone")]
    Gone,
}

fn internal(error: impl Into<crate::error::Cause>) -> Error {
    Error::Internal(error.into())
}

impl SigningKeys {
    /// Finds the key that signs, and makes one when there is none. A key that is kept in the clear is
    /// sealed when the configuration has what to seal it with.
    ///
    /// # Errors
    /// When the store fails, or the key is sealed with one that the configuration hasn't.
    pub async fn obtain(
        store: &Store,
        sealing: Sealing,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let sealing = Arc::new(sealing);
        let mut row = in_use(store).await?;
        if row.is_none() {
            info!("making the key that signs messages");
            let made = generate(now, &sealing).await?;
            let mut db = store.connection().await?;
            signing_key::insert(&mut db, &made).await?;
            drop(db);
            // Another replica may have been faster: what is kept counts.
            row = in_use(store).await?;
        }
        let row = row.ok_or_else(|| internal(KeyFault::Gone))?;
        let signer = signer(store, &sealing, &row).await?;
        let current = Arc::new(RwLock::new((row.id, signer)));
        Ok(Self { store: store.clone(), sealing, current })
    }

    /// The signer of the moment. A message is signed and shows a certificate by one of them.
    pub fn current(&self) -> Signer {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The certificate of this name, of whichever key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn certificate(&self, name: &str) -> Result<Option<String>, Error> {
        let current = self.current();
        if current.certificate_name() == name {
            return Ok(Some(current.certificate_pem().to_owned()));
        }
        let Some(digest) = super::digest_in_name(name).filter(|digest| digest.len() == 32) else {
            return Ok(None);
        };
        let mut db = self.store.connection().await?;
        Ok(signing_key::certificate(&mut db, digest).await?)
    }

    /// Takes over a newer key, if there is one.
    ///
    /// # Errors
    /// When the store fails, or the key can't be opened.
    pub async fn refresh(&self) -> Result<(), Error> {
        let Some(row) = in_use(&self.store).await? else { return Ok(()) };
        if row.id == self.current.read().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(());
        }
        let signer = signer(&self.store, &self.sealing, &row).await?;
        info!(certificate = signer.certificate_name(), "another key signs messages now");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (row.id, signer);
        Ok(())
    }

    /// Follows the key until asked to stop.
    pub(crate) async fn follow(self, stop: Stop) -> anyhow::Result<()> {
        while !stop.is_stopping() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = stop.stopped() => return Ok(()),
            }
            if let Err(error) = self.refresh().await {
                let error = anyhow::Error::from(error);
                warn!(error = format!("{error:#}"), "cannot look for a newer signing key");
            }
        }
        Ok(())
    }
}

/// Replaces the key that signs. Replicas follow within seconds; the certificate of the one before stays
/// public until what it signed is out of use. Answers the new certificate's name.
///
/// # Errors
/// When the store fails.
pub async fn rotate(store: &Store, sealing: &Sealing, now: DateTime<Utc>) -> Result<String, Error> {
    let made = generate(now, sealing).await?;
    let mut tx = store.begin().await?;
    signing_key::retire(&mut tx, now).await?;
    signing_key::insert(&mut tx, &made).await?;
    tx.commit().await?;
    Ok(super::certificate_name(&made.certificate_sha256))
}

async fn in_use(store: &Store) -> Result<Option<SigningKeyRow>, Error> {
    let mut db = store.connection().await?;
    let all = signing_key::list(&mut db).await?;
    Ok(all.into_iter().find(|row| row.retired_at.is_none()))
}

async fn generate(now: DateTime<Utc>, sealing: &Sealing) -> Result<SigningKeyRow, Error> {
    let made = tokio::task::spawn_blocking(move || super::generate(now));
    let mut made = made.await.map_err(internal)?.map_err(internal)?;
    if let Some(key) = &sealing.current
        && let Some(pem) = made.private_key_pem.take()
    {
        made.sealed = Some(key.seal(&pem, &made.certificate_sha256).map_err(internal)?);
        made.sealed_with = Some(key.id().to_owned());
    }
    Ok(made)
}

/// The signer of a row. What is kept otherwise than the configuration says is sealed now.
async fn signer(store: &Store, sealing: &Sealing, row: &SigningKeyRow) -> Result<Signer, Error> {
    let pem = open(sealing, row).map_err(internal)?;
    let current = sealing.current.as_ref();
    if let Some(key) = current.filter(|key| row.sealed_with.as_deref() != Some(key.id())) {
        let sealed = key.seal(&pem, &row.certificate_sha256).map_err(internal)?;
        let mut db = store.connection().await?;
        signing_key::seal(&mut db, row.id, &sealed, key.id()).await?;
        info!(key = key.id(), "the signing key is sealed now");
    }
    let row = SigningKeyRow { private_key_pem: Some(pem), ..row.clone() };
    let made = tokio::task::spawn_blocking(move || Signer::new(&row));
    let made: Result<Signer, SignError> = made.await.map_err(internal)?;
    made.map_err(internal)
}

fn open(sealing: &Sealing, row: &SigningKeyRow) -> Result<String, KeyFault> {
    let (Some(sealed), Some(with)) = (&row.sealed, &row.sealed_with) else {
        return row.private_key_pem.clone().ok_or(KeyFault::Empty);
    };
    let key = [&sealing.current, &sealing.previous]
        .into_iter()
        .flatten()
        .find(|key| key.id() == with)
        .ok_or_else(|| KeyFault::Missing(with.clone()))?;
    key.open(sealed, &row.certificate_sha256).map_err(|error| KeyFault::Open(with.clone(), error))
}
