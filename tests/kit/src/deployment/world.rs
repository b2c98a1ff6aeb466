//! What tests need, made through the API, with everything valid by default.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postern_proto::v1;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::events::{Hook, get};
use super::link::{NewEndpoint, NewService, Service};
use super::{Block, Client, Deployment, PATIENCE, RESOLVER_PORT};
use crate::receiver::Receiver;
use crate::smtp::MailSink;

/// The port that services listen on, on the consumer's side.
pub(super) const PORT: u16 = 80;

/// Makes things in a deployment.
#[derive(Clone, Debug)]
pub struct World {
    operator: Client,
    agents: usize,
}

/// Somebody with an account and a key.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account's number.
    pub id: String,
    /// Calls with its key.
    pub client: Client,
}

/// A VPC in a network that no other test has, attached to every host; it has a subnet in each host's
/// zone, and a group that lets [`Vpc::source`] in.
#[derive(Debug)]
pub struct Vpc {
    /// Its id.
    pub id: String,
    /// Its network.
    pub block: Block,
    /// Its subnets, in the order of the hosts' zones.
    pub subnets: Vec<String>,
    /// The group that endpoints carry.
    pub group: String,
    pub(super) owner: Account,
}

impl Vpc {
    /// Where a client connects from that the group lets in.
    pub fn source(&self) -> Ipv4Addr {
        self.block.at(50)
    }

    /// Where a client connects from that the group does not let in.
    pub fn stranger(&self) -> Ipv4Addr {
        self.block.at(0x6363)
    }

    /// The VPC's resolver.
    pub fn resolver(&self) -> SocketAddr {
        SocketAddr::from((self.block.at(2), RESOLVER_PORT))
    }
}

impl World {
    /// Makes things in `deployment`.
    pub fn of(deployment: &Deployment) -> Self {
        let agents = deployment.programs().len() - 2;
        Self { operator: deployment.operator(), agents }
    }

    /// Makes things where `operator` operates, with `agents` hosts.
    pub fn new(operator: Client, agents: usize) -> Self {
        Self { operator, agents }
    }

    /// A new account with a key.
    pub async fn account(&self, name: &str) -> Account {
        let request = v1::CreateAccountRequest { name: name.to_owned(), account_id: String::new() };
        let made = self.operator.accounts().create_account(request).await.expect("an account");
        let id = made.into_inner().account.expect("an account").account_id;
        let request =
            v1::CreateApiKeyRequest { account_id: id.clone(), description: String::new() };
        let key = self.operator.accounts().create_api_key(request).await.expect("an API key");
        Account { id, client: self.operator.with_key(&key.into_inner().secret) }
    }

    /// The hosts, by name; each exists once its agent has enrolled.
    pub async fn hosts(&self) -> Vec<v1::Host> {
        until("every host is connected", PATIENCE, || async {
            let request = v1::ListHostsRequest { page_size: 1000, ..Default::default() };
            let mut hosts = self.operator.hosts().list_hosts(request).await?.into_inner().hosts;
            hosts.sort_by(|one, other| one.name.cmp(&other.name));
            let connected = hosts.iter().filter(|host| host.connected).count();
            Ok::<_, tonic::Status>((connected >= self.agents).then_some(hosts))
        })
        .await
    }

    /// A new VPC of `owner`, attached to every host by loopback.
    pub async fn vpc(&self, owner: &Account) -> Vpc {
        let vpc = self.vpc_in(owner, Block::claim()).await;
        for host in self.hosts().await {
            self.attach(&host.host_id, &vpc, None).await;
        }
        vpc
    }

    /// Attaches a VPC to a host, by the interface that has this address, or by loopback.
    pub async fn attach(&self, host: &str, vpc: &Vpc, interface: Option<Ipv4Addr>) {
        let kind = match interface {
            Some(_) => v1::AttachmentKind::Interface,
            None => v1::AttachmentKind::Loopback,
        };
        let request = v1::CreateHostAttachmentRequest {
            host_id: host.to_owned(),
            vpc_id: vpc.id.clone(),
            kind: kind.into(),
            interface_address: interface.map(|address| address.to_string()).unwrap_or_default(),
            network_namespace: String::new(),
        };
        let attached = self.operator.hosts().create_host_attachment(request).await;
        attached.expect("an attachment");
    }

    /// A new VPC of `owner` in this network, attached to nothing.
    pub async fn vpc_in(&self, owner: &Account, block: Block) -> Vpc {
        let mut vpcs = owner.client.vpcs();
        let request = v1::CreateVpcRequest {
            cidr_block: block.cidr(),
            name: String::new(),
            enable_dns_hostnames: Some(true),
        };
        let made = vpcs.create_vpc(request).await.expect("a VPC").into_inner();
        let id = made.vpc.expect("a VPC").vpc_id;
        let mut subnets = Vec::new();
        for number in 1..=self.agents {
            let request = v1::CreateSubnetRequest {
                vpc_id: id.clone(),
                cidr_block: block.subnet(u8::try_from(number).expect("a few subnets")),
                availability_zone: format!("use1-az{number}"),
            };
            let made = vpcs.create_subnet(request).await.expect("a subnet").into_inner();
            subnets.push(made.subnet.expect("a subnet").subnet_id);
        }
        let mut vpc = Vpc { id, block, subnets, group: String::new(), owner: owner.clone() };
        let source = vpc.source();
        vpc.group = group(owner, &vpc.id, source).await;
        vpc
    }

