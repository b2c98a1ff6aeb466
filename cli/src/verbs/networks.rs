//! `postern vpc`, `subnet`, `security-group` and `zone`.

use clap::Subcommand;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_proto::v1::{
    AuthorizeSecurityGroupIngressRequest, CreateSecurityGroupRequest, CreateSubnetRequest,
    CreateVpcRequest, DeleteSecurityGroupRequest, DeleteSubnetRequest, DeleteVpcRequest,
    GetSecurityGroupRequest, GetSubnetRequest, GetVpcRequest, IpPermission,
    ListAvailabilityZonesRequest, ListSecurityGroupsRequest, ListSubnetsRequest, ListVpcsRequest,
    ModifyVpcAttributeRequest, RevokeSecurityGroupIngressRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// VPCs.
#[derive(Debug, Subcommand)]
pub enum Vpc {
    /// Make a VPC.
    #[command(
        after_help = "Example:\n  postern vpc create --cidr 127.64.0.0/16 --dns-hostnames true"
    )]
    Create {
        /// Its IPv4 range, /16 to /28.
        #[arg(long)]
        cidr: String,
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// Whether private names may be used.
        #[arg(long)]
        dns_hostnames: Option<bool>,
    },
    /// Show a VPC.
    Get {
        /// The VPC's id.
        vpc_id: String,
    },
    /// List VPCs.
    List(Limit),
    /// Switch a VPC's DNS attributes.
    Modify {
        /// The VPC's id.
        vpc_id: String,
        /// Whether the resolver answers private names.
        #[arg(long)]
        dns_support: Option<bool>,
        /// Whether private names may be used at all.
        #[arg(long)]
        dns_hostnames: Option<bool>,
    },
    /// Delete a VPC.
    Delete {
        /// The VPC's id.
        vpc_id: String,
    },
}

/// Subnets.
#[derive(Debug, Subcommand)]
pub enum Subnet {
    /// Make a subnet.
    #[command(
        after_help = "Example:\n  postern subnet create --vpc vpc-… --cidr 127.64.1.0/24 --zone use1-az1"
    )]
    Create {
        /// The VPC.
        #[arg(long)]
        vpc: String,
        /// Its IPv4 range, within the VPC's.
        #[arg(long)]
        cidr: String,
        /// The zone, by the account's name for it or by id.
        #[arg(long)]
        zone: String,
    },
    /// Show a subnet.
    Get {
        /// The subnet's id.
        subnet_id: String,
    },
    /// List subnets.
    List {
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Delete a subnet.
    Delete {
        /// The subnet's id.
        subnet_id: String,
    },
}

/// Security groups.
#[derive(Debug, Subcommand)]
pub enum SecurityGroup {
    /// Make a group; it lets nobody in yet.
    Create {
        /// The VPC.
        #[arg(long)]
        vpc: String,
        /// Its name.
        #[arg(long)]
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Show a group with its rules.
    Get {
        /// The group's id.
        group_id: String,
    },
    /// List groups.
    List {
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Delete a group.
    Delete {
        /// The group's id.
        group_id: String,
    },
    /// Let a range of addresses in.
    #[command(
        after_help = "Example:\n  postern security-group authorize sg-… --cidr 127.64.0.0/16 --port 80"
    )]
    Authorize {
        /// The group's id.
        group_id: String,
        /// The addresses.
        #[arg(long)]
        cidr: String,
        /// The port, or the first and the last as 8000-8100.
        #[arg(long, value_parser = ports)]
        port: Option<(i32, i32)>,
        /// The protocol, or -1 for all.
        #[arg(long, default_value = "tcp", allow_hyphen_values = true)]
        protocol: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Take rules away.
    Revoke {
        /// The group's id.
        group_id: String,
        /// The rules' ids.
        #[arg(required = true)]
        rule_ids: Vec<String>,
    },
}

/// Availability zones.
#[derive(Debug, Subcommand)]
pub enum Zone {
    /// List the region's zones, as the account names them.
    List(Limit),
}

fn ports(text: &str) -> Result<(i32, i32), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().map(i32::from);
    match (port(from), port(to)) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => Err("expected a port, or the first and the last as 8000-8100".to_owned()),
    }
}

pub(super) async fn vpc(
    verb: Vpc,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Vpc::Create { cidr, name, dns_hostnames } => {
            let request =
                CreateVpcRequest { cidr_block: cidr, name, enable_dns_hostnames: dns_hostnames };
            printer.message(&call!(
                connection,
                control_plane,
                VpcServiceClient,
                create_vpc,
                request
            )?)
        }
        Vpc::Get { vpc_id } => printer.message(&call!(
            connection,
            control_plane,
            VpcServiceClient,
            get_vpc,
            GetVpcRequest { vpc_id }
        )?),
        Vpc::List(limit) => {
            let vpcs = pages!(
                connection,
                control_plane,
                VpcServiceClient,
                list_vpcs,
                ListVpcsRequest::default(),
                vpcs,
                limit.limit
            );
            printer.list(
                "vpcs",
                &vpcs,
                &[
                    ("VPC", "vpcId"),
                    ("NAME", "name"),
                    ("CIDR", "cidrBlock"),
                    ("DNS SUPPORT", "enableDnsSupport"),
                    ("DNS HOSTNAMES", "enableDnsHostnames"),
                ],
            )
        }
        Vpc::Modify { vpc_id, dns_support, dns_hostnames } => {
            let request = ModifyVpcAttributeRequest {
                vpc_id,
                enable_dns_support: dns_support,
                enable_dns_hostnames: dns_hostnames,
            };
            printer.message(&call!(
                connection,
                control_plane,
                VpcServiceClient,
                modify_vpc_attribute,
                request
            )?)
        }
        Vpc::Delete { vpc_id } => {
            let request = DeleteVpcRequest { vpc_id: vpc_id.clone() };
            call!(connection, control_plane, VpcServiceClient, delete_vpc, request)?;
            printer.done(&format!("{vpc_id} deleted"));
            Ok(())
        }
    }
}

