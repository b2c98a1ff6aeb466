//! Services, endpoints to them, and what is asked of both.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postern_proto::v1;
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};

use super::PATIENCE;
use super::tcp::Echo;
use super::world::{Account, PORT, Vpc};

/// A service with a server behind it that sends back what it gets.
#[derive(Debug)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who provides it.
    pub owner: Account,
    /// Its target, unless it was made to lead to nothing.
    pub target: Option<Echo>,
}

/// An endpoint with one interface for each subnet it is in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// The addresses of its interfaces, in the order of the subnets.
    pub addresses: Vec<Ipv4Addr>,
    owner: Account,
}

impl Endpoint {
    /// Where its first interface listens.
    pub fn at(&self) -> SocketAddr {
        SocketAddr::from((*self.addresses.first().expect("an interface"), PORT))
    }
}

/// A service to be made.
#[derive(Debug)]
pub struct NewService<'a> {
    owner: &'a Account,
    vpc: &'a Vpc,
    accepts_all: bool,
    private_name: String,
    target: Option<SocketAddr>,
    zones: usize,
}

/// An endpoint to be made.
#[derive(Debug)]
pub struct NewEndpoint<'a> {
    vpc: &'a Vpc,
    service: &'a Service,
    subnets: usize,
    token: String,
    traceparent: Option<MetadataValue<Ascii>>,
}

impl<'a> NewService<'a> {
    pub(super) fn new(owner: &'a Account, vpc: &'a Vpc, zones: usize) -> Self {
        let private_name = String::new();
        Self { owner, vpc, accepts_all: false, private_name, target: None, zones }
    }

    /// Every request is accepted by itself.
    #[must_use]
    pub fn accepting_all(mut self) -> Self {
        self.accepts_all = true;
        self
    }

    /// Its private name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.private_name = name.to_owned();
        self
    }

    /// It leads there, and not to a server of its own.
    #[must_use]
    pub fn leading_to(mut self, target: SocketAddr) -> Self {
        self.target = Some(target);
        self
    }

    /// Makes it; anybody may ask for an endpoint to it.
    pub async fn create(self) -> Service {
        let (target, address) = match self.target {
            Some(address) => (None, address),
            None => {
                let echo = Echo::start(self.vpc.block.at(10)).await;
                let address = echo.address;
                (Some(echo), address)
            }
        };
        let targets = (1..=self.zones).map(|zone| v1::Target {
            address: address.ip().to_string(),
            port: i32::from(address.port()),
            availability_zone: format!("use1-az{zone}"),
        });
        let request = v1::CreateVpcEndpointServiceConfigurationRequest {
            vpc_id: self.vpc.id.clone(),
            listeners: vec![v1::Listener { port: i32::from(PORT), targets: targets.collect() }],
            acceptance_required: Some(!self.accepts_all),
            private_dns_name: self.private_name,
            ..Default::default()
        };
        let mut provider = self.owner.client.provider();
        let made = provider.create_vpc_endpoint_service_configuration(request).await;
        let made = made.expect("a service").into_inner().service_configuration;
        let made = made.expect("a service");
        let request = v1::ModifyVpcEndpointServicePermissionsRequest {
            service_id: made.service_id.clone(),
            add_allowed_principals: vec!["*".to_owned()],
            remove_allowed_principals: Vec::new(),
        };
        provider.modify_vpc_endpoint_service_permissions(request).await.expect("a permission");
        Service { id: made.service_id, name: made.service_name, owner: self.owner.clone(), target }
    }
}

impl Service {
    /// Accepts a request.
    ///
    /// # Errors
    /// What the API answers, or says about the endpoint.
    pub async fn accept(&self, endpoint: &str) -> Result<(), Status> {
        let request = v1::AcceptVpcEndpointConnectionsRequest {
            service_id: self.id.clone(),
            vpc_endpoint_ids: vec![endpoint.to_owned()],
        };
        let mut provider = self.owner.client.provider();
        let answer = provider.accept_vpc_endpoint_connections(request).await?.into_inner();
        all_done(&answer.unsuccessful)
    }

    /// Rejects a request or a connection.
    ///
    /// # Errors
    /// What the API answers, or says about the endpoint.
    pub async fn reject(&self, endpoint: &str) -> Result<(), Status> {
        let request = v1::RejectVpcEndpointConnectionsRequest {
            service_id: self.id.clone(),
            vpc_endpoint_ids: vec![endpoint.to_owned()],
        };
        let mut provider = self.owner.client.provider();
        let answer = provider.reject_vpc_endpoint_connections(request).await?.into_inner();
        all_done(&answer.unsuccessful)
    }
}

fn all_done(unsuccessful: &[v1::UnsuccessfulItem]) -> Result<(), Status> {
    match unsuccessful {
        [] => Ok(()),
        [item, ..] => Err(Status::failed_precondition(format!("{}: {}", item.code, item.message))),
    }
}

