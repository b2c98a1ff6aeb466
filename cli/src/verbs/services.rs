//! `postern service` and `postern connection`: the provider's side.

use clap::Subcommand;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use postern_proto::v1::{
    AcceptVpcEndpointConnectionsRequest, CreateVpcEndpointServiceConfigurationRequest,
    DeleteVpcEndpointServiceConfigurationsRequest, GetVpcEndpointServiceConfigurationRequest,
    ListVpcEndpointConnectionsRequest, ListVpcEndpointServiceConfigurationsRequest,
    ListVpcEndpointServicePermissionsRequest, Listener,
    ModifyVpcEndpointServiceConfigurationRequest, ModifyVpcEndpointServicePermissionsRequest,
    RejectVpcEndpointConnectionsRequest, Target,
};

use super::endpoints::State;
use super::{Limit, bulk, call, pages};
use crate::connect::Connection as Servers;
use crate::exit::Failure;
use crate::output::{Column, Printer};

/// Endpoint services.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Publish a service.
    #[command(after_help = "Example:
  postern --profile provider service create --vpc vpc-… \\
      --target 80=127.80.1.10:8080@use1-az1 --target 80=127.80.2.10:8080@use1-az2")]
    Create {
        /// The VPC that the targets are in.
        #[arg(long)]
        vpc: String,
        /// A port of the service and a server behind it, as PORT=ADDRESS:PORT@ZONE. Repeat it.
        #[arg(long = "target", required = true, value_parser = target, value_name = "TARGET")]
        targets: Vec<PortTarget>,
        /// Whether each request waits for a decision [default: true].
        #[arg(long)]
        acceptance_required: Option<bool>,
        /// A name that consumers may use for it within their VPCs.
        #[arg(long, default_value = "")]
        private_dns_name: String,
        /// Send targets a PROXY protocol v2 header.
        #[arg(long)]
        proxy_protocol: bool,
        /// After how many seconds without a byte a connection is reset [default: 350].
        #[arg(long, default_value_t = 0)]
        idle_timeout: i32,
        /// Makes a repeated request harmless.
        #[arg(long, default_value = "")]
        client_token: String,
    },
    /// Show a service.
    Get {
        /// The service's id.
        service_id: String,
    },
    /// List the account's services.
    List(Limit),
    /// Change a service.
    Modify {
        /// The service's id.
        service_id: String,
        /// The new targets, all of them, as PORT=ADDRESS:PORT@ZONE. Repeat it.
        #[arg(long = "target", value_parser = target, value_name = "TARGET")]
        targets: Vec<PortTarget>,
        /// Whether each later request waits for a decision.
        #[arg(long)]
        acceptance_required: Option<bool>,
        /// The new private name.
        #[arg(long, default_value = "", conflicts_with = "remove_private_dns_name")]
        private_dns_name: String,
        /// Take the private name away.
        #[arg(long)]
        remove_private_dns_name: bool,
        /// Whether targets get a PROXY protocol v2 header.
        #[arg(long)]
        proxy_protocol: Option<bool>,
        /// After how many seconds without a byte a connection is reset.
        #[arg(long)]
        idle_timeout: Option<i32>,
    },
    /// Delete services.
    Delete {
        /// The services' ids.
        #[arg(required = true)]
        service_ids: Vec<String>,
    },
    /// Let principals connect.
    #[command(
        after_help = "Example:\n  postern service allow vpce-svc-… 444455556666 arn:aws:iam::111122223333:role/ci"
    )]
    Allow {
        /// The service's id.
        service_id: String,
        /// Account numbers, ARNs or *.
        #[arg(required = true)]
        principals: Vec<String>,
    },
    /// Let principals connect no longer. Accepted connections stay.
    Disallow {
        /// The service's id.
        service_id: String,
        /// Account numbers, ARNs or *.
        #[arg(required = true)]
        principals: Vec<String>,
    },
    /// List who may connect.
    Permissions {
        /// The service's id.
        service_id: String,
        #[command(flatten)]
        limit: Limit,
    },
}

