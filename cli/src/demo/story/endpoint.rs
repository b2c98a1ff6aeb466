//! The endpoint's life, from the request to the last message about it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::ResponseCode;
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_proto::v1::{
    AcceptVpcEndpointConnectionsRequest, CreateVpcEndpointRequest, DeleteVpcEndpointsRequest,
    GetVpcEndpointRequest, ListNetworkInterfacesRequest, ListVpcEndpointConnectionsRequest,
    ModifyVpcEndpointRequest, RejectVpcEndpointConnectionsRequest,
    RevokeSecurityGroupIngressRequest, VpcEndpoint, VpcEndpointState,
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    CUT_WITHIN, Entries, Made, PATIENCE, PORT, PRIVATE_NAME, Resolvers, Service, Story, Vpcs,
    differs,
};
use crate::demo::dns::{Answer, resolve};
use crate::demo::fetch::{Held, NoPage, page};
use crate::demo::page::page as page_of;
use crate::exit::Failure;
use crate::output::shorten;
use crate::verbs::call;
use crate::wait::until;

impl Story {
    pub(super) async fn open(
        &mut self,
        vpcs: &Vpcs,
        service: &Service,
    ) -> Result<(String, String), Failure> {
        let connection = self.consumer()?.connection.clone();
        let request = CreateVpcEndpointRequest {
            vpc_id: vpcs.consumer.clone(),
            service_name: service.name.clone(),
            subnet_ids: vpcs.subnets.clone(),
            group_ids: vec![vpcs.group.clone()],
            ..Default::default()
        };
        let endpoint =
            call!(connection, control_plane, ConsumerServiceClient, create_vpc_endpoint, request)?
                .vpc_endpoint
                .unwrap_or_default();
        self.made.push(Made::Endpoint(endpoint.vpc_endpoint_id.clone()));
        let state = shorten(endpoint.state().as_str_name());
        if endpoint.state() != VpcEndpointState::PendingAcceptance {
            return Err(differs(format!("it is {state}, not pending-acceptance")));
        }
        let text = format!("{} is {state}", endpoint.vpc_endpoint_id);
        Ok((endpoint.vpc_endpoint_id, text))
    }

    /// Before the acceptance the addresses are there, and refuse (spec 2.1).
    pub(super) async fn waiting(
        &mut self,
        endpoint: &str,
    ) -> Result<(Vec<Ipv4Addr>, String), Failure> {
        let connection = &self.consumer()?.connection;
        let request = ListNetworkInterfacesRequest {
            vpc_endpoint_id: endpoint.to_owned(),
            ..Default::default()
        };
        let interfaces = call!(
            connection,
            control_plane,
            ConsumerServiceClient,
            list_network_interfaces,
            request
        )?
        .network_interfaces;
        let addresses: Vec<Ipv4Addr> = interfaces
            .iter()
            .filter_map(|interface| interface.private_ip_address.parse().ok())
            .collect();
        if addresses.len() != 2 {
            return Err(differs(format!("{} interfaces, not 2", addresses.len())));
        }
        let source = self.networks.source;
        for address in &addresses {
            // The host needs a moment to put the address there; until then nobody answers.
            until(|| async {
                match page("waiting", *address, PORT, source, PATIENCE).await {
                    Err(NoPage::Reset) => Ok(Some(())),
                    Ok(_) => Err(differs("a page came before the acceptance")),
                    Err(_) => Ok(None),
                }
            })
            .await?;
        }
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        Ok((addresses, shown.join(", ")))
    }

