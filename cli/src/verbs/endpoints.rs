//! `postern endpoint` and `postern interface`: the consumer's side.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::{
    CreateVpcEndpointRequest, DeleteVpcEndpointsRequest, GetNetworkInterfaceRequest,
    GetVpcEndpointRequest, ListNetworkInterfacesRequest, ListVpcEndpointServicesRequest,
    ListVpcEndpointsRequest, ModifyVpcEndpointRequest, VpcEndpoint, VpcEndpointState,
    WatchVpcEndpointsRequest,
};

use super::{Limit, bulk, call, pages};
use crate::args::seconds;
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::{Column, Printer, json, shorten};
use crate::wait::wait_for;

/// Where an endpoint is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Waits for the provider's decision.
    PendingAcceptance,
    /// Accepted, being set up.
    Pending,
    /// Packets flow.
    Available,
    /// Some zones are usable.
    Partial,
    /// The provider refused it.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// It could not be made available.
    Failed,
    /// Being taken down.
    Deleting,
    /// Gone.
    Deleted,
}

impl State {
    /// The state as the API has it.
    pub fn wire(self) -> VpcEndpointState {
        match self {
            Self::PendingAcceptance => VpcEndpointState::PendingAcceptance,
            Self::Pending => VpcEndpointState::Pending,
            Self::Available => VpcEndpointState::Available,
            Self::Partial => VpcEndpointState::Partial,
            Self::Rejected => VpcEndpointState::Rejected,
            Self::Expired => VpcEndpointState::Expired,
            Self::Failed => VpcEndpointState::Failed,
            Self::Deleting => VpcEndpointState::Deleting,
            Self::Deleted => VpcEndpointState::Deleted,
        }
    }
}

/// Whether, and how long, to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Wait {
    /// Wait until it is settled: available, or waiting for the provider; or gone.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub wait_timeout: Duration,
}