    /// A service of `owner`, who decides on requests, with a target in `vpc`.
    pub fn service<'a>(&self, owner: &'a Account, vpc: &'a Vpc) -> NewService<'a> {
        NewService::new(owner, vpc, self.agents)
    }

    /// An endpoint to `service` in the first subnet of `vpc`.
    pub fn endpoint<'a>(&self, vpc: &'a Vpc, service: &'a Service) -> NewEndpoint<'a> {
        NewEndpoint::new(vpc, service)
    }

    /// A webhook that hears of everything that happens to the service's endpoints.
    pub async fn hook(&self, service: &Service) -> Hook {
        let receiver = Receiver::start().await.expect("a receiver");
        receiver.confirm(true);
        let (client, topic_arn) = (&service.owner.client, topic(service).await);
        let hook = Hook { receiver, topic_arn };
        subscribe(client, &hook.topic_arn, v1::SubscriptionProtocol::Http, &hook.receiver.url("/"))
            .await;
        confirmed(client, &hook.topic_arn).await;
        let request = v1::CreateVpcEndpointConnectionNotificationRequest {
            service_id: service.id.clone(),
            connection_notification_arn: hook.topic_arn.clone(),
            connection_events: (1..=4).collect(),
            ..Default::default()
        };
        let mut notifications = client.notifications();
        let made = notifications.create_vpc_endpoint_connection_notification(request).await;
        made.expect("a notification");
        hook
    }

    /// A mail address that is subscribed to the same topic, confirmed by the link in its mail.
    pub async fn mail(&self, service: &Service, hook: &Hook, mails: &MailSink, address: &str) {
        let (client, topic) = (&service.owner.client, &hook.topic_arn);
        subscribe(client, topic, v1::SubscriptionProtocol::Email, address).await;
        let asked = mails.wait_for(PATIENCE, |mail| mail.to == [address]).await.expect("a mail");
        let text = asked.text().expect("a text");
        let link = text.lines().find(|line| line.contains("Action=ConfirmSubscription"));
        let (status, page) = get(link.expect("a link").trim()).await.expect("an answer");
        assert_eq!(status, 200, "{page}");
        confirmed(client, topic).await;
    }
}

/// A group of the VPC that lets `source` in.
async fn group(owner: &Account, vpc: &str, source: Ipv4Addr) -> String {
    let mut vpcs = owner.client.vpcs();
    let request = v1::CreateSecurityGroupRequest {
        vpc_id: vpc.to_owned(),
        group_name: "clients".to_owned(),
        description: "lets the client in".to_owned(),
    };
    let made = vpcs.create_security_group(request).await.expect("a group").into_inner();
    let group = made.security_group.expect("a group").group_id;
    let permission = v1::IpPermission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(i32::from(PORT)),
        to_port: Some(i32::from(PORT)),
        cidr_ipv4: format!("{source}/32"),
        description: String::new(),
    };
    let request = v1::AuthorizeSecurityGroupIngressRequest {
        group_id: group.clone(),
        ip_permissions: vec![permission],
    };
    vpcs.authorize_security_group_ingress(request).await.expect("a rule");
    group
}

/// A topic that takes what is published about the service.
async fn topic(service: &Service) -> String {
    let (client, account) = (&service.owner.client, &service.owner.id);
    let name = format!("about-{}", service.id);
    let request = v1::CreateTopicRequest { name, ..Default::default() };
    let made = client.topics().create_topic(request).await.expect("a topic").into_inner();
    let topic = made.topic.expect("a topic").topic_arn;
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Service": "vpce.amazonaws.com" },
            "Action": "SNS:Publish",
            "Resource": topic,
            "Condition": { "ArnLike": {
                "aws:SourceArn": format!("arn:aws:ec2:*:{account}:vpc-endpoint-service/{}", service.id),
            }},
        }],
    });
    let request = v1::SetTopicAttributesRequest {
        topic_arn: topic.clone(),
        policy: Some(policy.to_string()),
        ..Default::default()
    };
    client.topics().set_topic_attributes(request).await.expect("a policy");
    topic
}

async fn subscribe(client: &Client, topic: &str, kind: v1::SubscriptionProtocol, endpoint: &str) {
    let request = v1::SubscribeRequest {
        topic_arn: topic.to_owned(),
        protocol: kind.into(),
        endpoint: endpoint.to_owned(),
        ..Default::default()
    };
    client.topics().subscribe(request).await.expect("a subscription");
}

/// Waits until every subscription of the topic is confirmed.
async fn confirmed(client: &Client, topic: &str) {
    until("the subscription is confirmed", PATIENCE, || async {
        let request =
            v1::ListSubscriptionsRequest { topic_arn: topic.to_owned(), ..Default::default() };
        let all = client.topics().list_subscriptions(request).await?.into_inner().subscriptions;
        let confirmed = |one: &v1::Subscription| one.state() == v1::SubscriptionState::Confirmed;
        Ok::<_, tonic::Status>(all.iter().all(confirmed).then_some(()))
    })
    .await;
}

/// Asks again and again until there is a value; errors count as none.
///
/// # Panics
/// When there is none after `patience`; with the last error.
pub async fn until<T, E, F>(what: &str, patience: Duration, mut ask: impl FnMut() -> F) -> T
where
    E: std::fmt::Debug,
    F: Future<Output = Result<Option<T>, E>>,
{
    let deadline = Instant::now() + patience;
    let mut last = None;
    loop {
        match timeout(patience, ask()).await {
            Ok(Ok(Some(value))) => return value,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "not so in {patience:?}: {what} (last error {last:?})");
        sleep(Duration::from_millis(25)).await;
    }
}
