//! What is there before the endpoint: accounts, networks, the service, the topic.

use std::net::SocketAddr;

use postern_proto::status::reason;
use postern_proto::v1::account_service_client::AccountServiceClient;
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::host_service_client::HostServiceClient;
use postern_proto::v1::notification_service_client::NotificationServiceClient;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use postern_proto::v1::topic_service_client::TopicServiceClient;
use postern_proto::v1::vpc_service_client::VpcServiceClient;
use postern_proto::v1::{
    AttachmentKind, AuthorizeSecurityGroupIngressRequest, ConnectionEvent, CreateAccountRequest,
    CreateApiKeyRequest, CreateHostAttachmentRequest, CreateSecurityGroupRequest,
    CreateSubnetRequest, CreateTopicRequest, CreateVpcEndpointConnectionNotificationRequest,
    CreateVpcEndpointServiceConfigurationRequest, CreateVpcRequest, GetSubscriptionRequest,
    IpPermission, ListAvailabilityZonesRequest, ListHostAttachmentsRequest, ListHostsRequest,
    ListVpcEndpointServicesRequest, Listener, ModifyVpcEndpointServicePermissionsRequest,
    SetTopicAttributesRequest, SubscribeRequest, SubscriptionProtocol, SubscriptionState, Target,
};
use serde_json::json;

use super::{Made, PORT, PRIVATE_NAME, Player, Resolvers, Service, Story, Vpcs, differs};
use crate::demo::hook::Hook;
use crate::demo::page::PageServer;
use crate::exit::Failure;
use crate::verbs::call;
use crate::wait::until;

impl Story {
    pub(super) async fn accounts(&mut self) -> Result<((), String), Failure> {
        let mut players = Vec::new();
        for name in ["demo provider", "demo consumer"] {
            let request = CreateAccountRequest { name: name.to_owned(), account_id: String::new() };
            let account =
                call!(self.operator, control_plane, AccountServiceClient, create_account, request)?
                    .account
                    .unwrap_or_default()
                    .account_id;
            let request = CreateApiKeyRequest {
                account_id: account.clone(),
                description: "postern demo".to_owned(),
            };
            let key =
                call!(self.operator, control_plane, AccountServiceClient, create_api_key, request)?;
            self.made.push(Made::Key(key.api_key.unwrap_or_default().api_key_id));
            players.push(Player { account, connection: self.operator.with_key(&key.secret)? });
        }
        self.consumer = players.pop();
        self.provider = players.pop();
        let (provider, consumer) = (&self.provider()?.account, &self.consumer()?.account);
        Ok(((), format!("provider {provider}, consumer {consumer}")))
    }

    pub(super) async fn zones(&mut self) -> Result<([String; 2], String), Failure> {
        let connection = &self.consumer()?.connection;
        let zones = call!(
            connection,
            control_plane,
            VpcServiceClient,
            list_availability_zones,
            ListAvailabilityZonesRequest::default()
        )?
        .availability_zones;
        let named: Vec<_> =
            zones.iter().map(|zone| format!("{}={}", zone.zone_name, zone.zone_id)).collect();
        // By id: each account has its own names for them.
        let mut ids: Vec<_> = zones.into_iter().map(|zone| zone.zone_id).collect();
        ids.sort();
        match ids.as_slice() {
            [one, two, ..] => {
                Ok(([one.clone(), two.clone()], format!("the consumer's {}", named.join(", "))))
            }
            _ => Err(differs("the demo needs two zones")),
        }
    }

    pub(super) async fn servers(&mut self, zones: &[String; 2]) -> Result<((), String), Failure> {
        let mut at = Vec::new();
        for zone in zones {
            let server = PageServer::start(self.networks.target, zone).await?;
            at.push(format!("{} in {zone}", server.address));
            self.servers.push(server);
        }
        Ok(((), at.join(", ")))
    }

    pub(super) async fn networks(
        &mut self,
        zones: &[String; 2],
    ) -> Result<(Vpcs, String), Failure> {
        let provider = self.provider()?.connection.clone();
        let consumer = self.consumer()?.connection.clone();
        let request = CreateVpcRequest {
            cidr_block: self.networks.provider.to_string(),
            name: "demo provider".to_owned(),
            enable_dns_hostnames: None,
        };
        let provider_vpc = call!(provider, control_plane, VpcServiceClient, create_vpc, request)?
            .vpc
            .unwrap_or_default()
            .vpc_id;
        self.made.push(Made::ProviderVpc(provider_vpc.clone()));
        let request = CreateVpcRequest {
            cidr_block: self.networks.consumer.to_string(),
            name: "demo consumer".to_owned(),
            enable_dns_hostnames: Some(true),
        };
        let consumer_vpc = call!(consumer, control_plane, VpcServiceClient, create_vpc, request)?
            .vpc
            .unwrap_or_default()
            .vpc_id;
        self.made.push(Made::ConsumerVpc(consumer_vpc.clone()));
        let mut subnets = Vec::new();
        for (cidr, zone) in self.networks.subnets.iter().zip(zones) {
            let request = CreateSubnetRequest {
                vpc_id: consumer_vpc.clone(),
                cidr_block: cidr.to_string(),
                availability_zone: zone.clone(),
            };
            let subnet = call!(consumer, control_plane, VpcServiceClient, create_subnet, request)?
                .subnet
                .unwrap_or_default()
                .subnet_id;
            self.made.push(Made::Subnet(subnet.clone()));
            subnets.push(subnet);
        }
        let request = CreateSecurityGroupRequest {
            vpc_id: consumer_vpc.clone(),
            group_name: "demo".to_owned(),
            description: "lets the client of the demo in".to_owned(),
        };
        let group =
            call!(consumer, control_plane, VpcServiceClient, create_security_group, request)?
                .security_group
                .unwrap_or_default()
                .group_id;
        self.made.push(Made::Group(group.clone()));
        let rule = self.authorize(&group).await?;
        let text = format!(
            "{} and {}, {group} lets {} in",
            self.networks.consumer, self.networks.provider, self.networks.source
        );
        Ok((Vpcs { provider: provider_vpc, consumer: consumer_vpc, subnets, group, rule }, text))
    }