impl<'a> NewEndpoint<'a> {
    pub(super) fn new(vpc: &'a Vpc, service: &'a Service) -> Self {
        NewEndpoint { vpc, service, subnets: 1, token: String::new(), traceparent: None }
    }

    /// As a part of the caller's trace (W3C Trace Context).
    #[must_use]
    pub fn traced(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.parse().expect("a traceparent is ASCII"));
        self
    }

    /// In so many subnets.
    #[must_use]
    pub fn in_subnets(mut self, count: usize) -> Self {
        self.subnets = count;
        self
    }

    /// With a client token: sent twice, it is one endpoint.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = token.to_owned();
        self
    }

    /// Asks for it.
    pub async fn create(self) -> Endpoint {
        self.try_create().await.expect("an endpoint")
    }

    /// Asks for it.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn try_create(&self) -> Result<Endpoint, Status> {
        let request = v1::CreateVpcEndpointRequest {
            vpc_id: self.vpc.id.clone(),
            service_name: self.service.name.clone(),
            subnet_ids: self.vpc.subnets.iter().take(self.subnets).cloned().collect(),
            group_ids: vec![self.vpc.group.clone()],
            private_dns_enabled: None,
            client_token: self.token.clone(),
        };
        let mut request = Request::new(request);
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
        let mut consumer = self.vpc.owner.client.consumer();
        let made = consumer.create_vpc_endpoint(request).await?.into_inner();
        let id = made.vpc_endpoint.unwrap_or_default().vpc_endpoint_id;
        let request =
            v1::ListNetworkInterfacesRequest { vpc_endpoint_id: id.clone(), ..Default::default() };
        let mut found =
            consumer.list_network_interfaces(request).await?.into_inner().network_interfaces;
        let place = |subnet: &str| self.vpc.subnets.iter().position(|one| one == subnet);
        found.sort_by_key(|interface| place(&interface.subnet_id));
        let addresses =
            found.iter().filter_map(|interface| interface.private_ip_address.parse().ok());
        Ok(Endpoint { id, addresses: addresses.collect(), owner: self.vpc.owner.clone() })
    }
}

impl Endpoint {
    /// Waits on the watch stream until it is in `state`. A stream that breaks is opened again.
    pub async fn reaches(&self, state: v1::VpcEndpointState) -> v1::VpcEndpoint {
        self.reaches_one_of(&[state], PATIENCE).await
    }

    /// Waits until it is in one of these states.
    pub async fn reaches_one_of(
        &self,
        states: &[v1::VpcEndpointState],
        patience: Duration,
    ) -> v1::VpcEndpoint {
        let mut last = None;
        let watched = timeout(patience, async {
            loop {
                match self.watch(states, &mut last).await {
                    Ok(Some(endpoint)) => return endpoint,
                    Ok(None) | Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        });
        match watched.await {
            Ok(endpoint) => endpoint,
            Err(_) => panic!("{} is not one of {states:?} in {patience:?}: {last:?}", self.id),
        }
    }

    async fn watch(
        &self,
        states: &[v1::VpcEndpointState],
        last: &mut Option<v1::VpcEndpoint>,
    ) -> Result<Option<v1::VpcEndpoint>, Status> {
        let request = v1::WatchVpcEndpointsRequest { vpc_endpoint_ids: vec![self.id.clone()] };
        let mut stream =
            self.owner.client.consumer().watch_vpc_endpoints(request).await?.into_inner();
        while let Some(told) = stream.message().await? {
            let Some(endpoint) = told.vpc_endpoint else { continue };
            if states.contains(&endpoint.state()) {
                return Ok(Some(endpoint));
            }
            *last = Some(endpoint);
        }
        Ok(None)
    }

    /// What the API says of it now.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn get(&self) -> Result<v1::VpcEndpoint, Status> {
        let request = v1::GetVpcEndpointRequest { vpc_endpoint_id: self.id.clone() };
        let answer = self.owner.client.consumer().get_vpc_endpoint(request).await?;
        answer.into_inner().vpc_endpoint.ok_or_else(|| Status::internal("no endpoint came"))
    }

    /// Switches its private names on.
    ///
    /// # Errors
    /// What the API answers.
    pub async fn enable_private_names(&self) -> Result<(), Status> {
        let request = v1::ModifyVpcEndpointRequest {
            vpc_endpoint_id: self.id.clone(),
            private_dns_enabled: Some(true),
            ..Default::default()
        };
        self.owner.client.consumer().modify_vpc_endpoint(request).await.map(drop)
    }

    /// Asks for its deletion.
    ///
    /// # Errors
    /// What the API answers, or says about the endpoint.
    pub async fn delete(&self) -> Result<(), Status> {
        let request = v1::DeleteVpcEndpointsRequest { vpc_endpoint_ids: vec![self.id.clone()] };
        let answer = self.owner.client.consumer().delete_vpc_endpoints(request).await?;
        all_done(&answer.into_inner().unsuccessful)
    }
}
