//! `ProviderService`: endpoint services, who may connect to them, and the connections.

use std::net::Ipv4Addr;

use postern_model::Code;
use postern_model::id::{EndpointId, ServiceId};
use postern_model::service::{
    IDLE_TIMEOUT_RANGE, IDLE_TIMEOUT_SECONDS, LISTENERS_MAX, TARGETS_MAX,
};
use postern_proto::time::timestamp;
use postern_proto::v1;
use postern_proto::v1::provider_service_server::ProviderService;
use tonic::{Request, Response, Status};

use super::fields::{optional, page, required, required_words, words};
use super::lists::{bounded, bulk, unsuccessful};
use super::states::{state, wanted};
use crate::app::App;
use crate::app::client_tokens::ClientToken;
use crate::app::connections::Decision;
use crate::app::permissions::ModifyPermissions;
use crate::app::services::{CreateService, ModifyService, Service, WantedListener, WantedTarget};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::endpoints::{Endpoint, Filter};
use crate::store::permissions::Permission;
use crate::store::services::ServiceRow;

/// How many principals a request names at most: as many as a service may have.
const PRINCIPALS_MAX: usize = 500;
/// How long a private name is at most, in characters (spec 1.6).
const NAME_MAX: usize = 255;
/// How long a zone's id or name is at most, in characters.
const ZONE_MAX: usize = 64;

/// Endpoint services.
#[derive(Clone)]
pub struct Provider {
    app: App,
}

impl Provider {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }

    fn service(&self, service: Service) -> Result<v1::ServiceConfiguration> {
        let base = self.app.base_name(service.row.id)?;
        let Service { row, listeners, zones } = service;
        let ServiceRow {
            id,
            owner,
            vpc,
            name,
            acceptance_required,
            private_dns_name,
            proxy_protocol_v2,
            idle_timeout_seconds,
            created_at,
        } = row;
        let listeners = listeners.into_iter().map(|one| v1::Listener {
            port: one.port.into(),
            targets: one
                .targets
                .into_iter()
                .map(|target| v1::Target {
                    address: target.address.to_string(),
                    port: target.port.into(),
                    availability_zone: target.zone.to_string(),
                })
                .collect(),
        });
        Ok(v1::ServiceConfiguration {
            service_id: id.to_string(),
            service_name: name,
            owner_id: owner.to_string(),
            // A service is set up in the transaction that makes it, and a deleted one is not shown.
            service_state: v1::ServiceState::Available.into(),
            vpc_id: vpc.to_string(),
            listeners: listeners.collect(),
            availability_zones: zones.iter().map(|(_, name)| name.to_string()).collect(),
            availability_zone_ids: zones.iter().map(|(id, _)| id.to_string()).collect(),
            acceptance_required,
            private_dns_name: private_dns_name.map_or_else(String::new, |n| n.as_str().to_owned()),
            proxy_protocol_v2,
            idle_timeout_seconds: idle_timeout_seconds as i32,
            base_endpoint_dns_name: base.as_str().to_owned(),
            create_time: Some(timestamp(created_at)),
        })
    }

    /// An endpoint as the owner of its service is shown it: nothing of the consumer's network.
    fn connection(&self, endpoint: Endpoint) -> Result<v1::VpcEndpointConnection> {
        let dns_entries = self.app.dns_entries(&endpoint)?.into_iter().map(Into::into).collect();
        let Endpoint { id, connection, owner, service, state: at, created_at, interfaces, .. } =
            endpoint;
        Ok(v1::VpcEndpointConnection {
            vpc_endpoint_connection_id: connection.to_string(),
            service_id: service.to_string(),
            vpc_endpoint_id: id.to_string(),
            vpc_endpoint_owner: owner.to_string(),
            vpc_endpoint_state: state(at).into(),
            dns_entries,
            availability_zone_ids: interfaces.iter().map(|one| one.zone.to_string()).collect(),
            create_time: Some(timestamp(created_at)),
        })
    }
}

