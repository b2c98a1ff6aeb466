//! Who may have an identity: whoever knows the join token, and whoever has one already.
//!
//! The join token lets in a machine under any host's name, and the control plane's own services: it is
//! for the operator's hands. A certificate lets its holder have the next one for the same name, unless
//! the operator has removed the host meanwhile.

use postern_model::field::InvalidField;
use postern_model::id::HostId;
use postern_model::zone::ZoneId;
use postern_model::{Code, field};
use postern_proto::agent::v1::enrolment_service_server::EnrolmentService;
use postern_proto::agent::v1::{EnrolRequest, EnrolResponse};
use postern_proto::time::timestamp;
use postern_runtime::config::Secret;
use postern_runtime::tls::{SpiffeId, TlsError, peer_spiffe};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::{CERTIFICATE_LIFETIME, Fleet, SERVICES};
use crate::error::{Error, Result};
use crate::store::reports;

/// A name that DNS could hold (RFC 1035): 253 characters.
const NAME_MAX: usize = 253;

/// Serves enrolment.
pub(super) struct Enrolment(pub(super) Fleet);

/// Who wants an identity.
enum Applicant {
    Host { name: String, zone: ZoneId },
    Service(&'static str),
}

/// What is asked for.
struct Enrol {
    applicant: Option<Applicant>,
    join_token: Option<Secret>,
    csr: String,
}

impl TryFrom<EnrolRequest> for Enrol {
    type Error = InvalidField;

    fn try_from(request: EnrolRequest) -> Result<Self, InvalidField> {
        let EnrolRequest {
            host_name,
            availability_zone_id,
            join_token,
            certificate_signing_request: csr,
            service_name,
        } = request;
        if csr.is_empty() {
            return Err(InvalidField::new("certificate_signing_request", "is missing"));
        }
        let applicant = match (host_name.is_empty(), service_name.is_empty()) {
            (false, false) => {
                let reason = "must not come with `host_name`: enrol one or the other";
                return Err(InvalidField::new("service_name", reason));
            }
            (true, true) => None,
            (true, false) => {
                let known = SERVICES.into_iter().find(|known| *known == service_name);
                let reason = format!("is no service that enrols: expected {}", SERVICES.join(", "));
                Some(Applicant::Service(
                    known.ok_or_else(|| InvalidField::new("service_name", reason))?,
                ))
            }
            (false, true) => {
                if !is_host_name(&host_name) {
                    let reason = "must be a DNS name: lower-case letters, digits, dashes and dots, \
                                  at most 253 characters";
                    return Err(InvalidField::new("host_name", reason));
                }
                let zone = field::parse("availability_zone_id", &availability_zone_id)?;
                Some(Applicant::Host { name: host_name, zone })
            }
        };
        let join_token = (!join_token.is_empty()).then(|| Secret::new(join_token));
        Ok(Self { applicant, join_token, csr })
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_MAX && name.split('.').all(label)
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let peer = peer_spiffe(&request);
        let command = Enrol::try_from(request.into_inner()).map_err(Error::from)?;
        match self.0.enrol(peer, command).await {
            Ok(response) => {
                self.0.0.metrics.enrolments.inc();
                Ok(Response::new(response))
            }
            Err(error) => {
                self.0.0.metrics.enrolments_refused.inc();
                Err(error.into())
            }
        }
    }
}

impl Fleet {
    async fn enrol(&self, peer: Option<SpiffeId>, command: Enrol) -> Result<EnrolResponse> {
        let Enrol { applicant, join_token, csr } = command;
        let (spiffe, host) = match (join_token, peer) {
            (Some(token), _) => self.by_token(&token, applicant).await?,
            (None, Some(peer)) => self.by_certificate(peer, applicant).await?,
            (None, None) => {
                return Err(Error::refused(
                    Code::AuthFailure,
                    "a join token is needed, or the present certificate of a host or service",
                ));
            }
        };
        let certificate = self.0.authority.issue(&csr, &spiffe, CERTIFICATE_LIFETIME).map_err(
            |error| match error {
                TlsError::Request(reason) => Error::of_field(
                    Code::InvalidParameterValue,
                    "certificate_signing_request",
                    reason,
                ),
                other => other.into(),
            },
        )?;
        info!(%spiffe, "gave out a certificate");
        Ok(EnrolResponse {
            host_id: host.map(|host| host.to_string()).unwrap_or_default(),
            certificate,
            authority: self.0.authority.ca_pem().to_owned(),
            not_after: Some(timestamp(self.0.app.clock.now() + CERTIFICATE_LIFETIME)),
        })
    }

