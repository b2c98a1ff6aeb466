//! `postern host` and `postern attachment`.

use clap::{Subcommand, ValueEnum};
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::{
    AttachmentKind, CreateHostAttachmentRequest, CreateHostRequest, DeleteHostAttachmentRequest,
    DeleteHostRequest, GetHostRequest, ListHostAttachmentsRequest, ListHostsRequest,
};

use super::{Limit, call, pages};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

/// Hosts.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Register a host. One whose agent enrols by the join token registers itself.
    Create {
        /// Its name.
        #[arg(long)]
        name: String,
        /// The id of the zone that it stands in, such as use1-az1.
        #[arg(long)]
        zone: String,
    },
    /// Show a host.
    Get {
        /// The host's id.
        host_id: String,
    },
    /// List hosts.
    List(Limit),
    /// Remove a host.
    Delete {
        /// The host's id.
        host_id: String,
    },
}

/// How a host reaches a VPC.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// The VPC lies in 127.0.0.0/8.
    Loopback,
    /// Addresses are added to an interface.
    Interface,
    /// Sockets are opened in a network namespace.
    Namespace,
}

/// Attachments.
#[derive(Debug, Subcommand)]
pub enum Attachment {
    /// Say that a host reaches a VPC.
    #[command(after_help = "Examples:
  postern --profile operator attachment create --host host-… --vpc vpc-… --kind loopback
  postern --profile operator attachment create --host host-… --vpc vpc-… --kind interface --interface-address 10.77.0.11")]
    Create {
        /// The host.
        #[arg(long)]
        host: String,
        /// The VPC.
        #[arg(long)]
        vpc: String,
        /// How it is reached.
        #[arg(long, value_enum)]
        kind: Kind,
        /// For an interface: an address that it has.
        #[arg(long)]
        interface_address: Option<String>,
        /// For a namespace: its name or path.
        #[arg(long)]
        network_namespace: Option<String>,
    },
    /// List attachments.
    List {
        /// Only those of this host.
        #[arg(long)]
        host: Option<String>,
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take an attachment away.
    Delete {
        /// The attachment's id.
        attachment_id: String,
    },
}

pub(super) async fn host(
    verb: Host,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Host::Create { name, zone } => {
            let request = CreateHostRequest { name, availability_zone_id: zone };
            printer.message(&call!(
                connection,
                control_plane,
                HostServiceClient,
                create_host,
                request
            )?)
        }
        Host::Get { host_id } => printer.message(&call!(
            connection,
            control_plane,
            HostServiceClient,
            get_host,
            GetHostRequest { host_id }
        )?),
        Host::List(limit) => {
            let hosts = pages!(
                connection,
                control_plane,
                HostServiceClient,
                list_hosts,
                ListHostsRequest::default(),
                hosts,
                limit.limit
            );
            printer.list(
                "hosts",
                &hosts,
                &[
                    ("HOST", "hostId"),
                    ("NAME", "name"),
                    ("ZONE", "availabilityZoneId"),
                    ("CONNECTED", "connected"),
                    ("DESIRED", "desiredGeneration"),
                    ("APPLIED", "appliedGeneration"),
                    ("LAST SEEN", "lastSeenTime"),
                ],
            )
        }
        Host::Delete { host_id } => {
            let request = DeleteHostRequest { host_id: host_id.clone() };
            call!(connection, control_plane, HostServiceClient, delete_host, request)?;
            printer.done(&format!("{host_id} deleted"));
            Ok(())
        }
    }
}

pub(super) async fn attachment(
    verb: Attachment,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        Attachment::Create { host, vpc, kind, interface_address, network_namespace } => {
            let kind = match kind {
                Kind::Loopback => AttachmentKind::Loopback,
                Kind::Interface => AttachmentKind::Interface,
                Kind::Namespace => AttachmentKind::Namespace,
            };
            let request = CreateHostAttachmentRequest {
                host_id: host,
                vpc_id: vpc,
                kind: kind.into(),
                interface_address: interface_address.unwrap_or_default(),
                network_namespace: network_namespace.unwrap_or_default(),
            };
            printer.message(&call!(
                connection,
                control_plane,
                HostServiceClient,
                create_host_attachment,
                request
            )?)
        }
        Attachment::List { host, vpc, limit } => {
            let request = ListHostAttachmentsRequest {
                host_id: host.unwrap_or_default(),
                vpc_id: vpc.unwrap_or_default(),
                ..Default::default()
            };
            let attachments = pages!(
                connection,
                control_plane,
                HostServiceClient,
                list_host_attachments,
                request,
                attachments,
                limit.limit
            );
            printer.list(
                "attachments",
                &attachments,
                &[
                    ("ATTACHMENT", "attachmentId"),
                    ("HOST", "hostId"),
                    ("VPC", "vpcId"),
                    ("KIND", "kind"),
                    ("RESOLVER", "resolverEndpoint"),
                ],
            )
        }
        Attachment::Delete { attachment_id } => {
            let request = DeleteHostAttachmentRequest { attachment_id: attachment_id.clone() };
            call!(connection, control_plane, HostServiceClient, delete_host_attachment, request)?;
            printer.done(&format!("{attachment_id} deleted"));
            Ok(())
        }
    }
}
