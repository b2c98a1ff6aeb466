//! A process's own certificate and key, on disk and in use.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, iter};

use chrono::{DateTime, Utc};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{SpiffeId, TlsError, files, provider};
use crate::config::Secret;

/// The one file of an identity, so that key, certificate and trust change in one step.
const FILE: &str = "identity.pem";

/// A new key, and the request to have it certified.
#[derive(Debug)]
pub struct KeyAndCsr {
    /// The private key, PKCS #8 PEM. It never leaves the process that made it.
    pub key_pem: Secret,
    /// The certificate request, PKCS #10 PEM.
    pub csr_pem: String,
}

/// A certificate with a SPIFFE id, its key, and the authority that its peers are checked against.
pub struct Identity {
    cert_pem: String,
    key_pem: Secret,
    ca_pem: String,
    spiffe: SpiffeId,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    /// Makes a P-256 key and a request for a certificate that names `spiffe`. The authority decides
    /// the name; it is in the request for people who look at it.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn generate_csr(spiffe: &SpiffeId) -> Result<KeyAndCsr, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Postern");
        params.subject_alt_names.push(SanType::URI(spiffe.as_str().try_into()?));
        let csr_pem = params.serialize_request(&key)?.pem()?;
        Ok(KeyAndCsr { key_pem: Secret::new(key.serialize_pem()), csr_pem })
    }

    /// Puts an identity together: the certificate (its own first, then any intermediates), the key,
    /// and the authority's certificate, all PEM.
    ///
    /// # Errors
    /// When one is malformed, the key is another certificate's, the certificate has no SPIFFE id, or
    /// this authority did not sign it. Expiry is not checked: peers do that.
    pub fn new(cert_pem: String, key_pem: Secret, ca_pem: String) -> Result<Self, TlsError> {
        let chain = certificates("certificate", &cert_pem)?;
        let leaf = chain.first().ok_or_else(|| malformed("certificate", "it is empty"))?;
        let spiffe = SpiffeId::of_certificate(leaf)
            .ok_or_else(|| malformed("certificate", "it names no SPIFFE id of ours"))?;
        let (not_before, not_after) = validity(leaf)?;
        let roots = Arc::new(roots(&ca_pem)?);

        let provider = provider();
        let begins = u64::try_from(not_before.timestamp()).unwrap_or(0);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &roots,
            &chain[1..],
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(begins)),
            provider.signature_verification_algorithms.all,
        )?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes())
            .map_err(|error| malformed("private key", error))?;
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let (cert_pem, ca_pem) = (with_newline(cert_pem), with_newline(ca_pem));
        Ok(Self { cert_pem, key_pem, ca_pem, spiffe, not_before, not_after, certified, roots })
    }

    /// Loads the identity that [`Identity::save`] wrote to the directory; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is malformed.
    pub fn load(dir: &Path) -> Result<Option<Self>, TlsError> {
        let Some(bundle) = files::read(&dir.join(FILE))? else { return Ok(None) };
        let mut sections = bundle.split_inclusive(SEPARATOR);
        let mut section = || sections.next().unwrap_or_default().replace(SEPARATOR, "");
        let (key_pem, cert_pem, ca_pem) = (section(), section(), section());
        Self::new(cert_pem, Secret::new(key_pem), ca_pem).map(Some)
    }

    /// Writes the identity to `identity.pem` in the directory, for its owner alone, in one step.
    ///
    /// # Errors
    /// When the directory or the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), TlsError> {
        files::ensure_dir(dir)?;
        let bundle =
            [self.key_pem.expose(), self.cert_pem.as_str(), self.ca_pem.as_str()].join(SEPARATOR);
        files::write(&dir.join(FILE), &bundle, files::PRIVATE)
    }

    /// Who this is.
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// The certificate with any intermediates, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key, PEM.
    pub fn key_pem(&self) -> &Secret {
        &self.key_pem
    }

    /// The authority that peers are checked against, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// When the certificate expires.
    pub fn not_after(&self) -> DateTime<Utc> {
        self.not_after
    }

    /// When to ask for the next certificate: after two thirds of this one's life, so that a third is
    /// left for an authority that is away.
    pub fn renew_at(&self) -> DateTime<Utc> {
        self.not_before + (self.not_after - self.not_before) * 2 / 3
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }
}

/// Between the parts of the file. PEM parsers skip text outside of the encapsulation boundaries
/// (RFC 7468, section 2), so other tools can read the file as well.
const SEPARATOR: &str = "# --- key, certificate, authority ---\n";

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("spiffe", &self.spiffe)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The present identity of a process. Clones share it; servers and clients that were built with it
/// use a replacement from their next handshake on, and open connections stay.
#[derive(Clone, Debug)]
pub struct IdentityHandle(Arc<RwLock<Arc<Identity>>>);

impl IdentityHandle {
    /// Starts with this identity.
    pub fn new(identity: Identity) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(identity))))
    }

    /// The identity that the next handshake uses.
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the identity.
    pub fn replace(&self, identity: Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }
}

pub(super) fn malformed(what: &'static str, reason: impl fmt::Display) -> TlsError {
    TlsError::Pem { what, reason: reason.to_string() }
}

pub(super) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(what, error))
}

/// The trust in every certificate of the PEM text, of which there must be one.
pub(super) fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority's certificate", ca_pem)? {
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        return Err(malformed("authority's certificate", "it is empty"));
    }
    Ok(roots)
}

fn validity(leaf: &CertificateDer<'_>) -> Result<(DateTime<Utc>, DateTime<Utc>), TlsError> {
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| malformed("certificate", error))?;
    let at = |time: x509_parser::time::ASN1Time| {
        DateTime::from_timestamp(time.timestamp(), 0)
            .ok_or_else(|| malformed("certificate", "its dates are out of range"))
    };
    Ok((at(parsed.validity().not_before)?, at(parsed.validity().not_after)?))
}

fn with_newline(text: String) -> String {
    if text.ends_with('\n') { text } else { text.chars().chain(iter::once('\n')).collect() }
}
