//! A provider's service and a consumer's network, for tests of what hosts are told.

use std::time::Duration;

use postern_control_plane::app::attachments::CreateAttachment;
use postern_control_plane::app::endpoints::CreateEndpoint;
use postern_control_plane::app::permissions::ModifyPermissions;
use postern_control_plane::app::services::{CreateService, WantedListener, WantedTarget};
use postern_control_plane::caller::Caller;
use postern_control_plane::store::hosts::Reach;
use postern_control_plane::store::state::{Since, read_all, read_changes};
use postern_control_plane::store::subnets::SubnetRow;
use postern_control_plane::store::vpcs::VpcRow;
use postern_control_plane::tasks::reconcile::{ReconcileMetrics, Reconciler};
use postern_it::cp::Cp;
use postern_model::desired::HostState;
use postern_model::endpoint::EndpointState;
use postern_model::id::{EndpointId, HostId, SecurityGroupId, ServiceId};
use postern_proto::page::Page;

use super::{naming, until};

/// A provider's service and a consumer's network.
pub(crate) struct World {
    pub(crate) cp: Cp,
    pub(crate) consumer: Caller,
    pub(crate) provider: Caller,
    pub(crate) vpc: VpcRow,
    pub(crate) target: VpcRow,
    pub(crate) subnets: Vec<SubnetRow>,
    pub(crate) group: SecurityGroupId,
    pub(crate) service: ServiceId,
    pub(crate) service_name: String,
}

impl World {
    pub(crate) async fn new(acceptance_required: bool) -> Self {
        Self::within(acceptance_required, [10, 0], [10, 1]).await
    }

    /// One whose consumer's and provider's networks are the /16s that begin with these octets.
    pub(crate) async fn within(acceptance_required: bool, near: [u8; 2], far: [u8; 2]) -> Self {
        let cp = Cp::start().await;
        let (consumer, provider) = (cp.account("consumer").await, cp.account("provider").await);
        let vpc = cp.vpc(&consumer, &format!("{}.{}.0.0/16", near[0], near[1])).await;
        let target = cp.vpc(&provider, &format!("{}.{}.0.0/16", far[0], far[1])).await;
        let mut subnets = Vec::new();
        for number in 1..=3 {
            let cidr = format!("{}.{}.{number}.0/24", near[0], near[1]);
            let zone = format!("use1-az{number}");
            subnets.push(cp.subnet(&consumer, vpc.id, &cidr, &zone).await);
        }
        let page = Page { size: 10, after: None };
        let (groups, _) =
            cp.app.list_security_groups(&consumer, Some(vpc.id), &page).await.unwrap();
        let group = groups[0].id;
        let targets = (1..=3).map(|number| WantedTarget {
            address: [far[0], far[1], number, 5].into(),
            port: 8080,
            zone: format!("use1-az{number}"),
        });
        let command = CreateService {
            vpc: target.id,
            listeners: vec![WantedListener { port: 80, targets: targets.collect() }],
            acceptance_required,
            private_dns_name: Some("service.example.com".to_owned()),
            proxy_protocol_v2: false,
            idle_timeout_seconds: 350,
            client_token: None,
        };
        let service = cp.app.create_service(&provider, command).await.unwrap().row;
        let add = vec!["*".parse().unwrap()];
        let everyone = ModifyPermissions { service: service.id, add, remove: Vec::new() };
        cp.app.modify_permissions(&provider, everyone).await.unwrap();
        let (service, service_name) = (service.id, service.name.clone());
        Self { cp, consumer, provider, vpc, target, subnets, group, service, service_name }
    }

    /// Has a host reach both VPCs.
    pub(crate) async fn attach(&self, host: HostId) {
        self.attach_by(host, |vpc| Reach::Namespace(vpc.id.to_string())).await;
    }

    /// Has a host reach both VPCs in some way.
    pub(crate) async fn attach_by(&self, host: HostId, reach: impl Fn(&VpcRow) -> Reach) {
        for vpc in [&self.vpc, &self.target] {
            let reach = reach(vpc);
            let command = CreateAttachment { host, vpc: vpc.id, reach };
            self.cp.app.create_attachment(&Caller::Operator, command).await.unwrap();
        }
    }

    pub(crate) async fn endpoint(&self, subnets: &[usize]) -> EndpointId {
        let command = CreateEndpoint {
            vpc: self.vpc.id,
            service_name: self.service_name.clone(),
            subnets: subnets.iter().map(|index| self.subnets[*index].id).collect(),
            groups: vec![self.group],
            private_dns: Some(false),
            client_token: None,
        };
        self.cp.app.create_endpoint(&self.consumer, command).await.unwrap().id
    }

    pub(crate) async fn state_of(&self, endpoint: EndpointId) -> String {
        let select = "SELECT state FROM vpc_endpoint WHERE id = $1";
        sqlx::query_scalar(select)
            .bind(endpoint.to_string())
            .fetch_one(&self.cp.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn becomes(&self, endpoint: EndpointId, state: EndpointState) {
        until(state.as_str(), || async {
            (self.state_of(endpoint).await == state.as_str()).then_some(())
        })
        .await;
    }

    /// Waits until the stream of a host has ended, with all that it had to say.
    pub(crate) async fn gone(&self, host: HostId) {
        until("the end of a stream", || async {
            let select = "SELECT connected FROM host WHERE id = $1";
            let connected: bool = sqlx::query_scalar(select)
                .bind(host.to_string())
                .fetch_one(&self.cp.pool)
                .await
                .unwrap();
            (!connected).then_some(())
        })
        .await;
    }

    pub(crate) async fn silence(&self, host: HostId, seconds: f64) {
        let update = "UPDATE host SET last_seen_at = now() - make_interval(secs => $2)
                       WHERE id = $1";
        let update = sqlx::query(update).bind(host.to_string()).bind(seconds);
        update.execute(&self.cp.pool).await.unwrap();
    }

    pub(crate) fn reconciler(&self) -> Reconciler {
        let metrics = ReconcileMetrics::register(&mut Default::default());
        Reconciler::new(self.cp.app.clone(), Duration::from_secs(15), metrics)
    }

    pub(crate) async fn truth(&self, host: HostId) -> HostState {
        read_all(&self.cp.app.store, &naming(), host).await.unwrap().unwrap()
    }

    /// What a host holds after everything that changed since.
    pub(crate) async fn catch_up(&self, host: HostId, held: &HostState) -> HostState {
        let since = read_changes(&self.cp.app.store, &naming(), host, held.generation).await;
        match since.unwrap().unwrap() {
            Since::Same => held.clone(),
            Since::Changed(change, _) => {
                let mut state = held.clone();
                state.take(change).unwrap();
                state
            }
            Since::TooOld => panic!("nothing was pruned"),
        }
    }
}

/// Ends whatever lease there is, as time would.
pub(crate) async fn reconciler_takes_over(world: &World) {
    sqlx::query("UPDATE lease SET expires_at = now()").execute(&world.cp.pool).await.unwrap();
}
