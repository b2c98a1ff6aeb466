//! `ConsumerService`: endpoints, and the services that they may lead to.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use postern_model::id::{EndpointId, NetworkInterfaceId};
use postern_proto::time::timestamp;
use postern_proto::v1;
use postern_proto::v1::consumer_service_server::ConsumerService;
use tonic::{Request, Response, Status};

use super::fields::{optional, page, required, required_words};
use super::lists::{BULK_MAX, bulk, list, set, unsuccessful};
use super::states::{state, wanted};
use crate::app::App;
use crate::app::client_tokens::ClientToken;
use crate::app::endpoints::{CreateEndpoint, ModifyEndpoint};
use crate::app::names::DnsEntry;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::store::endpoints::{Endpoint, Filter};
use crate::store::interfaces::{self, NetworkInterface};
use crate::store::services::OfferedService;

/// How many subnets a request names at most: more than any region has zones.
const SUBNETS_MAX: usize = 20;
/// How many groups a request names at most: more than an endpoint may carry.
const GROUPS_MAX: usize = 100;
/// How long the name of a service is at most, in characters.
const SERVICE_NAME_MAX: usize = 255;

/// Endpoints.
#[derive(Clone)]
pub struct Consumer {
    app: App,
}

impl Consumer {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }

    fn endpoint(&self, endpoint: Endpoint) -> Result<v1::VpcEndpoint> {
        endpoint_message(&self.app, endpoint)
    }

    fn service(&self, service: OfferedService) -> Result<v1::VpcEndpointService> {
        let base = self.app.base_name(service.id)?;
        let OfferedService {
            id,
            name,
            owner,
            acceptance_required,
            private_dns_name,
            zones,
            zone_names,
            ports,
        } = service;
        Ok(v1::VpcEndpointService {
            service_id: id.to_string(),
            service_name: name,
            owner_id: owner.to_string(),
            availability_zones: zone_names.iter().map(ToString::to_string).collect(),
            availability_zone_ids: zones.iter().map(ToString::to_string).collect(),
            acceptance_required,
            private_dns_name: private_dns_name.map_or_else(String::new, |n| n.as_str().to_owned()),
            base_endpoint_dns_name: base.as_str().to_owned(),
            ports,
        })
    }
}

