//! Messages to commands, and rows to messages.

use postern_model::id::SecurityGroupRuleId;
use postern_model::security::{IngressRule, Protocol};
use postern_model::{Code, InvalidField};
use postern_proto::time::timestamp;
use postern_proto::v1;

use super::super::fields::{missing, required, words};
use crate::app::security_groups::{
    AuthorizeIngress, CreateSecurityGroup, GroupName, RevokeIngress, plain,
};
use crate::app::subnets::CreateSubnet;
use crate::app::vpcs::{CreateVpc, ModifyVpcAttribute};
use crate::error::Error;
use crate::store::accounts::ZoneRow;
use crate::store::security_groups::{GroupRow, NewRule, RuleRow};
use crate::store::subnets::SubnetRow;
use crate::store::vpcs::VpcRow;

/// The most characters of a VPC's name.
const NAME_MAX: usize = 255;

impl TryFrom<v1::CreateVpcRequest> for CreateVpc {
    type Error = Error;

    fn try_from(request: v1::CreateVpcRequest) -> Result<Self, Error> {
        let v1::CreateVpcRequest { cidr_block, name, enable_dns_hostnames } = request;
        Ok(Self {
            cidr: required("cidr_block", &cidr_block)?,
            name: words("name", name, NAME_MAX)?,
            dns_hostnames: enable_dns_hostnames.unwrap_or(false),
        })
    }
}

impl TryFrom<v1::ModifyVpcAttributeRequest> for ModifyVpcAttribute {
    type Error = Error;

    fn try_from(request: v1::ModifyVpcAttributeRequest) -> Result<Self, Error> {
        let v1::ModifyVpcAttributeRequest { vpc_id, enable_dns_support, enable_dns_hostnames } =
            request;
        let vpc = required("vpc_id", &vpc_id)?;
        if enable_dns_support.is_none() && enable_dns_hostnames.is_none() {
            let message = "enable_dns_support or enable_dns_hostnames is required";
            return Err(Error::refused(Code::MissingParameter, message));
        }
        Ok(Self { vpc, dns_support: enable_dns_support, dns_hostnames: enable_dns_hostnames })
    }
}

impl TryFrom<v1::CreateSubnetRequest> for CreateSubnet {
    type Error = Error;

    fn try_from(request: v1::CreateSubnetRequest) -> Result<Self, Error> {
        let v1::CreateSubnetRequest { vpc_id, cidr_block, availability_zone } = request;
        Ok(Self {
            vpc: required("vpc_id", &vpc_id)?,
            cidr: required("cidr_block", &cidr_block)?,
            zone: required("availability_zone", &availability_zone)?,
        })
    }
}

impl TryFrom<v1::CreateSecurityGroupRequest> for CreateSecurityGroup {
    type Error = Error;

    fn try_from(request: v1::CreateSecurityGroupRequest) -> Result<Self, Error> {
        let v1::CreateSecurityGroupRequest { vpc_id, group_name, description } = request;
        let vpc = required("vpc_id", &vpc_id)?;
        if group_name.is_empty() {
            return Err(missing("group_name"));
        }
        Ok(Self {
            vpc,
            name: GroupName::parse("group_name", group_name)?,
            description: plain("description", description)?,
        })
    }
}

impl TryFrom<v1::AuthorizeSecurityGroupIngressRequest> for AuthorizeIngress {
    type Error = Error;

    fn try_from(request: v1::AuthorizeSecurityGroupIngressRequest) -> Result<Self, Error> {
        let v1::AuthorizeSecurityGroupIngressRequest { group_id, ip_permissions } = request;
        let group = required("group_id", &group_id)?;
        if ip_permissions.is_empty() {
            return Err(missing("ip_permissions"));
        }
        let permissions = ip_permissions
            .into_iter()
            .enumerate()
            .map(|(number, asked)| permission(&format!("ip_permissions[{number}]"), asked));
        Ok(Self { group, permissions: permissions.collect::<Result<_, _>>()? })
    }
}

/// Reads what a rule is to allow.
fn permission(field: &str, asked: v1::IpPermission) -> Result<(IngressRule, String), Error> {
    let v1::IpPermission { ip_protocol, from_port, to_port, cidr_ipv4, description } = asked;
    for (name, text) in [("ip_protocol", &ip_protocol), ("cidr_ipv4", &cidr_ipv4)] {
        if text.is_empty() {
            return Err(missing(&format!("{field}.{name}")));
        }
    }
    let (from, to) = (from_port.map(i64::from), to_port.map(i64::from));
    let rule = IngressRule::parse(field, &cidr_ipv4, &ip_protocol, from, to);
    let rule = rule.map_err(|InvalidField { field, reason }| {
        Error::of_field(Code::InvalidPermissionMalformed, field, reason)
    })?;
    Ok((rule, plain(&format!("{field}.description"), description)?))
}

