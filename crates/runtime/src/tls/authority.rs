//! The certificate authority: one key, kept in a directory, that signs identities.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::{info, warn};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Identity, SpiffeId, TlsError, files};
use crate::clock::Clock;
use crate::config::Secret;

/// How long the authority's own certificate is valid: the life of a deployment.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin this long before they are issued, for peers whose clock is behind.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// A request of the largest allowed key takes less than 1 KiB.
const MAX_CSR_BYTES: usize = 16 * 1024;
/// Names in a server certificate.
const MAX_NAMES: usize = 64;
/// How long to wait for another replica that is creating the authority in the same directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);

/// A certificate authority that signs identities of the trust domain.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    not_after: DateTime<Utc>,
    clock: Arc<dyn Clock>,
}

impl Authority {
    /// Loads the authority from `ca.pem` and `ca.key` in `dir`, or creates both. Replicas that start
    /// together on one directory end with one authority: a lock file lets one of them create it.
    /// Blocks on the disk, and on that lock for at most 20 s.
    ///
    /// # Errors
    /// When the files cannot be read or written, do not belong together, or have expired.
    pub fn load_or_create(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        files::ensure_dir(dir)?;
        let _lock = lock(&dir.join("ca.lock"))?;
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        let bad = |reason: String| TlsError::Authority { path: dir.to_owned(), reason };
        let (key, fresh) = match (files::read(&key_path)?, files::read(&cert_path)?) {
            (Some(key_pem), Some(ca_pem)) => {
                if files::is_open_to_others(&key_path) {
                    warn!(path = %key_path.display(), "the authority's key is readable by others");
                }
                let key = KeyPair::from_pem(&key_pem).map_err(|e| bad(format!("ca.key: {e}")))?;
                return Self::from_parts(key, ca_pem, clock).map_err(bad);
            }
            // The key is written first, so this is a creation that was cut short.
            (Some(key_pem), None) => {
                (KeyPair::from_pem(&key_pem).map_err(|e| bad(format!("ca.key: {e}")))?, false)
            }
            (None, Some(_)) => return Err(bad("ca.pem is there but ca.key is missing".to_owned())),
            (None, None) => (KeyPair::generate()?, true),
        };
        let ca_pem = certificate_of_authority(&key, clock.now())?;
        if fresh {
            files::write(&key_path, &key.serialize_pem(), files::PRIVATE)?;
        }
        files::write(&cert_path, &ca_pem, files::PUBLIC)?;
        info!(path = %dir.display(), "created a certificate authority");
        Self::from_parts(key, ca_pem, clock).map_err(bad)
    }