    /// Lets the client in; returns the rule's id.
    pub(super) async fn authorize(&self, group: &str) -> Result<String, Failure> {
        let connection = &self.consumer()?.connection;
        let request = AuthorizeSecurityGroupIngressRequest {
            group_id: group.to_owned(),
            ip_permissions: vec![IpPermission {
                ip_protocol: "tcp".to_owned(),
                from_port: Some(i32::from(PORT)),
                to_port: Some(i32::from(PORT)),
                cidr_ipv4: format!("{}/32", self.networks.source),
                description: "the client of the demo".to_owned(),
            }],
        };
        let rules = call!(
            connection,
            control_plane,
            VpcServiceClient,
            authorize_security_group_ingress,
            request
        )?
        .security_group_rules;
        let rule = rules.into_iter().next().ok_or_else(|| differs("no rule came back"))?;
        Ok(rule.security_group_rule_id)
    }

    /// Attaches both VPCs to the hosts, and returns where the VPCs' resolvers listen: the consumer's
    /// and the provider's.
    pub(super) async fn attach(&mut self, vpcs: &Vpcs) -> Result<(Resolvers, String), Failure> {
        let hosts = call!(
            self.operator,
            control_plane,
            HostServiceClient,
            list_hosts,
            ListHostsRequest { page_size: 1000, ..Default::default() }
        )?
        .hosts;
        let mut wanted = Vec::new();
        if self.options.attach.is_empty() {
            for host in hosts.iter().filter(|host| host.connected) {
                wanted.push((host.host_id.clone(), vpcs.consumer.clone(), None));
                wanted.push((host.host_id.clone(), vpcs.provider.clone(), None));
            }
        }
        for attached in &self.options.attach {
            let host = hosts
                .iter()
                .find(|host| host.name == attached.name)
                .ok_or_else(|| differs(format!("there is no host {}", attached.name)))?;
            wanted.push((host.host_id.clone(), vpcs.consumer.clone(), Some(attached.consumer)));
            wanted.push((host.host_id.clone(), vpcs.provider.clone(), Some(attached.provider)));
        }
        if wanted.is_empty() {
            return Err(differs("no host is connected"));
        }
        for (host, vpc, address) in &wanted {
            let kind = match address {
                Some(_) => AttachmentKind::Interface,
                None => AttachmentKind::Loopback,
            };
            let request = CreateHostAttachmentRequest {
                host_id: host.clone(),
                vpc_id: vpc.clone(),
                kind: kind.into(),
                interface_address: address.map(|address| address.to_string()).unwrap_or_default(),
                network_namespace: String::new(),
            };
            let made = call!(
                self.operator,
                control_plane,
                HostServiceClient,
                create_host_attachment,
                request
            )?;
            self.made.push(Made::Attachment(made.attachment.unwrap_or_default().attachment_id));
        }
        let consumer = self.resolver(&vpcs.consumer).await?;
        let provider = self.resolver(&vpcs.provider).await?;
        let text = format!("{} attachments, the VPC's resolver at {consumer}", wanted.len());
        Ok((Resolvers { consumer, provider }, text))
    }

    /// Where a VPC's resolver listens, once its host says so.
    async fn resolver(&self, vpc: &str) -> Result<SocketAddr, Failure> {
        until(|| async {
            let request = ListHostAttachmentsRequest {
                vpc_id: vpc.to_owned(),
                page_size: 1000,
                ..Default::default()
            };
            let attachments = call!(
                self.operator,
                control_plane,
                HostServiceClient,
                list_host_attachments,
                request
            )?
            .attachments;
            Ok(attachments.iter().find_map(|attachment| attachment.resolver_endpoint.parse().ok()))
        })
        .await
    }