#[tonic::async_trait]
impl ProviderService for Provider {
    async fn create_vpc_endpoint_service_configuration(
        &self,
        request: Request<v1::CreateVpcEndpointServiceConfigurationRequest>,
    ) -> Result<Response<v1::CreateVpcEndpointServiceConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateService::try_from(request.into_inner())?;
        let service = self.app.create_service(&caller, command).await?;
        let service_configuration = Some(self.service(service)?);
        Ok(Response::new(v1::CreateVpcEndpointServiceConfigurationResponse {
            service_configuration,
        }))
    }

    async fn get_vpc_endpoint_service_configuration(
        &self,
        request: Request<v1::GetVpcEndpointServiceConfigurationRequest>,
    ) -> Result<Response<v1::GetVpcEndpointServiceConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetVpcEndpointServiceConfigurationRequest { service_id } = request.into_inner();
        let id: ServiceId = required("service_id", &service_id)?;
        let service = self.app.service(&caller, id).await?;
        let service_configuration = Some(self.service(service)?);
        Ok(Response::new(v1::GetVpcEndpointServiceConfigurationResponse { service_configuration }))
    }

    async fn list_vpc_endpoint_service_configurations(
        &self,
        request: Request<v1::ListVpcEndpointServiceConfigurationsRequest>,
    ) -> Result<Response<v1::ListVpcEndpointServiceConfigurationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointServiceConfigurationsRequest { page_size, page_token } =
            request.into_inner();
        let page = page(page_size, &page_token)?;
        let mut services = self.app.services(&caller, &page).await?;
        let next_page_token = page.cut(&mut services, |service| service.row.id.to_string());
        let service_configurations =
            services.into_iter().map(|one| self.service(one)).collect::<Result<_>>()?;
        Ok(Response::new(v1::ListVpcEndpointServiceConfigurationsResponse {
            service_configurations,
            next_page_token,
        }))
    }

    async fn modify_vpc_endpoint_service_configuration(
        &self,
        request: Request<v1::ModifyVpcEndpointServiceConfigurationRequest>,
    ) -> Result<Response<v1::ModifyVpcEndpointServiceConfigurationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = ModifyService::try_from(request.into_inner())?;
        let service = self.app.modify_service(&caller, command).await?;
        let service_configuration = Some(self.service(service)?);
        Ok(Response::new(v1::ModifyVpcEndpointServiceConfigurationResponse {
            service_configuration,
        }))
    }

    async fn delete_vpc_endpoint_service_configurations(
        &self,
        request: Request<v1::DeleteVpcEndpointServiceConfigurationsRequest>,
    ) -> Result<Response<v1::DeleteVpcEndpointServiceConfigurationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteVpcEndpointServiceConfigurationsRequest { service_ids } =
            request.into_inner();
        let ids: Vec<ServiceId> = bulk("service_ids", &service_ids)?;
        let failed = self.app.delete_services(&caller, &ids).await?;
        let unsuccessful = unsuccessful(failed);
        Ok(Response::new(v1::DeleteVpcEndpointServiceConfigurationsResponse { unsuccessful }))
    }

    async fn modify_vpc_endpoint_service_permissions(
        &self,
        request: Request<v1::ModifyVpcEndpointServicePermissionsRequest>,
    ) -> Result<Response<v1::ModifyVpcEndpointServicePermissionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = ModifyPermissions::try_from(request.into_inner())?;
        let added = self.app.modify_permissions(&caller, command).await?;
        let added_principals = added.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ModifyVpcEndpointServicePermissionsResponse { added_principals }))
    }

    async fn list_vpc_endpoint_service_permissions(
        &self,
        request: Request<v1::ListVpcEndpointServicePermissionsRequest>,
    ) -> Result<Response<v1::ListVpcEndpointServicePermissionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointServicePermissionsRequest { service_id, page_size, page_token } =
            request.into_inner();
        let page = page(page_size, &page_token)?;
        let service: ServiceId = required("service_id", &service_id)?;
        let mut found = self.app.permissions(&caller, service, &page).await?;
        let next_page_token = page.cut(&mut found, |permission| permission.id.to_string());
        let allowed_principals = found.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListVpcEndpointServicePermissionsResponse {
            allowed_principals,
            next_page_token,
        }))
    }

    async fn list_vpc_endpoint_connections(
        &self,
        request: Request<v1::ListVpcEndpointConnectionsRequest>,
    ) -> Result<Response<v1::ListVpcEndpointConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointConnectionsRequest {
            service_id,
            vpc_endpoint_state,
            page_size,
            page_token,
        } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let filter = Filter {
            vpc: None,
            service: optional("service_id", &service_id)?,
            state: wanted("vpc_endpoint_state", vpc_endpoint_state)?,
        };
        let mut found = self.app.connections(&caller, filter, &page).await?;
        let next_page_token = page.cut(&mut found, |endpoint| endpoint.id.to_string());
        let vpc_endpoint_connections =
            found.into_iter().map(|one| self.connection(one)).collect::<Result<_>>()?;
        Ok(Response::new(v1::ListVpcEndpointConnectionsResponse {
            vpc_endpoint_connections,
            next_page_token,
        }))
    }

    async fn accept_vpc_endpoint_connections(
        &self,
        request: Request<v1::AcceptVpcEndpointConnectionsRequest>,
    ) -> Result<Response<v1::AcceptVpcEndpointConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::AcceptVpcEndpointConnectionsRequest { service_id, vpc_endpoint_ids } =
            request.into_inner();
        let service: ServiceId = required("service_id", &service_id)?;
        let ids: Vec<EndpointId> = bulk("vpc_endpoint_ids", &vpc_endpoint_ids)?;
        let failed = self.app.decide(&caller, service, &ids, Decision::Accept).await?;
        let unsuccessful = unsuccessful(failed);
        Ok(Response::new(v1::AcceptVpcEndpointConnectionsResponse { unsuccessful }))
    }

    async fn reject_vpc_endpoint_connections(
        &self,
        request: Request<v1::RejectVpcEndpointConnectionsRequest>,
    ) -> Result<Response<v1::RejectVpcEndpointConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RejectVpcEndpointConnectionsRequest { service_id, vpc_endpoint_ids } =
            request.into_inner();
        let service: ServiceId = required("service_id", &service_id)?;
        let ids: Vec<EndpointId> = bulk("vpc_endpoint_ids", &vpc_endpoint_ids)?;
        let failed = self.app.decide(&caller, service, &ids, Decision::Reject).await?;
        let unsuccessful = unsuccessful(failed);
        Ok(Response::new(v1::RejectVpcEndpointConnectionsResponse { unsuccessful }))
    }
}