pub(super) async fn subnet(
    verb: Subnet,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Subnet::Create { vpc, cidr, zone } => {
            let request =
                CreateSubnetRequest { vpc_id: vpc, cidr_block: cidr, availability_zone: zone };
            printer.message(&call!(
                connection,
                control_plane,
                VpcServiceClient,
                create_subnet,
                request
            )?)
        }
        Subnet::Get { subnet_id } => printer.message(&call!(
            connection,
            control_plane,
            VpcServiceClient,
            get_subnet,
            GetSubnetRequest { subnet_id }
        )?),
        Subnet::List { vpc, limit } => {
            let request =
                ListSubnetsRequest { vpc_id: vpc.unwrap_or_default(), ..Default::default() };
            let subnets = pages!(
                connection,
                control_plane,
                VpcServiceClient,
                list_subnets,
                request,
                subnets,
                limit.limit
            );
            printer.list(
                "subnets",
                &subnets,
                &[
                    ("SUBNET", "subnetId"),
                    ("VPC", "vpcId"),
                    ("CIDR", "cidrBlock"),
                    ("ZONE", "availabilityZone"),
                    ("ZONE ID", "availabilityZoneId"),
                    ("FREE", "availableIpAddressCount"),
                ],
            )
        }
        Subnet::Delete { subnet_id } => {
            let request = DeleteSubnetRequest { subnet_id: subnet_id.clone() };
            call!(connection, control_plane, VpcServiceClient, delete_subnet, request)?;
            printer.done(&format!("{subnet_id} deleted"));
            Ok(())
        }
    }
}

pub(super) async fn security_group(
    verb: SecurityGroup,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        SecurityGroup::Create { vpc, name, description } => {
            let request = CreateSecurityGroupRequest { vpc_id: vpc, group_name: name, description };
            printer.message(&call!(
                connection,
                control_plane,
                VpcServiceClient,
                create_security_group,
                request
            )?)
        }
        SecurityGroup::Get { group_id } => printer.message(&call!(
            connection,
            control_plane,
            VpcServiceClient,
            get_security_group,
            GetSecurityGroupRequest { group_id }
        )?),
        SecurityGroup::List { vpc, limit } => {
            let request =
                ListSecurityGroupsRequest { vpc_id: vpc.unwrap_or_default(), ..Default::default() };
            let groups = pages!(
                connection,
                control_plane,
                VpcServiceClient,
                list_security_groups,
                request,
                security_groups,
                limit.limit
            );
            printer.list(
                "securityGroups",
                &groups,
                &[
                    ("GROUP", "groupId"),
                    ("NAME", "groupName"),
                    ("VPC", "vpcId"),
                    ("DESCRIPTION", "description"),
                ],
            )
        }
        SecurityGroup::Delete { group_id } => {
            let request = DeleteSecurityGroupRequest { group_id: group_id.clone() };
            call!(connection, control_plane, VpcServiceClient, delete_security_group, request)?;
            printer.done(&format!("{group_id} deleted"));
            Ok(())
        }
        SecurityGroup::Authorize { group_id, cidr, port, protocol, description } => {
            let request = AuthorizeSecurityGroupIngressRequest {
                group_id,
                ip_permissions: vec![IpPermission {
                    ip_protocol: protocol,
                    from_port: port.map(|(from, _)| from),
                    to_port: port.map(|(_, to)| to),
                    cidr_ipv4: cidr,
                    description,
                }],
            };
            let answer = call!(
                connection,
                control_plane,
                VpcServiceClient,
                authorize_security_group_ingress,
                request
            )?;
            printer.list(
                "securityGroupRules",
                &answer.security_group_rules,
                &[
                    ("RULE", "securityGroupRuleId"),
                    ("PROTOCOL", "permission.ipProtocol"),
                    ("FROM", "permission.fromPort"),
                    ("TO", "permission.toPort"),
                    ("SOURCE", "permission.cidrIpv4"),
                ],
            )
        }
        SecurityGroup::Revoke { group_id, rule_ids } => {
            let request =
                RevokeSecurityGroupIngressRequest { group_id, security_group_rule_ids: rule_ids };
            call!(
                connection,
                control_plane,
                VpcServiceClient,
                revoke_security_group_ingress,
                request
            )?;
            printer.done("revoked");
            Ok(())
        }
    }
}

pub(super) async fn zone(
    verb: Zone,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    let Zone::List(limit) = verb;
    let zones = pages!(
        connection,
        control_plane,
        VpcServiceClient,
        list_availability_zones,
        ListAvailabilityZonesRequest::default(),
        availability_zones,
        limit.limit
    );
    printer.list(
        "availabilityZones",
        &zones,
        &[("NAME", "zoneName"), ("ID", "zoneId"), ("REGION", "regionName")],
    )
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!(ports("80"), Ok((80, 80)));
        assert_eq!(ports("8000-8100"), Ok((8000, 8100)));
        for text in ["", "x", "90-80", "65536", "-1"] {
            assert!(ports(text).is_err(), "{text}");
        }
    }
}