    /// An authority that lives in memory alone, for a process that composes everything and for tests.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn ephemeral(clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let ca_pem = certificate_of_authority(&key, clock.now())?;
        Self::from_parts(key, ca_pem, clock)
            .map_err(|reason| TlsError::Pem { what: "authority", reason })
    }

    fn from_parts(key: KeyPair, ca_pem: String, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let ca_der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|error| format!("ca.pem: {error}"))?;
        let not_after = {
            let (_, parsed) =
                X509Certificate::from_der(&ca_der).map_err(|error| format!("ca.pem: {error}"))?;
            if !parsed.is_ca() {
                return Err("ca.pem is not the certificate of an authority".to_owned());
            }
            if parsed.public_key().raw != key.subject_public_key_info() {
                return Err("ca.key does not belong to ca.pem".to_owned());
            }
            DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        };
        if not_after <= clock.now() {
            return Err(format!("ca.pem has expired at {not_after}"));
        }
        let issuer =
            Issuer::from_ca_cert_der(&ca_der, key).map_err(|error| format!("ca.pem: {error}"))?;
        Ok(Self { issuer, ca_pem, ca_der, not_after, clock })
    }

    /// Writes the certificate, and nothing else, as `ca.pem` into `dir`, which is made when it is not
    /// there: for peers that must see what to trust and never the key. Blocks on the disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self, dir: &Path) -> Result<(), TlsError> {
        files::ensure_open_dir(dir)?;
        files::write(&dir.join("ca.pem"), &self.ca_pem, files::PUBLIC)
    }

    /// The authority's certificate, PEM: what peers trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's certificate, DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// Signs a certificate for the key in a request (PKCS #10, PEM), valid as a client and as a
    /// server. Only the public key is taken from the request: the name is `spiffe`, the lifetime ours.
    /// It ends no later than the authority's own.
    ///
    /// # Errors
    /// [`TlsError::Request`] when the request is malformed, not signed by its key, or its key is none
    /// of P-256, P-384 and Ed25519.
    pub fn issue(
        &self,
        csr_pem: &str,
        spiffe: &SpiffeId,
        lifetime: Duration,
    ) -> Result<String, TlsError> {
        self.issue_server(csr_pem, spiffe, &[], lifetime)
    }

    /// As [`Authority::issue`], with DNS names and IP addresses for clients that check those.
    ///
    /// # Errors
    /// As [`Authority::issue`]; [`TlsError::Name`] for a name that is neither.
    pub fn issue_server(
        &self,
        csr_pem: &str,
        spiffe: &SpiffeId,
        names: &[String],
        lifetime: Duration,
    ) -> Result<String, TlsError> {
        if csr_pem.len() > MAX_CSR_BYTES {
            return Err(TlsError::Request(format!("it is longer than {MAX_CSR_BYTES} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| TlsError::Request(error.to_string()))?;
        let algorithm: &SignatureAlgorithm = request.public_key.algorithm();
        let allowed =
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !allowed.contains(&algorithm) {
            let reason = "its key must be ECDSA P-256, ECDSA P-384 or Ed25519".to_owned();
            return Err(TlsError::Request(reason));
        }
        self.sign(&request.public_key, spiffe, names, lifetime)
    }

    /// Makes a key here and signs a certificate for it: for the process that holds the authority.
    ///
    /// # Errors
    /// As [`Authority::issue_server`].
    pub fn issue_identity(
        &self,
        spiffe: &SpiffeId,
        names: &[String],
        lifetime: Duration,
    ) -> Result<Identity, TlsError> {
        let key = KeyPair::generate()?;
        let cert_pem = self.sign(&key, spiffe, names, lifetime)?;
        Identity::new(cert_pem, Secret::new(key.serialize_pem()), self.ca_pem.clone())
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        spiffe: &SpiffeId,
        names: &[String],
        lifetime: Duration,
    ) -> Result<String, TlsError> {
        if names.len() > MAX_NAMES {
            return Err(TlsError::Name(format!("{} names, at most {MAX_NAMES}", names.len())));
        }
        let now = self.clock.now();
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Postern");
        params.subject_alt_names.push(SanType::URI(spiffe.as_str().try_into()?));
        for name in names {
            params.subject_alt_names.push(alternative(name)?);
        }
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now - SKEW);
        let not_after = later(now, lifetime).min(self.not_after);
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn certificate_of_authority(key: &KeyPair, now: DateTime<Utc>) -> Result<String, TlsError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial());
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Postern");
    // Two deployments' authorities differ by name, so that a wrong one is a clear error.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Postern authority {}", Uuid::new_v4().simple()));
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now - SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(later(now, CA_LIFETIME));
    // It signs end entities only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.pem())
}

/// RFC 5280, 4.1.2.2: unique per certificate, positive, at most 20 octets.
fn serial() -> SerialNumber {
    let mut bytes = Uuid::new_v4().into_bytes();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn alternative(name: &str) -> Result<SanType, TlsError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    match rustls_pki_types::DnsName::try_from(name) {
        Ok(_) => Ok(SanType::DnsName(name.try_into()?)),
        Err(_) => Err(TlsError::Name(name.to_owned())),
    }
}

fn later(now: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = chrono::Duration::from_std(by).ok();
    by.and_then(|by| now.checked_add_signed(by)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The time since 1970: added to rcgen's 1970-01-01 it is X.509's time, to the second.
fn since_epoch(at: DateTime<Utc>) -> Duration {
    Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or(0))
}

fn lock(path: &Path) -> Result<File, TlsError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(files::PRIVATE)
        .open(path)
        .map_err(files::fault(path, "opened"))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(files::fault(path, "locked")(std::io::ErrorKind::TimedOut.into()));
            }
            Err(TryLockError::Error(error)) => return Err(files::fault(path, "locked")(error)),
        }
    }
}
