//! `VpcService`: the networks of the caller's account.

mod convert;

use postern_model::id::{SecurityGroupId, SubnetId, VpcId};
use postern_proto::v1;
use postern_proto::v1::vpc_service_server::VpcService;
use tonic::{Request, Response, Status};

use super::fields::{optional, page, required};
use crate::app::App;
use crate::app::security_groups::{AuthorizeIngress, CreateSecurityGroup, RevokeIngress};
use crate::app::subnets::CreateSubnet;
use crate::app::vpcs::{CreateVpc, ModifyVpcAttribute};
use crate::caller::Caller;

/// VPCs, subnets, security groups and zones.
#[derive(Clone)]
pub struct Vpcs {
    app: App,
}

impl Vpcs {
    /// Serves the use cases of `app`.
    pub fn new(app: App) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl VpcService for Vpcs {
    async fn create_vpc(
        &self,
        request: Request<v1::CreateVpcRequest>,
    ) -> Result<Response<v1::CreateVpcResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateVpc::try_from(request.into_inner())?;
        let vpc = self.app.create_vpc(&caller, command).await?;
        Ok(Response::new(v1::CreateVpcResponse { vpc: Some(vpc.into()) }))
    }

    async fn get_vpc(
        &self,
        request: Request<v1::GetVpcRequest>,
    ) -> Result<Response<v1::GetVpcResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetVpcRequest { vpc_id } = request.into_inner();
        let id: VpcId = required("vpc_id", &vpc_id)?;
        let vpc = self.app.get_vpc(&caller, id).await?;
        Ok(Response::new(v1::GetVpcResponse { vpc: Some(vpc.into()) }))
    }

    async fn list_vpcs(
        &self,
        request: Request<v1::ListVpcsRequest>,
    ) -> Result<Response<v1::ListVpcsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListVpcsRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let (vpcs, next_page_token) = self.app.list_vpcs(&caller, &page).await?;
        let vpcs = vpcs.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListVpcsResponse { vpcs, next_page_token }))
    }

    async fn modify_vpc_attribute(
        &self,
        request: Request<v1::ModifyVpcAttributeRequest>,
    ) -> Result<Response<v1::ModifyVpcAttributeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = ModifyVpcAttribute::try_from(request.into_inner())?;
        let vpc = self.app.modify_vpc_attribute(&caller, command).await?;
        Ok(Response::new(v1::ModifyVpcAttributeResponse { vpc: Some(vpc.into()) }))
    }

    async fn delete_vpc(
        &self,
        request: Request<v1::DeleteVpcRequest>,
    ) -> Result<Response<v1::DeleteVpcResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteVpcRequest { vpc_id } = request.into_inner();
        let id: VpcId = required("vpc_id", &vpc_id)?;
        self.app.delete_vpc(&caller, id).await?;
        Ok(Response::new(v1::DeleteVpcResponse {}))
    }

    async fn create_subnet(
        &self,
        request: Request<v1::CreateSubnetRequest>,
    ) -> Result<Response<v1::CreateSubnetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateSubnet::try_from(request.into_inner())?;
        let subnet = self.app.create_subnet(&caller, command).await?;
        Ok(Response::new(v1::CreateSubnetResponse { subnet: Some(subnet.into()) }))
    }

    async fn get_subnet(
        &self,
        request: Request<v1::GetSubnetRequest>,
    ) -> Result<Response<v1::GetSubnetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetSubnetRequest { subnet_id } = request.into_inner();
        let id: SubnetId = required("subnet_id", &subnet_id)?;
        let subnet = self.app.get_subnet(&caller, id).await?;
        Ok(Response::new(v1::GetSubnetResponse { subnet: Some(subnet.into()) }))
    }

    async fn list_subnets(
        &self,
        request: Request<v1::ListSubnetsRequest>,
    ) -> Result<Response<v1::ListSubnetsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListSubnetsRequest { vpc_id, page_size, page_token } = request.into_inner();
        let vpc = optional("vpc_id", &vpc_id)?;
        let page = page(page_size, &page_token)?;
        let (subnets, next_page_token) = self.app.list_subnets(&caller, vpc, &page).await?;
        let subnets = subnets.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListSubnetsResponse { subnets, next_page_token }))
    }

    async fn delete_subnet(
        &self,
        request: Request<v1::DeleteSubnetRequest>,
    ) -> Result<Response<v1::DeleteSubnetResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteSubnetRequest { subnet_id } = request.into_inner();
        let id: SubnetId = required("subnet_id", &subnet_id)?;
        self.app.delete_subnet(&caller, id).await?;
        Ok(Response::new(v1::DeleteSubnetResponse {}))
    }

    async fn create_security_group(
        &self,
        request: Request<v1::CreateSecurityGroupRequest>,
    ) -> Result<Response<v1::CreateSecurityGroupResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateSecurityGroup::try_from(request.into_inner())?;
        let group = self.app.create_security_group(&caller, command).await?;
        let security_group = Some(group.into());
        Ok(Response::new(v1::CreateSecurityGroupResponse { security_group }))
    }

    async fn get_security_group(
        &self,
        request: Request<v1::GetSecurityGroupRequest>,
    ) -> Result<Response<v1::GetSecurityGroupResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetSecurityGroupRequest { group_id } = request.into_inner();
        let id: SecurityGroupId = required("group_id", &group_id)?;
        let group = self.app.get_security_group(&caller, id).await?;
        let security_group = Some(group.into());
        Ok(Response::new(v1::GetSecurityGroupResponse { security_group }))
    }

    async fn list_security_groups(
        &self,
        request: Request<v1::ListSecurityGroupsRequest>,
    ) -> Result<Response<v1::ListSecurityGroupsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListSecurityGroupsRequest { vpc_id, page_size, page_token } = request.into_inner();
        let vpc = optional("vpc_id", &vpc_id)?;
        let page = page(page_size, &page_token)?;
        let (groups, next_page_token) = self.app.list_security_groups(&caller, vpc, &page).await?;
        let security_groups = groups.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListSecurityGroupsResponse { security_groups, next_page_token }))
    }

    async fn delete_security_group(
        &self,
        request: Request<v1::DeleteSecurityGroupRequest>,
    ) -> Result<Response<v1::DeleteSecurityGroupResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteSecurityGroupRequest { group_id } = request.into_inner();
        let id: SecurityGroupId = required("group_id", &group_id)?;
        self.app.delete_security_group(&caller, id).await?;
        Ok(Response::new(v1::DeleteSecurityGroupResponse {}))
    }

    async fn authorize_security_group_ingress(
        &self,
        request: Request<v1::AuthorizeSecurityGroupIngressRequest>,
    ) -> Result<Response<v1::AuthorizeSecurityGroupIngressResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = AuthorizeIngress::try_from(request.into_inner())?;
        let rules = self.app.authorize_ingress(&caller, command).await?;
        let security_group_rules = rules.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::AuthorizeSecurityGroupIngressResponse { security_group_rules }))
    }

    async fn revoke_security_group_ingress(
        &self,
        request: Request<v1::RevokeSecurityGroupIngressRequest>,
    ) -> Result<Response<v1::RevokeSecurityGroupIngressResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = RevokeIngress::try_from(request.into_inner())?;
        self.app.revoke_ingress(&caller, command).await?;
        Ok(Response::new(v1::RevokeSecurityGroupIngressResponse {}))
    }

    async fn list_availability_zones(
        &self,
        request: Request<v1::ListAvailabilityZonesRequest>,
    ) -> Result<Response<v1::ListAvailabilityZonesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListAvailabilityZonesRequest { page_size, page_token } = request.into_inner();
        let page = page(page_size, &page_token)?;
        let (zones, next_page_token) = self.app.list_zones(&caller, &page).await?;
        let region = self.app.settings.region.as_str();
        let availability_zones =
            zones.into_iter().map(|zone| convert::zone(zone, region)).collect();
        Ok(Response::new(v1::ListAvailabilityZonesResponse { availability_zones, next_page_token }))
    }
}
