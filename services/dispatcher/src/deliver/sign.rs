//! Signing messages as SNS does (spec 8.3).
//!
//! One RSA key signs at a time, with SHA-256 (version 2) or SHA-1 (version 1), by what the topic asks
//! for. Its certificate is public under a name that is made from it, so that a receiver who kept it
//! notices a new one; those of earlier keys stay public ([`keys`]). ring signs with SHA-256 alone, and
//! fast; SHA-1 is the `rsa` crate's.
//!
//! What is signed has nothing of a subscription, so that all subscriptions of a topic share one
//! signature of each message: the signer remembers the newest.

pub mod keys;
pub mod seal;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Datelike as _, Utc};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, SigningKey as _, date_time_ymd};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use crate::error::Cause;
use crate::store::signing_key::SigningKeyRow;

/// The length of the key, as SNS's.
const BITS: usize = 2048;
/// Signatures that are remembered, with 344 bytes each.
const REMEMBERED: usize = 4096;

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVersion {
    /// RSA with SHA-1.
    One,
    /// RSA with SHA-256.
    Two,
}

impl SignatureVersion {
    /// The version of the number that is kept; what isn't 1 is signed well.
    pub fn of(number: i16) -> Self {
        if number == 1 { Self::One } else { Self::Two }
    }

    /// As messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }
}

/// The key can't be made, read or used.
#[derive(Debug, thiserror::Error)]
#[error("the signing key: {what}")]
pub struct SignError {
    what: &'static str,
    #[source]
    source: Cause,
}

fn fault<E: Into<Cause>>(what: &'static str) -> impl FnOnce(E) -> SignError {
    move |source| SignError { what, source: source.into() }
}

struct Keys {
    ring: KeyPair,
    sha1: SigningKey<Sha1>,
    certificate_pem: String,
    certificate_name: String,
    /// A signature takes half a millisecond of a core: no more at a time than there are cores.
    places: Semaphore,
    remembered: Mutex<Remembered>,
}

/// The newest signatures, by what they sign.
#[derive(Default)]
struct Remembered {
    signatures: HashMap<[u8; 32], Arc<OnceCell<String>>>,
    order: VecDeque<[u8; 32]>,
}

impl Remembered {
    fn cell(&mut self, digest: [u8; 32]) -> Arc<OnceCell<String>> {
        if let Some(cell) = self.signatures.get(&digest) {
            return Arc::clone(cell);
        }
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.signatures.remove(&oldest);
        }
        self.order.push_back(digest);
        Arc::clone(self.signatures.entry(digest).or_default())
    }
}

/// Signs messages. Clones share the key.
#[derive(Clone)]
pub struct Signer(Arc<Keys>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("certificate", &self.0.certificate_name)
            .finish_non_exhaustive()
    }
}

/// Makes a key and its certificate, which are for good. Takes seconds of a core.
///
/// # Errors
/// When the machine has no randomness to give.
pub fn generate(now: DateTime<Utc>) -> Result<SigningKeyRow, SignError> {
    let key = RsaPrivateKey::new(&mut OsRng, BITS).map_err(fault("making it"))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(fault("encoding it"))?.to_string();
    let pair =
        KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).map_err(fault("using it"))?;
    let mut params = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()])
        .map_err(fault("its certificate"))?;
    params.distinguished_name.push(DnType::CommonName, "Postern notifications");
    // Receivers check the signature with it, and at most its dates: it lives as long as the key.
    params.not_before = date_time_ymd(now.year() - 1, 1, 1);
    params.not_after = date_time_ymd(now.year() + 30, 1, 1);
    let certificate = params.self_signed(&pair).map_err(fault("signing its certificate"))?;
    let certificate_pem = certificate.pem();
    Ok(SigningKeyRow {
        id: 0, // The database gives it one.
        private_key_pem: Some(pem),
        sealed: None,
        sealed_with: None,
        certificate_sha256: hex::encode(Sha256::digest(certificate_pem.as_bytes())),
        certificate_pem,
        created_at: now,
        retired_at: None,
    })
}

/// The name of a certificate in addresses, from the SHA-256 of its text.
fn certificate_name(sha256: &str) -> String {
    format!("SimpleNotificationService-{}.pem", sha256.get(..32).unwrap_or(sha256))
}

/// The beginning of the SHA-256 in such a name.
pub fn digest_in_name(name: &str) -> Option<&str> {
    name.strip_prefix("SimpleNotificationService-")?.strip_suffix(".pem")
}

impl Signer {
    /// A signer with a key that was [generated](generate) before, its private part in the clear.
    ///
    /// # Errors
    /// When the PEM texts are not what they should be.
    pub fn new(row: &SigningKeyRow) -> Result<Self, SignError> {
        let pem =
            row.private_key_pem.as_deref().ok_or_else(|| fault("reading it")("it is sealed"))?;
        let ring = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_RSA_SHA256)
            .map_err(fault("reading it"))?;
        let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(fault("reading it"))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self(Arc::new(Keys {
            ring,
            sha1: SigningKey::new(key),
            certificate_pem: row.certificate_pem.clone(),
            certificate_name: certificate_name(&row.certificate_sha256),
            places: Semaphore::new(cores),
            remembered: Mutex::default(),
        })))
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate_pem
    }

    /// The name under which the certificate is served.
    pub fn certificate_name(&self) -> &str {
        &self.0.certificate_name
    }

    /// Signs a canonical text, off the runtime's threads; the answer is Base64. A text that was signed
    /// a moment ago, or is being signed, is not signed again.
    ///
    /// # Errors
    /// When the key can't be used.
    pub async fn sign(&self, version: SignatureVersion, text: String) -> Result<String, SignError> {
        let digest = Sha256::new_with_prefix(version.as_str()).chain_update(&text).finalize();
        let cell = {
            let mut remembered = self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.cell(digest.into())
        };
        cell.get_or_try_init(|| self.sign_anew(version, text)).await.cloned()
    }

    async fn sign_anew(
        &self,
        version: SignatureVersion,
        text: String,
    ) -> Result<String, SignError> {
        let keys = Arc::clone(&self.0);
        let _place = self.0.places.acquire().await.map_err(fault("waiting for a core"))?;
        tokio::task::spawn_blocking(move || {
            let signature = match version {
                SignatureVersion::One => keys
                    .sha1
                    .try_sign_with_rng(&mut OsRng, text.as_bytes())
                    .map_err(fault("signing"))?
                    .to_vec(),
                SignatureVersion::Two => {
                    keys.ring.sign(text.as_bytes()).map_err(fault("signing"))?
                }
            };
            Ok(STANDARD.encode(signature))
        })
        .await
        .map_err(fault("signing"))?
    }
}
