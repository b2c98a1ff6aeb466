//! Signing messages as SNS does (spec 8.3).
//!
//! One RSA key signs everything, with SHA-256 (version 2) or SHA-1 (version 1), by what the topic
//! asks for. The certificate is public under a name that is made from it, so that a receiver who
//! kept it notices a new one. ring signs with SHA-256 alone, and fast; SHA-1 is the `rsa` crate's.

use std::sync::Arc;

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
use tokio::sync::Semaphore;

use crate::error::Cause;
use crate::store::signing_key::SigningKeyRow;

/// The length of the key, as SNS's.
const BITS: usize = 2048;

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
    Ok(SigningKeyRow { private_key_pem: pem, certificate_pem: certificate.pem() })
}

impl Signer {
    /// A signer with a key that was [generated](generate) before.
    ///
    /// # Errors
    /// When the PEM texts are not what they should be.
    pub fn new(row: &SigningKeyRow) -> Result<Self, SignError> {
        let ring = KeyPair::from_pkcs8_pem_and_sign_algo(&row.private_key_pem, &PKCS_RSA_SHA256)
            .map_err(fault("reading it"))?;
        let key =
            RsaPrivateKey::from_pkcs8_pem(&row.private_key_pem).map_err(fault("reading it"))?;
        let digest = Sha256::digest(row.certificate_pem.as_bytes());
        let certificate_name =
            format!("SimpleNotificationService-{}.pem", hex::encode(&digest[..16]));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self(Arc::new(Keys {
            ring,
            sha1: SigningKey::new(key),
            certificate_pem: row.certificate_pem.clone(),
            certificate_name,
            places: Semaphore::new(cores),
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

    /// Signs a canonical text, off the runtime's threads; the answer is Base64.
    ///
    /// # Errors
    /// When the key can't be used.
    pub async fn sign(&self, version: SignatureVersion, text: String) -> Result<String, SignError> {
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
