//! What people start with: secrets of this installation, an account on each side, a VPC each.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_proto::v1::{
    AttachmentKind, CreateAccountRequest, CreateApiKeyRequest, CreateHostAttachmentRequest,
    CreateSubnetRequest, CreateVpcRequest, ListAvailabilityZonesRequest,
    ListHostAttachmentsRequest, ListHostsRequest, ListVpcsRequest, Vpc,
};
use postern_runtime::config::Secret;
use rand::RngCore as _;
use serde::{Deserialize, Serialize};

use crate::connect::Connection;
use crate::exit::Failure;
use crate::profile::{Profile, Profiles};
use crate::verbs::call;
use crate::wait::until;

/// The VPC that each side starts with: large enough, and apart from those of `postern demo`.
const PROVIDER_CIDR: &str = "127.20.0.0/16";
const CONSUMER_CIDR: &str = "127.10.0.0/16";
const CONSUMER_SUBNETS: [&str; 2] = ["127.10.1.0/24", "127.10.2.0/24"];
const NAME: &str = "dev";
const TIMEOUT: Duration = Duration::from_secs(20);

/// The secrets of this installation, made once.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// What the operator calls the API with.
    pub operator_key: String,
    /// What the agent enrols with.
    pub join_token: String,
}

impl Secrets {
    /// Those of this directory, or new ones.
    pub fn load_or_create(state: &Path) -> anyhow::Result<Self> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;

        let path = state.join("secrets.toml");
        match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secrets =
                    Self { operator_key: format!("operator_{}", random()), join_token: random() };
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all(toml::to_string(&secrets)?.as_bytes())?;
                file.sync_all()?;
                Ok(secrets)
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}

/// 256 random bits as text.
fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An account and its key.
pub struct Seeded {
    /// The account's id.
    pub account: String,
    /// Its API key.
    pub key: String,
}

/// What people start with.
pub struct Start {
    /// The provider.
    pub provider: Seeded,
    /// The consumer.
    pub consumer: Seeded,
    /// The consumer's VPC.
    pub consumer_vpc: String,
    /// Where its resolver listens.
    pub resolver: String,
}

/// Makes what people start with, or finds it again, and writes the profiles.
pub async fn accounts(
    address: &str,
    operator_key: &Secret,
    state: &Path,
) -> Result<Start, Failure> {
    let operator = Connection::new(address, address, Some(operator_key.expose()), TIMEOUT)?;
    let path = state.join("profiles.toml");
    let mut profiles: Profiles = match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?,
        Err(_) => Profiles::default(),
    };
    let provider = account(&operator, &profiles, "provider").await?;
    let consumer = account(&operator, &profiles, "consumer").await?;
    profiles.default.get_or_insert_with(|| "consumer".to_owned());
    let profile = |key: &str, account: Option<&str>| Profile {
        address: address.to_owned(),
        topics_address: None,
        api_key: Some(key.to_owned()),
        account: account.map(str::to_owned),
    };
    for (name, key, account) in [
        ("operator", operator_key.expose(), None),
        ("provider", provider.key.as_str(), Some(provider.account.as_str())),
        ("consumer", consumer.key.as_str(), Some(consumer.account.as_str())),
    ] {
        profiles.profile.insert(name.to_owned(), profile(key, account));
    }
    // Kept at once: a key is shown only when it is made.
    profiles.save(&path)?;

    let provider_connection = operator.with_key(&provider.key)?;
    let consumer_connection = operator.with_key(&consumer.key)?;
    let provider_vpc = vpc(&provider_connection, PROVIDER_CIDR).await?;
    let consumer_vpc = vpc(&consumer_connection, CONSUMER_CIDR).await?;
    subnets(&consumer_connection, &consumer_vpc.vpc_id).await?;
    let host = until(|| async {
        let request = ListHostsRequest { page_size: 1000, ..Default::default() };
        let hosts = call!(operator, control_plane, HostServiceClient, list_hosts, request)?.hosts;
        Ok(hosts.into_iter().find(|host| host.name == NAME && host.connected))
    })
    .await?;
    for vpc in [&provider_vpc, &consumer_vpc] {
        attach(&operator, &host.host_id, &vpc.vpc_id).await?;
    }
    let resolver = until(|| async {
        let request = ListHostAttachmentsRequest {
            host_id: host.host_id.clone(),
            vpc_id: consumer_vpc.vpc_id.clone(),
            ..Default::default()
        };
        let attachments =
            call!(operator, control_plane, HostServiceClient, list_host_attachments, request)?
                .attachments;
        let resolver = attachments.into_iter().next().unwrap_or_default().resolver_endpoint;
        Ok((!resolver.is_empty()).then_some(resolver))
    })
    .await?;
    Ok(Start { provider, consumer, consumer_vpc: consumer_vpc.vpc_id, resolver })
}