impl TryFrom<v1::CreateVpcEndpointServiceConfigurationRequest> for CreateService {
    type Error = Error;

    fn try_from(request: v1::CreateVpcEndpointServiceConfigurationRequest) -> Result<Self> {
        let v1::CreateVpcEndpointServiceConfigurationRequest {
            vpc_id,
            listeners,
            acceptance_required,
            private_dns_name,
            proxy_protocol_v2,
            idle_timeout_seconds,
            client_token,
        } = request;
        let idle = if idle_timeout_seconds == 0 {
            IDLE_TIMEOUT_SECONDS
        } else {
            idle_timeout(idle_timeout_seconds)?
        };
        Ok(Self {
            vpc: required("vpc_id", &vpc_id)?,
            listeners: wanted_listeners(listeners)?,
            acceptance_required: acceptance_required.unwrap_or(true),
            private_dns_name: private_name(private_dns_name)?,
            proxy_protocol_v2,
            idle_timeout_seconds: idle,
            client_token: ClientToken::read(client_token)?,
        })
    }
}

impl TryFrom<v1::ModifyVpcEndpointServiceConfigurationRequest> for ModifyService {
    type Error = Error;

    fn try_from(request: v1::ModifyVpcEndpointServiceConfigurationRequest) -> Result<Self> {
        let v1::ModifyVpcEndpointServiceConfigurationRequest {
            service_id,
            acceptance_required,
            listeners,
            private_dns_name,
            remove_private_dns_name,
            proxy_protocol_v2,
            idle_timeout_seconds,
        } = request;
        Ok(Self {
            id: required("service_id", &service_id)?,
            acceptance_required,
            listeners: wanted_listeners(listeners)?,
            private_dns_name: private_name(private_dns_name)?,
            remove_private_dns_name,
            proxy_protocol_v2,
            idle_timeout_seconds: idle_timeout_seconds.map(idle_timeout).transpose()?,
        })
    }
}