#[tonic::async_trait]
impl ConsumerService for Consumer {
    async fn create_vpc_endpoint(
        &self,
        request: Request<v1::CreateVpcEndpointRequest>,
    ) -> Result<Response<v1::CreateVpcEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateEndpoint::try_from(request.into_inner())?;
        let endpoint = self.app.create_endpoint(&caller, command).await?;
        let vpc_endpoint = Some(self.endpoint(endpoint)?);
        Ok(Response::new(v1::CreateVpcEndpointResponse { vpc_endpoint }))
    }

    async fn get_vpc_endpoint(
        &self,
        request: Request<v1::GetVpcEndpointRequest>,
    ) -> Result<Response<v1::GetVpcEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetVpcEndpointRequest { vpc_endpoint_id } = request.into_inner();
        let id: EndpointId = required("vpc_endpoint_id", &vpc_endpoint_id)?;
        let endpoint = self.app.endpoint(&caller, id).await?;
        let vpc_endpoint = Some(self.endpoint(endpoint)?);
        Ok(Response::new(v1::GetVpcEndpointResponse { vpc_endpoint }))
    }

    async fn list_vpc_endpoints(
        &self,
        request: Request<v1::ListVpcEndpointsRequest>,
    ) -> Result<Response<v1::ListVpcEndpointsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointsRequest { vpc_id, state, page_size, page_token } =
            request.into_inner();
        let page = page(page_size, &page_token)?;
        let filter = Filter {
            vpc: optional("vpc_id", &vpc_id)?,
            service: None,
            state: wanted("state", state)?,
        };
        let mut endpoints = self.app.endpoints(&caller, filter, &page).await?;
        let next_page_token = page.cut(&mut endpoints, |endpoint| endpoint.id.to_string());
        let vpc_endpoints =
            endpoints.into_iter().map(|one| self.endpoint(one)).collect::<Result<_>>()?;
        Ok(Response::new(v1::ListVpcEndpointsResponse { vpc_endpoints, next_page_token }))
    }

    async fn modify_vpc_endpoint(
        &self,
        request: Request<v1::ModifyVpcEndpointRequest>,
    ) -> Result<Response<v1::ModifyVpcEndpointResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = ModifyEndpoint::try_from(request.into_inner())?;
        let endpoint = self.app.modify_endpoint(&caller, command).await?;
        let vpc_endpoint = Some(self.endpoint(endpoint)?);
        Ok(Response::new(v1::ModifyVpcEndpointResponse { vpc_endpoint }))
    }

    async fn delete_vpc_endpoints(
        &self,
        request: Request<v1::DeleteVpcEndpointsRequest>,
    ) -> Result<Response<v1::DeleteVpcEndpointsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteVpcEndpointsRequest { vpc_endpoint_ids } = request.into_inner();
        let ids: Vec<EndpointId> = bulk("vpc_endpoint_ids", &vpc_endpoint_ids)?;
        let failed = self.app.delete_endpoints(&caller, &ids).await?;
        let unsuccessful = unsuccessful(failed);
        Ok(Response::new(v1::DeleteVpcEndpointsResponse { unsuccessful }))
    }

    type WatchVpcEndpointsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchVpcEndpointsResponse, Status>> + Send>>;

    async fn watch_vpc_endpoints(
        &self,
        request: Request<v1::WatchVpcEndpointsRequest>,
    ) -> Result<Response<Self::WatchVpcEndpointsStream>, Status> {
        let caller = Caller::of(&request)?;
        let v1::WatchVpcEndpointsRequest { vpc_endpoint_ids } = request.into_inner();
        let ids: Vec<EndpointId> = set("vpc_endpoint_ids", &vpc_endpoint_ids, BULK_MAX)?;
        let app = self.app.clone();
        let changes = self.app.watch_endpoints(&caller, &ids).await?.map(move |endpoint| {
            let vpc_endpoint = Some(endpoint_message(&app, endpoint?)?);
            Ok(v1::WatchVpcEndpointsResponse { vpc_endpoint })
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn list_vpc_endpoint_services(
        &self,
        request: Request<v1::ListVpcEndpointServicesRequest>,
    ) -> Result<Response<v1::ListVpcEndpointServicesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcEndpointServicesRequest { service_names, page_size, page_token } =
            request.into_inner();
        let page = page(page_size, &page_token)?;
        let mut names: Vec<String> = set("service_names", &service_names, BULK_MAX)?;
        for (index, name) in names.iter_mut().enumerate() {
            let field = format!("service_names[{index}]");
            *name = required_words(&field, std::mem::take(name), SERVICE_NAME_MAX)?;
        }
        let mut services = self.app.offered_services(&caller, &names, &page).await?;
        let next_page_token = page.cut(&mut services, |service| service.name.clone());
        let services = services.into_iter().map(|one| self.service(one)).collect::<Result<_>>()?;
        Ok(Response::new(v1::ListVpcEndpointServicesResponse { services, next_page_token }))
    }

    async fn get_network_interface(
        &self,
        request: Request<v1::GetNetworkInterfaceRequest>,
    ) -> Result<Response<v1::GetNetworkInterfaceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetNetworkInterfaceRequest { network_interface_id } = request.into_inner();
        let id: NetworkInterfaceId = required("network_interface_id", &network_interface_id)?;
        let interface = self.app.network_interface(&caller, id).await?;
        let network_interface = Some(interface.into());
        Ok(Response::new(v1::GetNetworkInterfaceResponse { network_interface }))
    }

    async fn list_network_interfaces(
        &self,
        request: Request<v1::ListNetworkInterfacesRequest>,
    ) -> Result<Response<v1::ListNetworkInterfacesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListNetworkInterfacesRequest { vpc_endpoint_id, vpc_id, page_size, page_token } =
            request.into_inner();
        let page = page(page_size, &page_token)?;
        let filter = interfaces::Filter {
            id: None,
            endpoint: optional("vpc_endpoint_id", &vpc_endpoint_id)?,
            vpc: optional("vpc_id", &vpc_id)?,
        };
        let mut found = self.app.network_interfaces(&caller, filter, &page).await?;
        let next_page_token = page.cut(&mut found, |interface| interface.id.to_string());
        let network_interfaces = found.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListNetworkInterfacesResponse { network_interfaces, next_page_token }))
    }
}