/// Connections to endpoint services.
#[derive(Debug, Subcommand)]
pub enum Connection {
    /// List connections and requests for one.
    List {
        /// Only those of this service.
        #[arg(long)]
        service: Option<String>,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Accept requests.
    #[command(
        after_help = "Example:\n  postern --profile provider connection accept vpce-svc-… vpce-…"
    )]
    Accept {
        /// The service's id.
        service_id: String,
        /// The endpoints' ids.
        #[arg(required = true)]
        endpoint_ids: Vec<String>,
    },
    /// Reject requests, or connections that were accepted.
    Reject {
        /// The service's id.
        service_id: String,
        /// The endpoints' ids.
        #[arg(required = true)]
        endpoint_ids: Vec<String>,
    },
}

/// A port of a service, and a server behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct PortTarget {
    port: i32,
    target: Target,
}

/// Reads `PORT=ADDRESS:PORT@ZONE`.
fn target(text: &str) -> Result<PortTarget, String> {
    let parse = || {
        let (port, rest) = text.split_once('=')?;
        let (address, zone) = rest.split_once('@')?;
        let address: std::net::SocketAddrV4 = address.parse().ok()?;
        let target = Target {
            address: address.ip().to_string(),
            port: i32::from(address.port()),
            availability_zone: zone.to_owned(),
        };
        Some(PortTarget { port: i32::from(port.parse::<u16>().ok()?), target })
    };
    parse()
        .ok_or_else(|| "expected PORT=ADDRESS:PORT@ZONE, as 80=10.0.0.5:8080@use1-az1".to_owned())
}

fn listeners(targets: Vec<PortTarget>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for PortTarget { port, target } in targets {
        match listeners.iter_mut().find(|listener| listener.port == port) {
            Some(listener) => listener.targets.push(target),
            None => listeners.push(Listener { port, targets: vec![target] }),
        }
    }
    listeners
}

const PERMISSIONS: &[Column] =
    &[("PERMISSION", "servicePermissionId"), ("PRINCIPAL", "principal"), ("TYPE", "principalType")];

pub(super) async fn service(
    verb: Service,
    servers: &Servers,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Service::Create {
            vpc,
            targets,
            acceptance_required,
            private_dns_name,
            proxy_protocol,
            idle_timeout,
            client_token,
        } => {
            let request = CreateVpcEndpointServiceConfigurationRequest {
                vpc_id: vpc,
                listeners: listeners(targets),
                acceptance_required,
                private_dns_name,
                proxy_protocol_v2: proxy_protocol,
                idle_timeout_seconds: idle_timeout,
                client_token,
            };
            printer.message(&call!(
                servers,
                control_plane,
                ProviderServiceClient,
                create_vpc_endpoint_service_configuration,
                request
            )?)
        }
        Service::Get { service_id } => printer.message(&call!(
            servers,
            control_plane,
            ProviderServiceClient,
            get_vpc_endpoint_service_configuration,
            GetVpcEndpointServiceConfigurationRequest { service_id }
        )?),
        Service::List(limit) => {
            let services = pages!(
                servers,
                control_plane,
                ProviderServiceClient,
                list_vpc_endpoint_service_configurations,
                ListVpcEndpointServiceConfigurationsRequest::default(),
                service_configurations,
                limit.limit
            );
            printer.list(
                "serviceConfigurations",
                &services,
                &[
                    ("SERVICE", "serviceId"),
                    ("NAME", "serviceName"),
                    ("STATE", "serviceState"),
                    ("ACCEPTANCE", "acceptanceRequired"),
                    ("PRIVATE NAME", "privateDnsName"),
                    ("ZONES", "availabilityZoneIds"),
                ],
            )
        }
        Service::Modify {
            service_id,
            targets,
            acceptance_required,
            private_dns_name,
            remove_private_dns_name,
            proxy_protocol,
            idle_timeout,
        } => {
            let request = ModifyVpcEndpointServiceConfigurationRequest {
                service_id,
                acceptance_required,
                listeners: listeners(targets),
                private_dns_name,
                remove_private_dns_name,
                proxy_protocol_v2: proxy_protocol,
                idle_timeout_seconds: idle_timeout,
            };
            printer.message(&call!(
                servers,
                control_plane,
                ProviderServiceClient,
                modify_vpc_endpoint_service_configuration,
                request
            )?)
        }
        Service::Delete { service_ids } => {
            let answer = call!(
                servers,
                control_plane,
                ProviderServiceClient,
                delete_vpc_endpoint_service_configurations,
                DeleteVpcEndpointServiceConfigurationsRequest { service_ids }
            )?;
            bulk(printer, &answer.unsuccessful, "deleted")
        }
        Service::Allow { service_id, principals } => {
            let request = ModifyVpcEndpointServicePermissionsRequest {
                service_id,
                add_allowed_principals: principals,
                remove_allowed_principals: Vec::new(),
            };
            let answer = call!(
                servers,
                control_plane,
                ProviderServiceClient,
                modify_vpc_endpoint_service_permissions,
                request
            )?;
            printer.list("addedPrincipals", &answer.added_principals, PERMISSIONS)
        }
        Service::Disallow { service_id, principals } => {
            let request = ModifyVpcEndpointServicePermissionsRequest {
                service_id,
                add_allowed_principals: Vec::new(),
                remove_allowed_principals: principals,
            };
            call!(
                servers,
                control_plane,
                ProviderServiceClient,
                modify_vpc_endpoint_service_permissions,
                request
            )?;
            printer.done("disallowed");
            Ok(())
        }
        Service::Permissions { service_id, limit } => {
            let request = ListVpcEndpointServicePermissionsRequest {
                service_id: service_id.clone(),
                ..Default::default()
            };
            let principals = pages!(
                servers,
                control_plane,
                ProviderServiceClient,
                list_vpc_endpoint_service_permissions,
                request,
                allowed_principals,
                limit.limit
            );
            printer.list("allowedPrincipals", &principals, PERMISSIONS)
        }
    }
}