impl TryFrom<v1::ModifyVpcEndpointServicePermissionsRequest> for ModifyPermissions {
    type Error = Error;

    fn try_from(request: v1::ModifyVpcEndpointServicePermissionsRequest) -> Result<Self> {
        let v1::ModifyVpcEndpointServicePermissionsRequest {
            service_id,
            add_allowed_principals,
            remove_allowed_principals,
        } = request;
        Ok(Self {
            service: required("service_id", &service_id)?,
            add: principals("add_allowed_principals", &add_allowed_principals)?,
            remove: principals("remove_allowed_principals", &remove_allowed_principals)?,
        })
    }
}

/// A malformed principal is `InvalidParameter` (spec 1.10).
fn principals<T>(field: &str, texts: &[String]) -> Result<Vec<T>>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    bounded(field, texts.len(), PRINCIPALS_MAX)?;
    let read = |(index, text): (usize, &String)| {
        text.parse().map_err(|error: T::Err| {
            let field = format!("{field}[{index}]");
            Error::of_field(Code::InvalidParameter, field, error.to_string())
        })
    };
    texts.iter().enumerate().map(read).collect()
}

fn private_name(text: String) -> Result<Option<String>> {
    let name = words("private_dns_name", text, NAME_MAX)?;
    Ok(if name.is_empty() { None } else { Some(name) })
}

fn idle_timeout(seconds: i32) -> Result<u32> {
    u32::try_from(seconds).ok().filter(|seconds| IDLE_TIMEOUT_RANGE.contains(seconds)).ok_or_else(
        || {
            let (least, most) = (IDLE_TIMEOUT_RANGE.start(), IDLE_TIMEOUT_RANGE.end());
            let reason = format!("must be {least} to {most} seconds");
            Error::of_field(Code::InvalidParameterValue, "idle_timeout_seconds", reason)
        },
    )
}

fn wanted_listeners(listeners: Vec<v1::Listener>) -> Result<Vec<WantedListener>> {
    bounded("listeners", listeners.len(), LISTENERS_MAX)?;
    let read = |(index, listener): (usize, v1::Listener)| {
        let at = format!("listeners[{index}]");
        let v1::Listener { port: number, targets } = listener;
        bounded(&format!("{at}.targets"), targets.len(), TARGETS_MAX)?;
        let target = |(index, target): (usize, v1::Target)| {
            let at = format!("{at}.targets[{index}]");
            let v1::Target { address, port: number, availability_zone } = target;
            let field = format!("{at}.availability_zone");
            Ok(WantedTarget {
                address: required::<Ipv4Addr>(&format!("{at}.address"), &address)?,
                port: port(&format!("{at}.port"), number)?,
                zone: required_words(&field, availability_zone, ZONE_MAX)?,
            })
        };
        Ok(WantedListener {
            port: port(&format!("{at}.port"), number)?,
            targets: targets.into_iter().enumerate().map(target).collect::<Result<_>>()?,
        })
    };
    listeners.into_iter().enumerate().map(read).collect()
}

fn port(field: &str, number: i32) -> Result<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
        Error::of_field(Code::InvalidParameterValue, field, "must be a port from 1 to 65535")
    })
}

impl From<Permission> for v1::AllowedPrincipal {
    fn from(permission: Permission) -> Self {
        let Permission { id, principal } = permission;
        Self {
            service_permission_id: id.to_string(),
            principal: principal.to_string(),
            principal_type: principal.kind().to_owned(),
        }
    }
}