impl TryFrom<v1::CreateVpcEndpointRequest> for CreateEndpoint {
    type Error = Error;

    fn try_from(request: v1::CreateVpcEndpointRequest) -> Result<Self> {
        let v1::CreateVpcEndpointRequest {
            vpc_id,
            service_name,
            subnet_ids,
            group_ids,
            private_dns_enabled,
            client_token,
        } = request;
        Ok(Self {
            vpc: required("vpc_id", &vpc_id)?,
            service_name: required_words("service_name", service_name, SERVICE_NAME_MAX)?,
            subnets: list("subnet_ids", &subnet_ids, SUBNETS_MAX)?,
            groups: set("group_ids", &group_ids, GROUPS_MAX)?,
            private_dns: private_dns_enabled,
            client_token: ClientToken::read(client_token)?,
        })
    }
}

impl TryFrom<v1::ModifyVpcEndpointRequest> for ModifyEndpoint {
    type Error = Error;

    fn try_from(request: v1::ModifyVpcEndpointRequest) -> Result<Self> {
        let v1::ModifyVpcEndpointRequest {
            vpc_endpoint_id,
            add_subnet_ids,
            remove_subnet_ids,
            add_group_ids,
            remove_group_ids,
            private_dns_enabled,
        } = request;
        Ok(Self {
            id: required("vpc_endpoint_id", &vpc_endpoint_id)?,
            add_subnets: set("add_subnet_ids", &add_subnet_ids, SUBNETS_MAX)?,
            remove_subnets: set("remove_subnet_ids", &remove_subnet_ids, SUBNETS_MAX)?,
            add_groups: set("add_group_ids", &add_group_ids, GROUPS_MAX)?,
            remove_groups: set("remove_group_ids", &remove_group_ids, GROUPS_MAX)?,
            private_dns: private_dns_enabled,
        })
    }
}

/// An endpoint as its owner is shown it.
fn endpoint_message(app: &App, endpoint: Endpoint) -> Result<v1::VpcEndpoint> {
    let dns_entries = app.dns_entries(&endpoint)?.into_iter().map(Into::into).collect();
    let Endpoint {
        id,
        connection: _,
        owner,
        vpc,
        service: _,
        service_name,
        state: at,
        label: _,
        private_dns_name,
        failure_reason,
        revision,
        created_at,
        groups,
        interfaces,
    } = endpoint;
    Ok(v1::VpcEndpoint {
        vpc_endpoint_id: id.to_string(),
        vpc_id: vpc.to_string(),
        owner_id: owner.to_string(),
        service_name,
        state: state(at).into(),
        subnet_ids: interfaces.iter().map(|one| one.subnet.to_string()).collect(),
        group_ids: groups.iter().map(ToString::to_string).collect(),
        network_interface_ids: interfaces.iter().map(|one| one.id.to_string()).collect(),
        dns_entries,
        private_dns_enabled: private_dns_name.is_some(),
        failure_reason,
        create_time: Some(timestamp(created_at)),
        revision,
    })
}

impl From<DnsEntry> for v1::DnsEntry {
    fn from(entry: DnsEntry) -> Self {
        let DnsEntry { name, hosted_zone } = entry;
        Self { dns_name: name, hosted_zone_id: hosted_zone }
    }
}

impl From<NetworkInterface> for v1::NetworkInterface {
    fn from(interface: NetworkInterface) -> Self {
        let NetworkInterface {
            id,
            endpoint,
            owner,
            vpc,
            subnet,
            zone,
            zone_name,
            address,
            bound,
            groups,
            usage,
            created_at,
        } = interface;
        Self {
            network_interface_id: id.to_string(),
            vpc_endpoint_id: endpoint.to_string(),
            owner_id: owner.to_string(),
            vpc_id: vpc.to_string(),
            subnet_id: subnet.to_string(),
            availability_zone: zone_name.to_string(),
            availability_zone_id: zone.to_string(),
            private_ip_address: address.to_string(),
            group_ids: groups.iter().map(ToString::to_string).collect(),
            status: if bound { "in-use" } else { "pending" }.to_owned(),
            description: format!("VPC Endpoint Interface {endpoint}"),
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            active_connections: usage.active_connections,
            total_connections: usage.total_connections,
            create_time: Some(timestamp(created_at)),
        }
    }
}
