//! A provider's service, a consumer's network and a host between them: what a test about endpoints
//! starts from. The host does what it is told when the test says so.

use std::sync::Arc;

use postern_control_plane::app::attachments::CreateAttachment;
use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::endpoints::{CreateEndpoint, ModifyEndpoint};
use postern_control_plane::app::hosts::CreateHost;
use postern_control_plane::app::items::Unsuccessful;
use postern_control_plane::app::permissions::ModifyPermissions;
use postern_control_plane::app::services::{CreateService, Service, WantedListener, WantedTarget};
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_control_plane::caller::Caller;
use postern_control_plane::store::endpoints::Endpoint;
use postern_control_plane::store::hosts::Reach;
use postern_control_plane::store::interfaces;
use postern_control_plane::store::reports::{self, Status};
use postern_control_plane::store::subnets::SubnetRow;
use postern_control_plane::store::vpcs::VpcRow;
use postern_model::endpoint::EndpointState;
use postern_model::event::CloudEvent;
use postern_model::id::{EndpointId, HostId, ServiceId, VpcId};
use sqlx::types::Json;

use super::{Cp, settings};

/// The private name of the service.
pub const PRIVATE_NAME: &str = "db.example.com";
/// The zones that the service is offered in.
pub const ZONES: [&str; 2] = ["use1-az1", "use1-az2"];

/// A provider's service, a consumer's network and a host between them.
pub struct Doors {
    /// The control plane.
    pub cp: Cp,
    /// Who owns the service.
    pub provider: Caller,
    /// Who may connect to it.
    pub consumer: Caller,
    /// The provider's VPC.
    pub provider_vpc: VpcRow,
    /// The service, in the first two zones, with a private name.
    pub service: Service,
    /// The consumer's VPC, in which private names may be used.
    pub vpc: VpcRow,
    /// A subnet of it in each of the service's zones.
    pub subnets: Vec<SubnetRow>,
    /// A host that reaches both VPCs.
    pub host: HostId,
}

impl Doors {
    /// With a service whose owner decides on requests.
    pub async fn deciding() -> Self {
        Self::open(true).await
    }

    /// With a service that accepts by itself.
    pub async fn automatic() -> Self {
        Self::open(false).await
    }

    async fn open(acceptance_required: bool) -> Self {
        // Room for tests that make an endpoint for each case.
        let mut settings = settings();
        settings.quotas.endpoints_per_vpc = 240;
        let cp = Cp::with(settings).await;
        let (provider, consumer) = (cp.account("provider").await, cp.account("consumer").await);
        let provider_vpc = cp.vpc(&provider, "10.1.0.0/16").await;
        let command = CreateService { acceptance_required, ..service(provider_vpc.id) };
        let made = cp.app.create_service(&provider, command).await.unwrap();
        let allow = ModifyPermissions {
            service: made.row.id,
            add: vec![consumer.account().unwrap().to_string().parse().unwrap()],
            remove: Vec::new(),
        };
        cp.app.modify_permissions(&provider, allow).await.unwrap();

        let vpc = cp.vpc(&consumer, "10.0.0.0/16").await;
        let names =
            ModifyVpcAttribute { vpc: vpc.id, dns_support: None, dns_hostnames: Some(true) };
        cp.app.modify_vpc_attribute(&consumer, names).await.unwrap();
        let mut subnets = Vec::new();
        for (cidr, zone) in ["10.0.1.0/24", "10.0.2.0/24"].into_iter().zip(ZONES) {
            subnets.push(cp.subnet(&consumer, vpc.id, cidr, zone).await);
        }
        let host = host(&cp, &[vpc.id, provider_vpc.id]).await;
        Self { cp, provider, consumer, provider_vpc, service: made, vpc, subnets, host }
    }

    /// The service.
    pub fn service(&self) -> ServiceId {
        self.service.row.id
    }

    /// What asks for an endpoint with an interface in both zones, without private DNS.
    pub fn ask(&self) -> CreateEndpoint {
        CreateEndpoint {
            vpc: self.vpc.id,
            service_name: self.service.row.name.clone(),
            subnets: self.subnets.iter().map(|subnet| subnet.id).collect(),
            groups: Vec::new(),
            private_dns: Some(false),
            client_token: None,
        }
    }

    /// An endpoint as [`Doors::ask`] says.
    pub async fn endpoint(&self) -> Endpoint {
        self.cp.app.create_endpoint(&self.consumer, self.ask()).await.unwrap()
    }

    /// What changes nothing of an endpoint.
    pub fn change(&self, id: EndpointId) -> ModifyEndpoint {
        ModifyEndpoint {
            id,
            add_subnets: Vec::new(),
            remove_subnets: Vec::new(),
            add_groups: Vec::new(),
            remove_groups: Vec::new(),
            private_dns: None,
        }
    }

    /// The provider accepts or rejects an endpoint, which must be possible.
    pub async fn decide(&self, id: EndpointId, decision: Decision) {
        let failed = self.try_decide(id, decision).await;
        assert_eq!(failed, Vec::new(), "{decision:?}");
    }

    /// The provider accepts or rejects an endpoint.
    pub async fn try_decide(&self, id: EndpointId, decision: Decision) -> Vec<Unsuccessful> {
        let service = self.service();
        self.cp.app.decide(&self.provider, service, &[id], decision).await.unwrap()
    }

    /// The consumer deletes an endpoint, which must be possible.
    pub async fn delete(&self, id: EndpointId) {
        let failed = self.cp.app.delete_endpoints(&self.consumer, &[id]).await.unwrap();
        assert_eq!(failed, Vec::new());
    }

