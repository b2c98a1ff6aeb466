//! `HostService`: the operator's.

use std::net::Ipv4Addr;

use postern_model::Code;
use postern_model::id::{AttachmentId, HostId};
use postern_proto::time::timestamp;
use postern_proto::v1;
use postern_proto::v1::host_service_server::HostService;
use tonic::{Request, Response, Status};

use super::fields::{missing, optional, page, required};
use crate::app::App;
use crate::app::attachments::CreateAttachment;
use crate::app::hosts::CreateHost;
use crate::caller::Caller;
use crate::error::Error;
use crate::store::hosts::{AttachmentRow, HostRow, Reach};

/// The most bytes of a namespace's path: what Linux takes, without the final NUL.
const PATH_MAX: usize = 4095;
/// The most bytes of a name in a directory.
const NAME_MAX: usize = 255;

/// Hosts and their attachments.
#[derive(Clone)]
pub struct Hosts {
    app: App,
}

impl Hosts {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn create_host(
        &self,
        request: Request<v1::CreateHostRequest>,
    ) -> Result<Response<v1::CreateHostResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateHost::try_from(request.into_inner())?;
        let host = self.app.create_host(&caller, command).await?;
        Ok(Response::new(v1::CreateHostResponse { host: Some(host.into()) }))
    }

    async fn get_host(
        &self,
        request: Request<v1::GetHostRequest>,
    ) -> Result<Response<v1::GetHostResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetHostRequest { host_id } = request.into_inner();
        let id: HostId = required("host_id", &host_id)?;
        let host = self.app.get_host(&caller, id).await?;
        Ok(Response::new(v1::GetHostResponse { host: Some(host.into()) }))
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListHostsRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let (hosts, next_page_token) = self.app.list_hosts(&caller, &page).await?;
        let hosts = hosts.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListHostsResponse { hosts, next_page_token }))
    }

    async fn delete_host(
        &self,
        request: Request<v1::DeleteHostRequest>,
    ) -> Result<Response<v1::DeleteHostResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteHostRequest { host_id } = request.into_inner();
        let id: HostId = required("host_id", &host_id)?;
        self.app.delete_host(&caller, id).await?;
        Ok(Response::new(v1::DeleteHostResponse {}))
    }

    async fn create_host_attachment(
        &self,
        request: Request<v1::CreateHostAttachmentRequest>,
    ) -> Result<Response<v1::CreateHostAttachmentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateAttachment::try_from(request.into_inner())?;
        let attachment = self.app.create_attachment(&caller, command).await?;
        let attachment = Some(attachment.into());
        Ok(Response::new(v1::CreateHostAttachmentResponse { attachment }))
    }

    async fn list_host_attachments(
        &self,
        request: Request<v1::ListHostAttachmentsRequest>,
    ) -> Result<Response<v1::ListHostAttachmentsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListHostAttachmentsRequest { host_id, vpc_id, page_size, page_token } =
            request.into_inner();
        let host = optional("host_id", &host_id)?;
        let vpc = optional("vpc_id", &vpc_id)?;
        let page = page(page_size, &page_token)?;
        let (attachments, next_page_token) =
            self.app.list_attachments(&caller, host, vpc, &page).await?;
        let attachments = attachments.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListHostAttachmentsResponse { attachments, next_page_token }))
    }

    async fn delete_host_attachment(
        &self,
        request: Request<v1::DeleteHostAttachmentRequest>,
    ) -> Result<Response<v1::DeleteHostAttachmentResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteHostAttachmentRequest { attachment_id } = request.into_inner();
        let id: AttachmentId = required("attachment_id", &attachment_id)?;
        self.app.delete_attachment(&caller, id).await?;
        Ok(Response::new(v1::DeleteHostAttachmentResponse {}))
    }
}

impl TryFrom<v1::CreateHostRequest> for CreateHost {
    type Error = Error;

    fn try_from(request: v1::CreateHostRequest) -> Result<Self, Error> {
        let v1::CreateHostRequest { name, availability_zone_id } = request;
        Ok(Self {
            name: required("name", &name)?,
            zone: required("availability_zone_id", &availability_zone_id)?,
        })
    }
}

impl TryFrom<v1::CreateHostAttachmentRequest> for CreateAttachment {
    type Error = Error;

    fn try_from(request: v1::CreateHostAttachmentRequest) -> Result<Self, Error> {
        let v1::CreateHostAttachmentRequest {
            host_id,
            vpc_id,
            kind,
            interface_address,
            network_namespace,
        } = request;
        Ok(Self {
            host: required("host_id", &host_id)?,
            vpc: required("vpc_id", &vpc_id)?,
            reach: reach(kind, &interface_address, network_namespace)?,
        })
    }
}