    pub(super) async fn publish(
        &mut self,
        vpcs: &Vpcs,
        zones: &[String; 2],
    ) -> Result<(Service, String), Failure> {
        let provider = self.provider()?;
        let targets = self.servers.iter().zip(zones).map(|(server, zone)| Target {
            address: self.networks.target.to_string(),
            port: i32::from(server.address.port()),
            availability_zone: zone.clone(),
        });
        let request = CreateVpcEndpointServiceConfigurationRequest {
            vpc_id: vpcs.provider.clone(),
            listeners: vec![Listener { port: i32::from(PORT), targets: targets.collect() }],
            acceptance_required: Some(true),
            private_dns_name: PRIVATE_NAME.to_owned(),
            ..Default::default()
        };
        let service = call!(
            provider.connection,
            control_plane,
            ProviderServiceClient,
            create_vpc_endpoint_service_configuration,
            request
        )?
        .service_configuration
        .unwrap_or_default();
        let consumer = self.consumer()?;
        // Who is not allowed does not see it.
        let find = || ListVpcEndpointServicesRequest {
            service_names: vec![service.service_name.clone()],
            ..Default::default()
        };
        let hidden = call!(
            consumer.connection,
            control_plane,
            ConsumerServiceClient,
            list_vpc_endpoint_services,
            find()
        );
        match hidden {
            Err(status) if reason(&status).as_deref() == Some("InvalidServiceName") => {}
            other => return Err(differs(format!("not hidden from the consumer: {other:?}"))),
        }
        let request = ModifyVpcEndpointServicePermissionsRequest {
            service_id: service.service_id.clone(),
            add_allowed_principals: vec![format!("arn:aws:iam::{}:root", consumer.account)],
            remove_allowed_principals: Vec::new(),
        };
        call!(
            provider.connection,
            control_plane,
            ProviderServiceClient,
            modify_vpc_endpoint_service_permissions,
            request
        )?;
        let seen = call!(
            consumer.connection,
            control_plane,
            ConsumerServiceClient,
            list_vpc_endpoint_services,
            find()
        )?;
        if seen.services.len() != 1 {
            return Err(differs("the consumer does not see the service"));
        }
        let made = Service { id: service.service_id.clone(), name: service.service_name.clone() };
        self.made.push(Made::Service(service.service_id));
        let text = format!("{}, acceptance required", made.name);
        Ok((made, text))
    }

    pub(super) async fn notify(&mut self, service: &Service) -> Result<((), String), Failure> {
        let hook = Hook::start(self.options.webhook_address).await?;
        let provider = self.provider()?;
        let (connection, account) = (provider.connection.clone(), provider.account.clone());
        let name = format!("demo-{}", &service.id[service.id.len() - 8..]);
        let request = CreateTopicRequest { name, ..Default::default() };
        let topic = call!(connection, topics, TopicServiceClient, create_topic, request)?
            .topic
            .unwrap_or_default()
            .topic_arn;
        self.made.push(Made::Topic(topic.clone()));

        // Without a statement that allows it, the notification is refused at once (spec 7).
        let create = || CreateVpcEndpointConnectionNotificationRequest {
            service_id: service.id.clone(),
            connection_notification_arn: topic.clone(),
            connection_events: [
                ConnectionEvent::Connect,
                ConnectionEvent::Accept,
                ConnectionEvent::Reject,
                ConnectionEvent::Delete,
            ]
            .map(i32::from)
            .to_vec(),
            ..Default::default()
        };
        let refused = call!(
            connection,
            control_plane,
            NotificationServiceClient,
            create_vpc_endpoint_connection_notification,
            create()
        );
        if refused.is_ok() {
            return Err(differs("a topic that allows nothing took the notification"));
        }
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Sid": "postern-demo",
                "Effect": "Allow",
                "Principal": { "Service": "vpce.amazonaws.com" },
                "Action": "SNS:Publish",
                "Resource": topic,
                "Condition": {
                    "StringEquals": { "aws:SourceAccount": account },
                    "ArnLike": { "aws:SourceArn": format!("arn:aws:ec2:*:{account}:vpc-endpoint-service/{}", service.id) },
                },
            }],
        });
        let request = SetTopicAttributesRequest {
            topic_arn: topic.clone(),
            policy: Some(policy.to_string()),
            ..Default::default()
        };
        call!(connection, topics, TopicServiceClient, set_topic_attributes, request)?;
        let request = SubscribeRequest {
            topic_arn: topic.clone(),
            protocol: SubscriptionProtocol::Http.into(),
            endpoint: hook.url.clone(),
            ..Default::default()
        };
        let subscription = call!(connection, topics, TopicServiceClient, subscribe, request)?
            .subscription
            .unwrap_or_default();
        hook.wait(|messages| !messages.is_empty()).await?;
        until(|| async {
            let request =
                GetSubscriptionRequest { subscription_arn: subscription.subscription_arn.clone() };
            let state = call!(connection, topics, TopicServiceClient, get_subscription, request)?
                .subscription
                .unwrap_or_default()
                .state();
            Ok((state == SubscriptionState::Confirmed).then_some(()))
        })
        .await?;
        let notification = call!(
            connection,
            control_plane,
            NotificationServiceClient,
            create_vpc_endpoint_connection_notification,
            create()
        )?
        .connection_notification
        .unwrap_or_default()
        .connection_notification_id;
        self.made.push(Made::Notification(notification));
        let text = format!("{topic} to {}, confirmed", hook.url);
        self.hook = Some(hook);
        Ok(((), text))
    }
}
