//! Endpoint services as their provider runs them: listeners, permissions, connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use postern_control_plane::app::client_tokens::ClientToken;
use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::permissions::ModifyPermissions;
use postern_control_plane::app::services::{
    CreateService, ModifyService, WantedListener, WantedTarget,
};
use postern_control_plane::store::endpoints::Filter;
use postern_it::cp::doors::{Doors, ZONES, service};
use postern_it::cp::{Cp, code, refusal};
use postern_model::Code;
use postern_model::endpoint::EndpointState as S;
use postern_model::id::{EndpointId, ServiceId, VpcId};
use postern_proto::page::Page;
use postern_proto::v1;
use postern_proto::v1::consumer_service_client::ConsumerServiceClient;
use postern_proto::v1::provider_service_client::ProviderServiceClient;
use tonic::Code as Status;

fn page() -> Page {
    Page::parse(0, "").unwrap()
}

fn unchanged(id: ServiceId) -> ModifyService {
    ModifyService {
        id,
        acceptance_required: None,
        listeners: Vec::new(),
        private_dns_name: None,
        remove_private_dns_name: false,
        proxy_protocol_v2: None,
        idle_timeout_seconds: None,
    }
}

fn target(address: &str, zone: &str) -> WantedTarget {
    WantedTarget { address: address.parse().unwrap(), port: 8080, zone: zone.to_owned() }
}

#[tokio::test]
async fn a_service_is_named_after_its_id_and_offered_where_every_port_is_answered() {
    let cp = Cp::start().await;
    let provider = cp.account("provider").await;
    let vpc = cp.vpc(&provider, "10.1.0.0/16").await;
    let mut command = service(vpc.id);
    let zones = cp.subnet(&provider, vpc.id, "10.1.3.0/24", "use1-az1").await;
    command.listeners.push(WantedListener {
        port: 443,
        // A zone may go by the account's own name for it.
        targets: vec![target("10.1.1.11", zones.zone_name.as_str())],
    });
    let made = cp.app.create_service(&provider, command).await.unwrap();
    assert_eq!(made.row.name, format!("com.amazonaws.vpce.us-east-1.{}", made.row.id));
    assert_eq!(made.listeners.iter().map(|one| one.port).collect::<Vec<_>>(), [80, 443]);
    assert_eq!(made.zones, [("use1-az1".parse().unwrap(), zones.zone_name)]);
    assert_eq!(cp.app.service(&provider, made.row.id).await.unwrap(), made);
    assert_eq!(cp.app.services(&provider, &page()).await.unwrap(), std::slice::from_ref(&made));
    // What the database says of zones is what the model says.
    let in_database: Vec<String> =
        sqlx::query_scalar("SELECT zone_id FROM service_zone").fetch_all(&cp.pool).await.unwrap();
    assert_eq!(in_database, ["use1-az1"]);
}

#[tokio::test]
async fn each_fault_of_a_service_names_its_field() {
    let cp = Cp::start().await;
    let provider = cp.account("provider").await;
    let vpc = cp.vpc(&provider, "10.1.0.0/16").await;
    let foreign = cp.account("foreign").await;
    let foreign_vpc = cp.vpc(&foreign, "10.2.0.0/16").await;
    let with = |targets: Vec<WantedTarget>| CreateService {
        listeners: vec![WantedListener { port: 80, targets }],
        ..service(vpc.id)
    };
    let twice = || service(vpc.id).listeners.into_iter().cycle().take(2).collect();
    let named =
        |name: &str| CreateService { private_dns_name: Some(name.to_owned()), ..service(vpc.id) };
    let value = Code::InvalidParameterValue;
    let cases = [
        (service(foreign_vpc.id), Code::InvalidVpcNotFound, "vpc_id"),
        (service(VpcId::generate(&mut rand::rng())), Code::InvalidVpcNotFound, "vpc_id"),
        (CreateService { listeners: Vec::new(), ..service(vpc.id) }, value, "listeners"),
        (CreateService { listeners: twice(), ..service(vpc.id) }, value, "listeners[1].port"),
        (with(Vec::new()), value, "listeners[0].targets"),
        (with(vec![target("10.2.0.1", ZONES[0])]), value, "listeners[0].targets[0].address"),
        (
            with(vec![target("10.1.0.9", ZONES[0]), target("10.1.0.9", ZONES[1])]),
            value,
            "listeners[0].targets[1]",
        ),
        (
            with(vec![target("10.1.0.9", "us-east-1z")]),
            Code::InvalidZoneNotFound,
            "listeners[0].targets[0].availability_zone",
        ),
        (named("DB.example.com"), Code::InvalidParameter, "private_dns_name"),
        (named("a.*.example.com"), Code::InvalidParameter, "private_dns_name"),
        (named("x.vpce.amazonaws.com"), Code::InvalidParameter, "private_dns_name"),
    ];
    for (command, expected, field) in cases {
        let refusal = refusal(cp.app.create_service(&provider, command).await);
        assert_eq!(refusal.code, expected, "{refusal:?}");
        assert_eq!(refusal.field.as_ref().unwrap().field, field, "{refusal:?}");
    }
    assert_eq!(cp.app.services(&provider, &page()).await.unwrap(), []);
}