    pub(super) async fn accept(
        &mut self,
        service: &Service,
        endpoint: &str,
    ) -> Result<((), String), Failure> {
        let connection = &self.provider()?.connection;
        let request = ListVpcEndpointConnectionsRequest {
            service_id: service.id.clone(),
            ..Default::default()
        };
        let connections = call!(
            connection,
            control_plane,
            ProviderServiceClient,
            list_vpc_endpoint_connections,
            request
        )?
        .vpc_endpoint_connections;
        let [seen] = connections.as_slice() else {
            return Err(differs(format!("{} connections, not 1", connections.len())));
        };
        if seen.vpc_endpoint_id != endpoint
            || seen.vpc_endpoint_state() != VpcEndpointState::PendingAcceptance
        {
            return Err(differs(format!("another connection: {seen:?}")));
        }
        let owner = seen.vpc_endpoint_owner.clone();
        let request = AcceptVpcEndpointConnectionsRequest {
            service_id: service.id.clone(),
            vpc_endpoint_ids: vec![endpoint.to_owned()],
        };
        let unsuccessful = call!(
            connection,
            control_plane,
            ProviderServiceClient,
            accept_vpc_endpoint_connections,
            request
        )?
        .unsuccessful;
        match unsuccessful.as_slice() {
            [] => Ok(((), format!("of account {owner}"))),
            items => Err(differs(format!("not accepted: {items:?}"))),
        }
    }

    async fn reaches(
        &self,
        endpoint: &str,
        state: VpcEndpointState,
    ) -> Result<VpcEndpoint, Failure> {
        let connection = &self.consumer()?.connection;
        let limit = self.options.step_timeout;
        crate::wait::settled(connection, endpoint, &[state], limit).await
    }

    pub(super) async fn available(&mut self, endpoint: &str) -> Result<((), String), Failure> {
        let endpoint = self.reaches(endpoint, VpcEndpointState::Available).await?;
        Ok(((), format!("{} names", endpoint.dns_entries.len())))
    }

    pub(super) async fn private_dns(&mut self, endpoint: &str) -> Result<((), String), Failure> {
        let connection = &self.consumer()?.connection;
        let request = ModifyVpcEndpointRequest {
            vpc_endpoint_id: endpoint.to_owned(),
            private_dns_enabled: Some(true),
            ..Default::default()
        };
        call!(connection, control_plane, ConsumerServiceClient, modify_vpc_endpoint, request)?;
        self.reaches(endpoint, VpcEndpointState::Available).await?;
        Ok(((), PRIVATE_NAME.to_owned()))
    }

    pub(super) async fn names(
        &mut self,
        endpoint: &str,
        addresses: &[Ipv4Addr],
        resolvers: Resolvers,
    ) -> Result<(Entries, String), Failure> {
        let connection = &self.consumer()?.connection;
        let request = GetVpcEndpointRequest { vpc_endpoint_id: endpoint.to_owned() };
        let names: Vec<String> =
            call!(connection, control_plane, ConsumerServiceClient, get_vpc_endpoint, request)?
                .vpc_endpoint
                .unwrap_or_default()
                .dns_entries
                .into_iter()
                .map(|entry| entry.dns_name)
                .collect();
        let (regional, zonal) = match names.as_slice() {
            [regional, one, two, private] if private == PRIVATE_NAME => {
                (regional.clone(), [one.clone(), two.clone()])
            }
            other => return Err(differs(format!("other names: {other:?}"))),
        };
        let mut all = addresses.to_vec();
        all.sort();
        let sorted = |answer: &Answer| {
            let mut addresses = answer.addresses.clone();
            addresses.sort();
            addresses
        };
        let mut lines = Vec::new();
        for name in [regional.as_str(), PRIVATE_NAME] {
            let answer = self.resolves(resolvers.consumer, name).await?;
            if sorted(&answer) != all {
                return Err(differs(format!("{name} is {:?}, not {all:?}", answer.addresses)));
            }
            lines.push(format!("{name} -> {}", list(&answer.addresses)));
        }
        let mut seen: Vec<Ipv4Addr> = Vec::new();
        for name in &zonal {
            let answer = self.resolves(resolvers.consumer, name).await?;
            if answer.addresses.len() != 1 {
                return Err(differs(format!("{name} is {:?}, not one address", answer.addresses)));
            }
            seen.extend(&answer.addresses);
            lines.push(format!("{name} -> {}", list(&answer.addresses)));
        }
        seen.sort();
        if seen != all {
            return Err(differs(format!("the zonal names lead to {seen:?}, not to {all:?}")));
        }
        // Another VPC knows nothing of the private name.
        let elsewhere = resolve(resolvers.provider, PRIVATE_NAME).await?;
        if !elsewhere.addresses.is_empty() {
            return Err(differs("the private name resolves in the provider's VPC too"));
        }
        lines.push(format!("in the provider's VPC: {}", code(elsewhere.code)));
        let entries = Entries { resolver: resolvers.consumer, addresses: addresses.to_vec() };
        Ok((entries, lines.join("\n")))
    }