/// Reads how a host reaches a VPC: what belongs to the kind must be there, and nothing else.
fn reach(kind: i32, address: &str, namespace: String) -> Result<Reach, Error> {
    use v1::AttachmentKind as Kind;
    let kind = Kind::try_from(kind).map_err(|_| {
        Error::of_field(Code::InvalidParameterValue, "kind", format!("{kind} is no kind"))
    })?;
    let only = |field: &str, text: &str, with: Kind| {
        if text.is_empty() || kind == with {
            return Ok(());
        }
        let reason = format!("goes only with {}", with.as_str_name());
        Err(Error::of_field(Code::InvalidParameterCombination, field, reason))
    };
    only("interface_address", address, Kind::Interface)?;
    only("network_namespace", &namespace, Kind::Namespace)?;
    match kind {
        Kind::Unspecified => Err(missing("kind")),
        Kind::Loopback => Ok(Reach::Loopback),
        Kind::Interface => {
            let address: Ipv4Addr = required("interface_address", address)?;
            Ok(Reach::Interface(address))
        }
        Kind::Namespace => Ok(Reach::Namespace(self::namespace(namespace)?)),
    }
}

/// A namespace: a name under /run/netns, or an absolute path.
fn namespace(text: String) -> Result<String, Error> {
    const FIELD: &str = "network_namespace";
    if text.is_empty() {
        return Err(missing(FIELD));
    }
    let bad = |reason: String| Err(Error::of_field(Code::InvalidParameterValue, FIELD, reason));
    if text.chars().any(char::is_control) {
        return bad("must not have control characters".to_owned());
    }
    if text.starts_with('/') {
        if text.len() > PATH_MAX {
            return bad(format!("must have at most {PATH_MAX} bytes as a path"));
        }
    } else if text.contains('/') || text == "." || text == ".." {
        return bad("must be a name under /run/netns, or an absolute path".to_owned());
    } else if text.len() > NAME_MAX {
        return bad(format!("must have at most {NAME_MAX} bytes as a name"));
    }
    Ok(text)
}

impl From<HostRow> for v1::Host {
    fn from(host: HostRow) -> Self {
        let HostRow {
            id,
            name,
            zone,
            connected,
            last_seen_at,
            desired_generation,
            applied_generation,
            agent_version,
            created_at,
        } = host;
        Self {
            host_id: id.to_string(),
            name,
            availability_zone_id: zone.to_string(),
            connected,
            last_seen_time: last_seen_at.map(timestamp),
            desired_generation,
            applied_generation,
            agent_version,
            create_time: Some(timestamp(created_at)),
        }
    }
}

impl From<AttachmentRow> for v1::HostAttachment {
    fn from(attachment: AttachmentRow) -> Self {
        use v1::AttachmentKind as Kind;
        let AttachmentRow { id, host, vpc, reach, resolver_endpoint, created_at } = attachment;
        let (kind, interface_address, network_namespace) = match reach {
            Reach::Loopback => (Kind::Loopback, String::new(), String::new()),
            Reach::Interface(address) => (Kind::Interface, address.to_string(), String::new()),
            Reach::Namespace(namespace) => (Kind::Namespace, String::new(), namespace),
        };
        Self {
            attachment_id: id.to_string(),
            host_id: host.to_string(),
            vpc_id: vpc.to_string(),
            kind: kind.into(),
            interface_address,
            network_namespace,
            resolver_endpoint,
            create_time: Some(timestamp(created_at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(kind: v1::AttachmentKind, address: &str, namespace: &str) -> Option<Code> {
        match reach(kind.into(), address, namespace.to_owned()) {
            Ok(_) => None,
            Err(Error::Refused(refusal)) => Some(refusal.code),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_attachment_says_what_its_kind_needs_and_nothing_else() {
        use v1::AttachmentKind as Kind;
        assert_eq!(code(Kind::Loopback, "", ""), None);
        assert_eq!(code(Kind::Interface, "10.0.0.9", ""), None);
        assert_eq!(code(Kind::Namespace, "", "blue"), None);
        assert_eq!(code(Kind::Namespace, "", "/proc/7/ns/net"), None);
        assert_eq!(code(Kind::Unspecified, "", ""), Some(Code::MissingParameter));
        assert_eq!(code(Kind::Interface, "", ""), Some(Code::MissingParameter));
        assert_eq!(code(Kind::Namespace, "", ""), Some(Code::MissingParameter));
        assert_eq!(code(Kind::Interface, "::1", ""), Some(Code::InvalidParameterValue));
        for namespace in ["a/b", "..", "../etc", "a\n"] {
            let refused = code(Kind::Namespace, "", namespace);
            assert_eq!(refused, Some(Code::InvalidParameterValue), "{namespace}");
        }
        let combination = Some(Code::InvalidParameterCombination);
        assert_eq!(code(Kind::Loopback, "127.0.0.1", ""), combination);
        assert_eq!(code(Kind::Interface, "10.0.0.9", "blue"), combination);
        assert!(reach(99, "", String::new()).is_err());
    }
}