#[tokio::test]
async fn services_are_counted_and_a_repeat_is_not_another_one() {
    let mut settings = postern_it::cp::settings();
    settings.quotas.services = 1;
    let cp = Cp::with(settings).await;
    let provider = cp.account("provider").await;
    let vpc = cp.vpc(&provider, "10.1.0.0/16").await;
    let client_token = ClientToken::read("t".to_owned()).unwrap();
    let command = CreateService { client_token, ..service(vpc.id) };
    let made = cp.app.create_service(&provider, command.clone()).await.unwrap();
    let again = cp.app.create_service(&provider, command.clone()).await.unwrap();
    assert_eq!(again, made);
    let different = CreateService { proxy_protocol_v2: true, ..command };
    let mismatch = cp.app.create_service(&provider, different).await;
    assert_eq!(code(mismatch), Code::IdempotentParameterMismatch);
    let second = cp.app.create_service(&provider, service(vpc.id)).await;
    assert_eq!(code(second), Code::ResourceLimitExceeded);
    cp.app.delete_services(&provider, &[made.row.id]).await.unwrap();
    cp.app.create_service(&provider, service(vpc.id)).await.unwrap();
    let gone = cp.app.service(&provider, made.row.id).await;
    assert_eq!(code(gone), Code::InvalidVpcEndpointServiceIdNotFound);
}

#[tokio::test]
async fn a_change_of_targets_reaches_the_hosts_and_leaves_no_endpoint_without_targets() {
    let doors = Doors::automatic().await;
    let app = &doors.cp.app;
    let endpoint = doors.available().await;
    let told = doors.cp.changes(doors.host).await.len();
    let mut change = unchanged(doors.service());
    change.listeners =
        vec![WantedListener { port: 80, targets: vec![target("10.1.1.10", ZONES[0])] }];
    let refused = refusal(app.modify_service(&doors.provider, change.clone()).await);
    assert_eq!(refused.code, Code::ExistingVpcEndpointConnections);
    assert_eq!(doors.cp.changes(doors.host).await.len(), told);

    change.listeners[0].targets.push(target("10.1.2.99", ZONES[1]));
    let changed = app.modify_service(&doors.provider, change.clone()).await.unwrap();
    assert_eq!(changed.listeners[0].targets.len(), 2);
    let now = doors.cp.changes(doors.host).await.len();
    assert_eq!(now, told + 2, "both interfaces");
    app.modify_service(&doors.provider, change).await.unwrap();
    assert_eq!(doors.cp.changes(doors.host).await.len(), now, "nothing is different");
    assert_eq!(doors.state(endpoint.id).await, S::Available);

    let mut idle = unchanged(doors.service());
    idle.idle_timeout_seconds = Some(60);
    app.modify_service(&doors.provider, idle).await.unwrap();
    assert_eq!(doors.cp.changes(doors.host).await.len(), now + 2);
}

#[tokio::test]
async fn acceptance_concerns_later_requests_only() {
    let doors = Doors::deciding().await;
    let waiting = doors.endpoint().await;
    let mut change = unchanged(doors.service());
    change.acceptance_required = Some(false);
    doors.cp.app.modify_service(&doors.provider, change).await.unwrap();
    assert_eq!(doors.state(waiting.id).await, S::PendingAcceptance);
    assert_eq!(doors.endpoint().await.state, S::Pending);
}