pub(super) async fn connection(
    verb: Connection,
    servers: &Servers,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Connection::List { service, state, limit } => {
            let request = ListVpcEndpointConnectionsRequest {
                service_id: service.unwrap_or_default(),
                vpc_endpoint_state: state.map(State::wire).unwrap_or_default().into(),
                ..Default::default()
            };
            let connections = pages!(
                servers,
                control_plane,
                ProviderServiceClient,
                list_vpc_endpoint_connections,
                request,
                vpc_endpoint_connections,
                limit.limit
            );
            printer.list(
                "vpcEndpointConnections",
                &connections,
                &[
                    ("ENDPOINT", "vpcEndpointId"),
                    ("SERVICE", "serviceId"),
                    ("OWNER", "vpcEndpointOwner"),
                    ("STATE", "vpcEndpointState"),
                    ("ZONES", "availabilityZoneIds"),
                    ("CREATED", "createTime"),
                ],
            )
        }
        Connection::Accept { service_id, endpoint_ids } => {
            let answer = call!(
                servers,
                control_plane,
                ProviderServiceClient,
                accept_vpc_endpoint_connections,
                AcceptVpcEndpointConnectionsRequest { service_id, vpc_endpoint_ids: endpoint_ids }
            )?;
            bulk(printer, &answer.unsuccessful, "accepted")
        }
        Connection::Reject { service_id, endpoint_ids } => {
            let answer = call!(
                servers,
                control_plane,
                ProviderServiceClient,
                reject_vpc_endpoint_connections,
                RejectVpcEndpointConnectionsRequest { service_id, vpc_endpoint_ids: endpoint_ids }
            )?;
            bulk(printer, &answer.unsuccessful, "rejected")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_one_port_are_gathered_under_it() {
        let read = |text: &str| target(text).unwrap();
        let listeners = listeners(vec![
            read("80=10.0.0.5:8080@use1-az1"),
            read("443=10.0.0.5:8443@use1-az1"),
            read("80=10.0.1.5:8080@use1-az2"),
        ]);
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[0].targets.len(), 2);
        for text in ["80", "80=10.0.0.5@use1-az1", "x=10.0.0.5:1@z", "80=10.0.0.5:80"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