/// The account of a profile, while its key is good; otherwise a new one.
async fn account(
    operator: &Connection,
    profiles: &Profiles,
    name: &str,
) -> Result<Seeded, Failure> {
    if let Some(Profile { api_key: Some(key), account: Some(account), .. }) =
        profiles.profile.get(name)
    {
        let connection = operator.with_key(key)?;
        let request = ListVpcsRequest { page_size: 1, ..Default::default() };
        if call!(connection, control_plane, VpcServiceClient, list_vpcs, request).is_ok() {
            return Ok(Seeded { account: account.clone(), key: key.clone() });
        }
    }
    let request = CreateAccountRequest { name: name.to_owned(), account_id: String::new() };
    let account = call!(operator, control_plane, AccountServiceClient, create_account, request)?
        .account
        .unwrap_or_default()
        .account_id;
    let request = CreateApiKeyRequest {
        account_id: account.clone(),
        description: "made by postern dev".to_owned(),
    };
    let key = call!(operator, control_plane, AccountServiceClient, create_api_key, request)?.secret;
    Ok(Seeded { account, key })
}

/// The account's VPC to start with.
async fn vpc(connection: &Connection, cidr: &str) -> Result<Vpc, Failure> {
    let request = ListVpcsRequest { page_size: 1000, ..Default::default() };
    let vpcs = call!(connection, control_plane, VpcServiceClient, list_vpcs, request)?.vpcs;
    if let Some(vpc) = vpcs.into_iter().find(|vpc| vpc.name == NAME) {
        return Ok(vpc);
    }
    let request = CreateVpcRequest {
        cidr_block: cidr.to_owned(),
        name: NAME.to_owned(),
        enable_dns_hostnames: Some(true),
    };
    let made = call!(connection, control_plane, VpcServiceClient, create_vpc, request)?;
    Ok(made.vpc.unwrap_or_default())
}

/// A subnet in each of the first two zones.
async fn subnets(connection: &Connection, vpc: &str) -> Result<(), Failure> {
    let zones = call!(
        connection,
        control_plane,
        VpcServiceClient,
        list_availability_zones,
        ListAvailabilityZonesRequest::default()
    )?
    .availability_zones;
    let mut ids: Vec<_> = zones.into_iter().map(|zone| zone.zone_id).collect();
    ids.sort();
    for (cidr, zone) in CONSUMER_SUBNETS.into_iter().zip(ids) {
        let request = CreateSubnetRequest {
            vpc_id: vpc.to_owned(),
            cidr_block: cidr.to_owned(),
            availability_zone: zone,
        };
        match call!(connection, control_plane, VpcServiceClient, create_subnet, request) {
            Ok(_) => {}
            // It is there since an earlier start.
            Err(status) if status.code() == tonic::Code::AlreadyExists => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok(())
}

async fn attach(operator: &Connection, host: &str, vpc: &str) -> Result<(), Failure> {
    let request = CreateHostAttachmentRequest {
        host_id: host.to_owned(),
        vpc_id: vpc.to_owned(),
        kind: AttachmentKind::Loopback.into(),
        ..Default::default()
    };
    match call!(operator, control_plane, HostServiceClient, create_host_attachment, request) {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
        Err(status) => Err(status.into()),
    }
}