    async fn by_token(
        &self,
        token: &Secret,
        applicant: Option<Applicant>,
    ) -> Result<(SpiffeId, Option<HostId>)> {
        // `Secret` compares in constant time.
        if *token != self.0.join_token {
            warn!("somebody tried to enrol with a wrong join token");
            return Err(Error::refused(Code::AuthFailure, "the join token is wrong"));
        }
        match applicant {
            None => Err(InvalidField::new("host_name", "is missing").into()),
            Some(Applicant::Service(name)) => Ok((service(name)?, None)),
            Some(Applicant::Host { name, zone }) => {
                if !self.0.app.settings.zones.contains(&zone) {
                    let zones: Vec<_> =
                        self.0.app.settings.zones.iter().map(ToString::to_string).collect();
                    return Err(Error::of_field(
                        Code::InvalidZoneNotFound,
                        "availability_zone_id",
                        format!("{zone} is no zone of this region: {}", zones.join(", ")),
                    ));
                }
                let mut db = self.0.app.store.pool().acquire().await?;
                let fresh = HostId::generate(&mut rand::rng());
                let host = reports::join(&mut db, fresh, &name, zone.as_str()).await?;
                Ok((host_spiffe(host)?, Some(host)))
            }
        }
    }

    async fn by_certificate(
        &self,
        peer: SpiffeId,
        applicant: Option<Applicant>,
    ) -> Result<(SpiffeId, Option<HostId>)> {
        let other = |wanted: &str| {
            Error::refused(
                Code::UnauthorizedOperation,
                format!(
                    "the certificate is for {peer}, and renews no other name than its own: {wanted}"
                ),
            )
        };
        if let Some(name) = peer.as_service() {
            return match applicant {
                Some(Applicant::Service(wanted)) if wanted != name => Err(other(wanted)),
                Some(Applicant::Host { name: wanted, .. }) => Err(other(&wanted)),
                // The control plane's own identity is not given out over the wire.
                _ if !SERVICES.contains(&name) => Err(other(name)),
                _ => Ok((peer, None)),
            };
        }
        let host: HostId = peer
            .as_host()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Error::refused(Code::AuthFailure, "the certificate names no host"))?;
        let mut db = self.0.app.store.pool().acquire().await?;
        let name = reports::name_of(&mut db, host).await?.ok_or_else(|| removed(host))?;
        match applicant {
            Some(Applicant::Service(wanted)) => Err(other(wanted)),
            Some(Applicant::Host { name: wanted, .. }) if wanted != name => Err(other(&wanted)),
            _ => Ok((peer, Some(host))),
        }
    }
}

/// What a host hears that the operator has removed.
pub(super) fn removed(host: HostId) -> Error {
    Error::refused(
        Code::UnauthorizedOperation,
        format!("the host {host} was removed: its agent must join anew, with the join token"),
    )
}

fn service(name: &str) -> Result<SpiffeId> {
    SpiffeId::service(name).map_err(|error| Error::Internal(error.into()))
}

fn host_spiffe(host: HostId) -> Result<SpiffeId> {
    SpiffeId::host(&host.to_string()).map_err(|error| Error::Internal(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_as_dns_names_are() {
        for name in ["a", "host-1", "rack-7.zone-a.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", "Host", "-a", "a-", "a..b", "a_b", &"a".repeat(64), &"a.".repeat(127)] {
            assert!(!is_host_name(name), "{name}");
        }
    }

    #[test]
    fn a_request_says_which_field_is_wrong() {
        let field = |change: fn(&mut EnrolRequest)| {
            let mut request = EnrolRequest {
                host_name: "host-1".to_owned(),
                availability_zone_id: "use1-az1".to_owned(),
                certificate_signing_request: "csr".to_owned(),
                ..EnrolRequest::default()
            };
            change(&mut request);
            Enrol::try_from(request).err().map(|fault| fault.field)
        };
        assert_eq!(field(|_| ()), None);
        let csr = field(|request| request.certificate_signing_request.clear());
        assert_eq!(csr.as_deref(), Some("certificate_signing_request"));
        let zone = field(|request| "nowhere".clone_into(&mut request.availability_zone_id));
        assert_eq!(zone.as_deref(), Some("availability_zone_id"));
        let both = field(|request| "dispatcher".clone_into(&mut request.service_name));
        assert_eq!(both.as_deref(), Some("service_name"));
    }
}