    /// Asks until there are addresses: names are published a moment after the state.
    async fn resolves(&self, resolver: SocketAddr, name: &str) -> Result<Answer, Failure> {
        until(|| async {
            let answer = resolve(resolver, name).await?;
            Ok((!answer.addresses.is_empty()).then_some(answer))
        })
        .await
    }

    pub(super) async fn fetch(&mut self, entries: &Entries) -> Result<((), String), Failure> {
        let answer = resolve(entries.resolver, PRIVATE_NAME).await?;
        let mut pages = Vec::new();
        for address in answer.addresses {
            let text = page(PRIVATE_NAME, address, PORT, self.networks.source, PATIENCE)
                .await
                .map_err(|error| differs(format!("no page from {address}: {error:?}")))?;
            pages.push(format!("{address}: {}", text.trim()));
        }
        // Each interface is served in its own zone: two addresses, two pages.
        let distinct = pages.iter().filter_map(|page| page.split_once(": ")).map(|(_, text)| text);
        let distinct: BTreeSet<_> = distinct.collect();
        if distinct.len() != 2 || !distinct.iter().all(|text| text.starts_with(&page_of("")[..10]))
        {
            return Err(differs(format!("not the provider's two pages: {pages:?}")));
        }
        Ok(((), pages.join("\n")))
    }

    /// A source that no rule allows gets no answer. Where only one address is to be had, the rule is
    /// taken away and given back: an established connection outlives that (spec 4.2).
    pub(super) async fn stranger(
        &mut self,
        vpcs: &Vpcs,
        entries: &Entries,
    ) -> Result<((), String), Failure> {
        let [address, ..] = entries.addresses[..] else {
            return Err(differs("there is no address"));
        };
        if let Some(stranger) = self.networks.stranger {
            return match page(PRIVATE_NAME, address, PORT, stranger, PATIENCE).await {
                Err(NoPage::TimedOut) => Ok(((), format!("from {stranger}, after {PATIENCE:?}"))),
                other => Err(differs(format!("from {stranger}: {other:?}"))),
            };
        }
        let connection = self.consumer()?.connection.clone();
        let source = self.networks.source;
        let request = RevokeSecurityGroupIngressRequest {
            group_id: vpcs.group.clone(),
            security_group_rule_ids: vec![vpcs.rule.clone()],
        };
        call!(connection, control_plane, VpcServiceClient, revoke_security_group_ingress, request)?;
        until(|| async {
            match page(PRIVATE_NAME, address, PORT, source, PATIENCE).await {
                Err(NoPage::TimedOut) => Ok(Some(())),
                Ok(_) => Ok(None),
                Err(other) => Err(differs(format!("not silence: {other:?}"))),
            }
        })
        .await?;
        self.authorize(&vpcs.group).await?;
        until(|| async { Ok(page(PRIVATE_NAME, address, PORT, source, PATIENCE).await.ok()) })
            .await?;
        Ok(((), format!("from {source}, while no rule allows it")))
    }