impl TryFrom<v1::RevokeSecurityGroupIngressRequest> for RevokeIngress {
    type Error = Error;

    fn try_from(request: v1::RevokeSecurityGroupIngressRequest) -> Result<Self, Error> {
        let v1::RevokeSecurityGroupIngressRequest { group_id, security_group_rule_ids } = request;
        let group = required("group_id", &group_id)?;
        if security_group_rule_ids.is_empty() {
            return Err(missing("security_group_rule_ids"));
        }
        let rules = security_group_rule_ids
            .iter()
            .enumerate()
            .map(|(number, id)| required(&format!("security_group_rule_ids[{number}]"), id));
        Ok(Self { group, rules: rules.collect::<Result<_, _>>()? })
    }
}

impl From<VpcRow> for v1::Vpc {
    fn from(vpc: VpcRow) -> Self {
        let VpcRow { id, owner, name, cidr, dns_support, dns_hostnames, created_at } = vpc;
        Self {
            vpc_id: id.to_string(),
            owner_id: owner.to_string(),
            cidr_block: cidr.to_string(),
            enable_dns_support: dns_support,
            enable_dns_hostnames: dns_hostnames,
            create_time: Some(timestamp(created_at)),
            name,
        }
    }
}

impl From<SubnetRow> for v1::Subnet {
    fn from(subnet: SubnetRow) -> Self {
        let available = subnet.available();
        let SubnetRow { id, vpc, owner, cidr, zone, zone_name, taken: _, created_at } = subnet;
        Self {
            subnet_id: id.to_string(),
            vpc_id: vpc.to_string(),
            owner_id: owner.to_string(),
            cidr_block: cidr.to_string(),
            availability_zone: zone_name.to_string(),
            availability_zone_id: zone.to_string(),
            // At most 65,531: a subnet is a /16 at the largest.
            available_ip_address_count: i32::try_from(available).unwrap_or(i32::MAX),
            create_time: Some(timestamp(created_at)),
        }
    }
}

impl From<GroupRow> for v1::SecurityGroup {
    fn from(group: GroupRow) -> Self {
        let GroupRow { id, vpc, owner, name, description, rules, created_at } = group;
        Self {
            group_id: id.to_string(),
            group_name: name,
            description,
            vpc_id: vpc.to_string(),
            owner_id: owner.to_string(),
            ingress: rules.into_iter().map(Into::into).collect(),
            create_time: Some(timestamp(created_at)),
        }
    }
}

impl From<RuleRow> for v1::SecurityGroupRule {
    fn from(row: RuleRow) -> Self {
        let RuleRow { id, protocol, from_port, to_port, source, referenced_group_id, description } =
            row;
        let source = source.map(|source| source.to_string()).unwrap_or_default();
        let referenced = referenced_group_id.map(|group| group.to_string()).unwrap_or_default();
        rule(id, protocol, (from_port, to_port), source, referenced, description)
    }
}

impl From<NewRule> for v1::SecurityGroupRule {
    fn from(new: NewRule) -> Self {
        let NewRule { id, rule: IngressRule { source, protocol, ports }, description } = new;
        let ports = (ports.first(), ports.last());
        rule(id, protocol, ports, source.to_string(), String::new(), description)
    }
}

fn rule(
    id: SecurityGroupRuleId,
    protocol: Protocol,
    (from, to): (u16, u16),
    cidr_ipv4: String,
    referenced_group_id: String,
    description: String,
) -> v1::SecurityGroupRule {
    let port = |port: u16| protocol.has_ports().then_some(i32::from(port));
    v1::SecurityGroupRule {
        security_group_rule_id: id.to_string(),
        permission: Some(v1::IpPermission {
            ip_protocol: protocol.to_string(),
            from_port: port(from),
            to_port: port(to),
            cidr_ipv4,
            description,
        }),
        referenced_group_id,
    }
}

/// A zone of `region` as its account names it.
pub(super) fn zone(zone: ZoneRow, region: &str) -> v1::AvailabilityZone {
    let ZoneRow { name, id } = zone;
    v1::AvailabilityZone {
        zone_name: name.to_string(),
        zone_id: id.to_string(),
        region_name: region.to_owned(),
    }
}