/// Interface endpoints.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Open a door to a service.
    #[command(after_help = "Example:
  postern --profile consumer endpoint create --vpc vpc-… --subnet subnet-… --group sg-… \\
      --service-name com.amazonaws.vpce.us-east-1.vpce-svc-… --wait")]
    Create {
        /// The VPC.
        #[arg(long)]
        vpc: String,
        /// The service's name.
        #[arg(long)]
        service_name: String,
        /// A subnet to have an interface in; one in each zone. Repeat it.
        #[arg(long = "subnet")]
        subnets: Vec<String>,
        /// A security group [default: the VPC's default group]. Repeat it.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// Whether the service's private name leads here within the VPC.
        #[arg(long)]
        private_dns: Option<bool>,
        /// Makes a repeated request harmless.
        #[arg(long, default_value = "")]
        client_token: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show an endpoint.
    Get {
        /// The endpoint's id.
        endpoint_id: String,
    },
    /// List the account's endpoints.
    List {
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Change an endpoint.
    Modify {
        /// The endpoint's id.
        endpoint_id: String,
        /// A subnet to have an interface in. Repeat it.
        #[arg(long = "add-subnet")]
        add_subnets: Vec<String>,
        /// A subnet to have one in no longer. Repeat it.
        #[arg(long = "remove-subnet")]
        remove_subnets: Vec<String>,
        /// A group to carry. Repeat it.
        #[arg(long = "add-group")]
        add_groups: Vec<String>,
        /// A group to carry no longer. Repeat it.
        #[arg(long = "remove-group")]
        remove_groups: Vec<String>,
        /// Whether the service's private name leads here within the VPC.
        #[arg(long)]
        private_dns: Option<bool>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete endpoints.
    Delete {
        /// The endpoints' ids.
        #[arg(required = true)]
        endpoint_ids: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show the endpoints as they are, and each again when it changes, until interrupted.
    Watch {
        /// Only these.
        endpoint_ids: Vec<String>,
    },
    /// Wait until an endpoint is in a state.
    #[command(after_help = "Example:\n  postern endpoint wait vpce-… --state available")]
    Wait {
        /// The endpoint's id.
        endpoint_id: String,
        /// The state.
        #[arg(long, value_enum, default_value = "available")]
        state: State,
        /// How long to wait, in seconds.
        #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
        wait_timeout: Duration,
    },
    /// List the services that the account may connect to.
    Services {
        /// Only those of these names.
        names: Vec<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

/// Network interfaces.
#[derive(Debug, Subcommand)]
pub enum Interface {
    /// Show an interface with its meters.
    Get {
        /// The interface's id.
        interface_id: String,
    },
    /// List the account's interfaces.
    List {
        /// Only those of this endpoint.
        #[arg(long)]
        endpoint: Option<String>,
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
}

const ENDPOINTS: &[Column] = &[
    ("ENDPOINT", "vpcEndpointId"),
    ("VPC", "vpcId"),
    ("SERVICE", "serviceName"),
    ("STATE", "state"),
    ("PRIVATE DNS", "privateDnsEnabled"),
];

const SETTLED: &[VpcEndpointState] =
    &[VpcEndpointState::PendingAcceptance, VpcEndpointState::Available, VpcEndpointState::Partial];

pub(super) async fn endpoint(
    verb: Endpoint,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Endpoint::Create {
            vpc,
            service_name,
            subnets,
            groups,
            private_dns,
            client_token,
            wait,
        } => {
            let request = CreateVpcEndpointRequest {
                vpc_id: vpc,
                service_name,
                subnet_ids: subnets,
                group_ids: groups,
                private_dns_enabled: private_dns,
                client_token,
            };
            let answer = call!(
                connection,
                control_plane,
                ConsumerServiceClient,
                create_vpc_endpoint,
                request
            )?;
            settle(answer.vpc_endpoint.unwrap_or_default(), wait, connection, printer).await
        }
        Endpoint::Get { endpoint_id } => printer.message(&call!(
            connection,
            control_plane,
            ConsumerServiceClient,
            get_vpc_endpoint,
            GetVpcEndpointRequest { vpc_endpoint_id: endpoint_id }
        )?),
        Endpoint::List { vpc, state, limit } => {
            let request = ListVpcEndpointsRequest {
                vpc_id: vpc.unwrap_or_default(),
                state: state.map(State::wire).unwrap_or_default().into(),
                ..Default::default()
            };
            let endpoints = pages!(
                connection,
                control_plane,
                ConsumerServiceClient,
                list_vpc_endpoints,
                request,
                vpc_endpoints,
                limit.limit
            );
            printer.list("vpcEndpoints", &endpoints, ENDPOINTS)
        }
        Endpoint::Modify {
            endpoint_id,
            add_subnets,
            remove_subnets,
            add_groups,
            remove_groups,
            private_dns,
            wait,
        } => {
            let request = ModifyVpcEndpointRequest {
                vpc_endpoint_id: endpoint_id,
                add_subnet_ids: add_subnets,
                remove_subnet_ids: remove_subnets,
                add_group_ids: add_groups,
                remove_group_ids: remove_groups,
                private_dns_enabled: private_dns,
            };
            let answer = call!(
                connection,
                control_plane,
                ConsumerServiceClient,
                modify_vpc_endpoint,
                request
            )?;
            settle(answer.vpc_endpoint.unwrap_or_default(), wait, connection, printer).await
        }
        Endpoint::Delete { endpoint_ids, wait } => {
            let answer = call!(
                connection,
                control_plane,
                ConsumerServiceClient,
                delete_vpc_endpoints,
                DeleteVpcEndpointsRequest { vpc_endpoint_ids: endpoint_ids.clone() }
            )?;
            let failed =
                |id: &String| answer.unsuccessful.iter().any(|item| item.resource_id == *id);
            if wait.wait {
                for id in endpoint_ids.iter().filter(|id| !failed(id)) {
                    let gone = &[VpcEndpointState::Deleted];
                    wait_for(connection, id, gone, wait.wait_timeout, printer).await?;
                }
            }
            bulk(printer, &answer.unsuccessful, "deleted")
        }
        Endpoint::Watch { endpoint_ids } => watch(endpoint_ids, connection, printer).await,
        Endpoint::Wait { endpoint_id, state, wait_timeout } => {
            let endpoint =
                wait_for(connection, &endpoint_id, &[state.wire()], wait_timeout, printer).await?;
            printer.message(&endpoint)
        }
        Endpoint::Services { names, limit } => {
            let request =
                ListVpcEndpointServicesRequest { service_names: names, ..Default::default() };
            let services = pages!(
                connection,
                control_plane,
                ConsumerServiceClient,
                list_vpc_endpoint_services,
                request,
                services,
                limit.limit
            );
            printer.list(
                "services",
                &services,
                &[
                    ("NAME", "serviceName"),
                    ("OWNER", "ownerId"),
                    ("ZONES", "availabilityZones"),
                    ("PORTS", "ports"),
                    ("ACCEPTANCE", "acceptanceRequired"),
                    ("PRIVATE NAME", "privateDnsName"),
                ],
            )
        }
    }
}

async fn settle(
    endpoint: VpcEndpoint,
    wait: Wait,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    let id = &endpoint.vpc_endpoint_id;
    let endpoint = match wait.wait {
        true => wait_for(connection, id, SETTLED, wait.wait_timeout, printer).await?,
        false => endpoint,
    };
    printer.message(&endpoint)
}

/// A line for each change; as JSON, an object a line.
async fn watch(
    ids: Vec<String>,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = ConsumerServiceClient::new(connection.control_plane());
    // No time limit: it goes on until somebody ends it.
    let request = WatchVpcEndpointsRequest { vpc_endpoint_ids: ids };
    let mut stream = client.watch_vpc_endpoints(request).await?.into_inner();
    while let Some(change) = stream.message().await? {
        let endpoint = change.vpc_endpoint.unwrap_or_default();
        if printer.is_json() {
            println!("{}", json(&endpoint)?);
        } else {
            println!(
                "{}  {}  {}  {}",
                endpoint.vpc_endpoint_id,
                endpoint.service_name,
                shorten(endpoint.state().as_str_name()),
                endpoint.failure_reason
            );
        }
    }
    Ok(())
}

pub(super) async fn interface(
    verb: Interface,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Interface::Get { interface_id } => printer.message(&call!(
            connection,
            control_plane,
            ConsumerServiceClient,
            get_network_interface,
            GetNetworkInterfaceRequest { network_interface_id: interface_id }
        )?),
        Interface::List { endpoint, vpc, limit } => {
            let request = ListNetworkInterfacesRequest {
                vpc_endpoint_id: endpoint.unwrap_or_default(),
                vpc_id: vpc.unwrap_or_default(),
                ..Default::default()
            };
            let interfaces = pages!(
                connection,
                control_plane,
                ConsumerServiceClient,
                list_network_interfaces,
                request,
                network_interfaces,
                limit.limit
            );
            printer.list(
                "networkInterfaces",
                &interfaces,
                &[
                    ("INTERFACE", "networkInterfaceId"),
                    ("ENDPOINT", "vpcEndpointId"),
                    ("SUBNET", "subnetId"),
                    ("ZONE", "availabilityZone"),
                    ("ADDRESS", "privateIpAddress"),
                    ("STATUS", "status"),
                    ("OPEN", "activeConnections"),
                    ("IN", "bytesIn"),
                    ("OUT", "bytesOut"),
                ],
            )
        }
    }
}