    pub(super) async fn reject(
        &mut self,
        service: &Service,
        endpoint: &str,
        entries: &Entries,
    ) -> Result<((), String), Failure> {
        let [address, ..] = entries.addresses[..] else {
            return Err(differs("there is no address"));
        };
        let held = Held::open(address, PORT, self.networks.source)
            .await
            .map_err(|error| differs(format!("no connection to hold open: {error}")))?;
        let connection = &self.provider()?.connection;
        let request = RejectVpcEndpointConnectionsRequest {
            service_id: service.id.clone(),
            vpc_endpoint_ids: vec![endpoint.to_owned()],
        };
        let started = Instant::now();
        let unsuccessful = call!(
            connection,
            control_plane,
            ProviderServiceClient,
            reject_vpc_endpoint_connections,
            request
        )?
        .unsuccessful;
        if !unsuccessful.is_empty() {
            return Err(differs(format!("not rejected: {unsuccessful:?}")));
        }
        held.reset(CUT_WITHIN)
            .await
            .map_err(|error| differs(format!("the open connection is not reset: {error:?}")))?;
        let millis = started.elapsed().as_secs_f64() * 1000.0;
        Ok(((), format!("the open connection was reset after {millis:.0} ms")))
    }

    pub(super) async fn gone(&mut self, entries: &Entries) -> Result<((), String), Failure> {
        for address in &entries.addresses {
            until(|| async {
                match page(PRIVATE_NAME, *address, PORT, self.networks.source, PATIENCE).await {
                    Err(NoPage::Reset) => Ok(Some(())),
                    Ok(_) => Ok(None),
                    Err(other) => Err(differs(format!("not a reset: {other:?}"))),
                }
            })
            .await?;
        }
        let answer = until(|| async {
            let answer = resolve(entries.resolver, PRIVATE_NAME).await?;
            Ok(answer.addresses.is_empty().then_some(answer))
        })
        .await?;
        Ok(((), format!("connections are reset, the name is {}", code(answer.code))))
    }

    pub(super) async fn delete(&mut self, endpoint: &str) -> Result<((), String), Failure> {
        let connection = &self.consumer()?.connection;
        let request = DeleteVpcEndpointsRequest { vpc_endpoint_ids: vec![endpoint.to_owned()] };
        let unsuccessful =
            call!(connection, control_plane, ConsumerServiceClient, delete_vpc_endpoints, request)?
                .unsuccessful;
        if !unsuccessful.is_empty() {
            return Err(differs(format!("not deleted: {unsuccessful:?}")));
        }
        self.reaches(endpoint, VpcEndpointState::Deleted).await?;
        self.made.retain(|made| !matches!(made, Made::Endpoint(_)));
        Ok(((), format!("{endpoint} is deleted")))
    }

    pub(super) async fn heard(&mut self, endpoint: &str) -> Result<((), String), Failure> {
        const EVENTS: [&str; 4] = ["Connect", "Accept", "Reject", "Delete"];
        let hook = self.hook.as_ref().ok_or_else(|| differs("there is no webhook"))?;
        let of = |messages: &[Value]| -> Vec<String> {
            let about =
                messages.iter().filter(|message| message["message"]["vpcEndpointId"] == endpoint);
            about
                .filter_map(|message| message["message"]["event"].as_str().map(str::to_owned))
                .collect()
        };
        hook.wait(|messages| {
            EVENTS.iter().all(|event| of(messages).iter().any(|got| got == event))
        })
        .await?;
        let mut lines = Vec::new();
        for message in hook.messages() {
            let about = match message["message"]["event"].as_str() {
                Some(event) => format!(
                    "{event:<7} {} is {}",
                    message["message"]["vpcEndpointId"].as_str().unwrap_or_default(),
                    message["message"]["vpcEndpointState"].as_str().unwrap_or_default()
                ),
                None => message["type"].as_str().unwrap_or_default().to_owned(),
            };
            let version = message["signatureVersion"].as_str().unwrap_or_default();
            lines.push(format!("signature v{version} verified  {about}"));
        }
        Ok(((), lines.join("\n")))
    }
}

fn list(addresses: &[Ipv4Addr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A response code as the RFCs spell it.
fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NoError => "without addresses".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    }
}