#[tokio::test]
async fn a_service_with_living_connections_is_not_deleted() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let none = ServiceId::generate(&mut rand::rng());
    let endpoint = doors.endpoint().await;
    for state in S::ALL {
        doors.force(endpoint.id, state).await;
        let failed = app.delete_services(&doors.provider, &[none, doors.service()]).await.unwrap();
        assert_eq!(failed[0].refusal.code, Code::InvalidVpcEndpointServiceNotFound);
        if state.holds_service() {
            assert_eq!(failed[1].refusal.code, Code::ExistingVpcEndpointConnections, "{state}");
            assert!(failed[1].refusal.message.contains(state.as_str()));
        } else {
            assert_eq!(failed.len(), 1, "{state}");
            sqlx::query("UPDATE endpoint_service SET state = 'Available', deleted_at = NULL")
                .execute(&doors.cp.pool)
                .await
                .unwrap();
        }
    }
    let foreign = app.delete_services(&doors.consumer, &[doors.service()]).await.unwrap();
    assert_eq!(foreign[0].refusal.code, Code::InvalidVpcEndpointServiceNotFound);
}

#[tokio::test]
async fn permissions_are_a_set_with_a_limit() {
    let mut doors = Doors::deciding().await;
    doors.set(|settings| settings.quotas.principals_per_service = 3);
    let app = &doors.cp.app;
    let service = doors.service();
    let change = |add: &[&str], remove: &[&str]| ModifyPermissions {
        service,
        add: add.iter().map(|text| text.parse().unwrap()).collect(),
        remove: remove.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let bob = "arn:aws:iam::111122223333:user/bob";
    let same = ["111122223333", "arn:aws:iam::111122223333:root", bob];
    let added = app.modify_permissions(&doors.provider, change(&same, &[])).await.unwrap();
    assert_eq!(added.len(), 2, "a number and its root ARN are one principal");
    let again = app.modify_permissions(&doors.provider, change(&same, &["*"])).await.unwrap();
    assert_eq!(again, []);
    let full = app.modify_permissions(&doors.provider, change(&["*"], &[])).await;
    assert_eq!(code(full), Code::ResourceLimitExceeded);
    app.modify_permissions(&doors.provider, change(&["*"], &[bob])).await.unwrap();
    let listed = app.permissions(&doors.provider, service, &page()).await.unwrap();
    let principals: BTreeSet<_> = listed.iter().map(|one| one.principal.to_string()).collect();
    assert!(principals.contains("*") && !principals.contains(bob), "{principals:?}");
    let both = app.modify_permissions(&doors.provider, change(&[bob], &[bob])).await;
    assert_eq!(code(both), Code::InvalidParameterCombination);
    for caller in [&doors.consumer, &doors.cp.account("stranger").await] {
        let listed = app.permissions(caller, service, &page()).await;
        assert_eq!(code(listed), Code::InvalidVpcEndpointServiceIdNotFound);
        let modified = app.modify_permissions(caller, change(&[bob], &[])).await;
        assert_eq!(code(modified), Code::InvalidVpcEndpointServiceIdNotFound);
    }
}

#[tokio::test]
async fn a_bulk_decision_does_what_it_can_and_says_what_it_could_not() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let (one, two, gone) =
        (doors.endpoint().await.id, doors.available().await.id, doors.endpoint().await.id);
    doors.delete(gone).await;
    let none = EndpointId::generate(&mut rand::rng());
    let ids = [none, one, two, gone];
    let failed =
        app.decide(&doors.provider, doors.service(), &ids, Decision::Accept).await.unwrap();
    let codes: Vec<_> =
        failed.iter().map(|item| (item.resource.clone(), item.refusal.code)).collect();
    let expected = [
        (none.to_string(), Code::InvalidVpcEndpointNotFound),
        (gone.to_string(), Code::InvalidState),
    ];
    assert_eq!(codes, expected);
    assert_eq!(doors.state(one).await, S::Pending);
    assert_eq!(doors.kinds(two).await, ["Connect", "Accept"], "accepted already: no event");

    // Another service of the same provider has no such endpoints.
    let other = app.create_service(&doors.provider, service(doors.provider_vpc.id)).await.unwrap();
    let failed = app.decide(&doors.provider, other.row.id, &[one], Decision::Reject).await.unwrap();
    assert_eq!(failed[0].refusal.code, Code::InvalidVpcEndpointNotFound);
    let foreign = app.decide(&doors.consumer, doors.service(), &[one], Decision::Accept).await;
    assert_eq!(code(foreign), Code::InvalidVpcEndpointServiceIdNotFound);
}