    /// The endpoint as the consumer sees it.
    pub async fn get(&self, id: EndpointId) -> Endpoint {
        self.cp.app.endpoint(&self.consumer, id).await.unwrap()
    }

    /// Where the endpoint is in its life.
    pub async fn state(&self, id: EndpointId) -> EndpointState {
        self.get(id).await.state
    }

    /// An endpoint that is available.
    pub async fn available(&self) -> Endpoint {
        let endpoint = self.endpoint().await;
        if endpoint.state == EndpointState::PendingAcceptance {
            self.decide(endpoint.id, Decision::Accept).await;
        }
        self.obey().await;
        let endpoint = self.get(endpoint.id).await;
        assert_eq!(endpoint.state, EndpointState::Available);
        endpoint
    }

    /// The host applies all that it was told, and reports every interface bound.
    pub async fn obey(&self) {
        self.report(|_| true).await;
    }

    /// The host applies all that it was told, and reports those interfaces bound whose zone is one
    /// that `binds` takes. What it says goes the way of a real report.
    pub async fn report(&self, binds: impl Fn(&str) -> bool) {
        let owned: Vec<(String, String, String, i64)> = sqlx::query_as(
            "SELECT id, endpoint_id, zone_id, epoch FROM network_interface WHERE host_id = $1",
        )
        .bind(self.host.to_string())
        .fetch_all(&self.cp.pool)
        .await
        .unwrap();
        let statuses: Vec<_> = owned
            .iter()
            .map(|(id, _, zone, epoch)| {
                let bound = binds(zone);
                let error = if bound { String::new() } else { "address in use".to_owned() };
                Status { interface: id.parse().unwrap(), epoch: *epoch, bound, error }
            })
            .collect();
        let mut tx = self.cp.app.store.begin().await.unwrap();
        let (_, generation) = reports::present(&mut tx, self.host).await.unwrap().unwrap();
        reports::statuses(&mut tx, self.host, generation, &statuses).await.unwrap();
        interfaces::release(&mut tx, self.host, generation).await.unwrap();
        tx.commit().await.unwrap();
        for (_, endpoint, ..) in owned {
            self.cp.app.settle(endpoint.parse().unwrap()).await.unwrap();
        }
    }

    /// Puts an endpoint into a state, as if it had come there.
    pub async fn force(&self, id: EndpointId, state: EndpointState) {
        let update = "UPDATE vpc_endpoint
                         SET state = $2, published = $3,
                             deleted_at = CASE WHEN $2 = 'deleted' THEN now() END
                       WHERE id = $1";
        sqlx::query(update)
            .bind(id.to_string())
            .bind(state.as_str())
            .bind(state.resolves())
            .execute(&self.cp.pool)
            .await
            .unwrap();
    }

    /// The events of an endpoint, in order.
    pub async fn events(&self, id: EndpointId) -> Vec<CloudEvent> {
        let select = "SELECT body FROM outbox WHERE endpoint_id = $1 ORDER BY sequence";
        let bodies: Vec<Json<CloudEvent>> =
            sqlx::query_scalar(select).bind(id.to_string()).fetch_all(&self.cp.pool).await.unwrap();
        bodies.into_iter().map(|Json(event)| event).collect()
    }

    /// The kinds of an endpoint's events, in order.
    pub async fn kinds(&self, id: EndpointId) -> Vec<&'static str> {
        self.events(id).await.iter().map(|event| event.data.event.as_str()).collect()
    }

    /// The addresses of an endpoint's interfaces, by zone.
    pub async fn addresses(&self, id: EndpointId) -> Vec<String> {
        let select = "SELECT host(address) FROM network_interface
                       WHERE endpoint_id = $1 AND removed_at IS NULL ORDER BY zone_id";
        sqlx::query_scalar(select).bind(id.to_string()).fetch_all(&self.cp.pool).await.unwrap()
    }

    /// Replaces the settings.
    pub fn set(&mut self, change: impl FnOnce(&mut postern_control_plane::app::Settings)) {
        let mut settings = (*self.cp.app.settings).clone();
        change(&mut settings);
        self.cp.app.settings = Arc::new(settings);
    }
}

/// What asks for a service in both zones, whose targets are in `vpc`.
pub fn service(vpc: VpcId) -> CreateService {
    let target = |address: &str, zone: &str| WantedTarget {
        address: address.parse().unwrap(),
        port: 8080,
        zone: zone.to_owned(),
    };
    CreateService {
        vpc,
        listeners: vec![WantedListener {
            port: 80,
            targets: vec![target("10.1.1.10", ZONES[0]), target("10.1.2.10", ZONES[1])],
        }],
        acceptance_required: true,
        private_dns_name: Some(PRIVATE_NAME.to_owned()),
        proxy_protocol_v2: false,
        idle_timeout_seconds: 350,
        client_token: None,
    }
}

/// A host that reaches VPCs and was just heard of.
pub async fn host(cp: &Cp, vpcs: &[VpcId]) -> HostId {
    let name = format!("host-{}", rand::random::<u32>());
    let command = CreateHost { name: name.parse().unwrap(), zone: ZONES[0].parse().unwrap() };
    let host = cp.app.create_host(&Caller::Operator, command).await.unwrap().id;
    for (index, vpc) in vpcs.iter().enumerate() {
        let reach = Reach::Namespace(format!("ns{index}"));
        let command = CreateAttachment { host, vpc: *vpc, reach };
        cp.app.create_attachment(&Caller::Operator, command).await.unwrap();
    }
    let mut db = cp.app.store.acquire().await.unwrap();
    reports::begin(&mut db, host, "test", 0).await.unwrap().unwrap();
    host
}
