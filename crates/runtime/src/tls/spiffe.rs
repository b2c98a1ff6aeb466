//! SPIFFE ids of the trust domain `postern`.

use std::fmt::{self, Display};
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const HOST: &str = "spiffe://postern/host/";
const SERVICE: &str = "spiffe://postern/service/";

/// SPIFFE ids may have 2048 bytes; ours name a host or a service.
const LONGEST_NAME: usize = 128;

/// The id of a host (`spiffe://postern/host/<id>`) or of a service
/// (`spiffe://postern/service/<name>`), as the SPIFFE ID standard shapes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId(String); // Invariant: HOST or SERVICE followed by a checked name.

/// A text is no SPIFFE id of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a SPIFFE id such as spiffe://postern/host/<id> or spiffe://postern/service/<name>"
)]
pub struct InvalidSpiffeId(String);

impl SpiffeId {
    /// The id of a host.
    ///
    /// # Errors
    /// When `id` has anything but letters, digits, dots, dashes and underscores.
    pub fn host(id: &str) -> Result<Self, InvalidSpiffeId> {
        format!("{HOST}{id}").parse()
    }

    /// The id of a service, such as `control-plane`.
    ///
    /// # Errors
    /// As [`SpiffeId::host`].
    pub fn service(name: &str) -> Result<Self, InvalidSpiffeId> {
        format!("{SERVICE}{name}").parse()
    }

    /// The host's id, if this is a host.
    pub fn as_host(&self) -> Option<&str> {
        self.0.strip_prefix(HOST)
    }

    /// The service's name, if this is a service.
    pub fn as_service(&self) -> Option<&str> {
        self.0.strip_prefix(SERVICE)
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in a certificate's subject alternative names. SPIFFE's X.509 standard (section 2)
    /// allows exactly one URI there: with more, none is believed.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse().ok(),
            _ => None,
        }
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let name = text.strip_prefix(HOST).or_else(|| text.strip_prefix(SERVICE));
        // The standard forbids `.` and `..` as path segments.
        let valid = name.is_some_and(|name| {
            (1..=LONGEST_NAME).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                && name.bytes().any(|b| b != b'.')
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSpiffeId(shorten(text))) }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