#[tokio::test]
async fn connections_are_shown_to_the_provider_alone() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let endpoint = doors.endpoint().await;
    let seen = app.connections(&doors.provider, Filter::default(), &page()).await.unwrap();
    assert_eq!(seen.iter().map(|one| one.id).collect::<Vec<_>>(), [endpoint.id]);
    let accepted = Filter { state: Some(S::Available), ..Filter::default() };
    assert_eq!(app.connections(&doors.provider, accepted, &page()).await.unwrap(), []);
    let service = Filter { service: Some(doors.service()), ..Filter::default() };
    assert_eq!(app.connections(&doors.provider, service, &page()).await.unwrap().len(), 1);
    assert_eq!(app.connections(&doors.consumer, service, &page()).await.unwrap(), []);
}

#[tokio::test]
async fn over_grpc_a_connection_is_asked_for_watched_accepted_and_listed() {
    let doors = Doors::deciding().await;
    let served = doors.cp.serve().await;
    let (provider, consumer) =
        (doors.cp.key(&doors.provider).await, doors.cp.key(&doors.consumer).await);
    let mut provider = ProviderServiceClient::new(served.as_(&provider));
    let mut consumer = ConsumerServiceClient::new(served.as_(&consumer));

    let mut watch = consumer
        .watch_vpc_endpoints(v1::WatchVpcEndpointsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let ask = v1::CreateVpcEndpointRequest {
        vpc_id: doors.vpc.id.to_string(),
        service_name: doors.service.row.name.clone(),
        subnet_ids: doors.subnets.iter().map(|subnet| subnet.id.to_string()).collect(),
        ..Default::default()
    };
    let made = consumer.create_vpc_endpoint(ask.clone()).await.unwrap().into_inner();
    let made = made.vpc_endpoint.unwrap();
    assert_eq!(made.state(), v1::VpcEndpointState::PendingAcceptance);
    assert_eq!(made.dns_entries.len(), 3);
    let mut next = async || watch.message().await.unwrap().unwrap().vpc_endpoint.unwrap();
    assert_eq!(next().await, made);

    let accept = v1::AcceptVpcEndpointConnectionsRequest {
        service_id: doors.service().to_string(),
        vpc_endpoint_ids: vec![made.vpc_endpoint_id.clone()],
    };
    let accepted = provider.accept_vpc_endpoint_connections(accept).await.unwrap().into_inner();
    assert_eq!(accepted.unsuccessful, []);
    assert_eq!(next().await.state(), v1::VpcEndpointState::Pending);
    doors.obey().await;
    assert_eq!(next().await.state(), v1::VpcEndpointState::Available);

    let list = v1::ListVpcEndpointConnectionsRequest::default();
    let listed = provider.list_vpc_endpoint_connections(list).await.unwrap().into_inner();
    let text = format!("{:?}", listed.vpc_endpoint_connections);
    assert!(text.contains(&made.vpc_endpoint_id), "{text}");
    let hidden = [&made.vpc_id, &made.subnet_ids[0], &made.network_interface_ids[0]];
    assert!(hidden.iter().all(|of_the_consumer| !text.contains(*of_the_consumer)), "{text}");
    assert!(!text.contains("10.0.1.4"), "{text}");

    // Faults name the field, wherever they are found.
    let cases = [
        (v1::CreateVpcEndpointRequest { vpc_id: String::new(), ..ask.clone() }, "MissingParameter"),
        (
            v1::CreateVpcEndpointRequest { vpc_id: "vpc-x".into(), ..ask.clone() },
            "InvalidParameterValue",
        ),
        (
            v1::CreateVpcEndpointRequest { client_token: "é".into(), ..ask.clone() },
            "InvalidClientToken",
        ),
        (
            v1::CreateVpcEndpointRequest {
                subnet_ids: vec![ask.subnet_ids[0].clone(); 21],
                ..ask.clone()
            },
            "InvalidParameterValue",
        ),
    ];
    for (request, reason) in cases {
        let status = consumer.create_vpc_endpoint(request).await.unwrap_err();
        assert_eq!(status.code(), Status::InvalidArgument, "{status:?}");
        assert_eq!(postern_proto::status::reason(&status).as_deref(), Some(reason), "{status:?}");
    }
    let foreign = v1::GetVpcEndpointServiceConfigurationRequest {
        service_id: ServiceId::generate(&mut rand::rng()).to_string(),
    };
    let status = provider.get_vpc_endpoint_service_configuration(foreign).await.unwrap_err();
    assert_eq!(status.code(), Status::NotFound);

    // The stream ends when the process stops, so that it does not hold the process.
    doors.cp.app.pokes.end();
    assert_eq!(watch.message().await.unwrap(), None);
}
