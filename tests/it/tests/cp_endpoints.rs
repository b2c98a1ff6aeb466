//! Endpoints as their consumer asks for them: creation, changes, lists, watching.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "cp_endpoints/private_names.rs"]
mod private_names;
#[path = "cp_endpoints/watch.rs"]
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postern_control_plane::app::client_tokens::ClientToken;
use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::endpoints::CreateEndpoint;
use postern_control_plane::app::permissions::ModifyPermissions;
use postern_control_plane::caller::Caller;
use postern_control_plane::store::endpoints::Filter;
use postern_control_plane::store::interfaces;
use postern_it::cp::doors::{Doors, service};
use postern_it::cp::{code, refusal};
use postern_model::endpoint::EndpointState as S;
use postern_model::id::{EndpointId, SecurityGroupId, SubnetId, VpcId};
use postern_model::{AccountId, Code};
use postern_proto::page::Page;

fn page() -> Page {
    Page::parse(0, "").unwrap()
}

async fn refused(doors: &Doors, ask: CreateEndpoint) -> (Code, String) {
    let refusal = refusal(doors.cp.app.create_endpoint(&doors.consumer, ask).await);
    (refusal.code, refusal.message)
}

fn token(text: &str) -> Option<ClientToken> {
    ClientToken::read(text.to_owned()).unwrap()
}

#[tokio::test]
async fn a_new_endpoint_has_the_lowest_addresses_its_names_and_the_default_group() {
    let doors = Doors::deciding().await;
    let endpoint = doors.endpoint().await;
    assert_eq!(endpoint.state, S::PendingAcceptance);
    assert_eq!(endpoint, doors.get(endpoint.id).await, "what is answered is what is there");
    assert_eq!(doors.addresses(endpoint.id).await, ["10.0.1.4", "10.0.2.4"]);
    assert_eq!(endpoint.groups.len(), 1, "the VPC's default group");
    let names: Vec<_> =
        doors.cp.app.dns_entries(&endpoint).unwrap().into_iter().map(|entry| entry.name).collect();
    let base = format!("{}.us-east-1.vpce.amazonaws.com", doors.service());
    let start = format!("{}-{}", endpoint.id, endpoint.label.as_str());
    assert_eq!(names[0], format!("{start}.{base}"));
    for (name, subnet) in names[1..].iter().zip(&doors.subnets) {
        assert_eq!(*name, format!("{start}-{}.{base}", subnet.zone_name));
    }
    assert_eq!(names.len(), 3);
    let told: Vec<_> =
        doors.cp.changes(doors.host).await.into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(told.iter().filter(|kind| *kind == "interface").count(), 2);
    assert_eq!(told.iter().filter(|kind| *kind == "names").count(), 1);
}

#[tokio::test]
async fn a_service_that_accepts_by_itself_says_connect_and_then_accept() {
    let doors = Doors::automatic().await;
    let endpoint = doors.endpoint().await;
    assert_eq!(endpoint.state, S::Pending);
    let events = doors.events(endpoint.id).await;
    let said: Vec<_> = events
        .iter()
        .map(|event| {
            let data = &event.data;
            let actor = serde_json::to_value(&data.actor).unwrap();
            (data.event.as_str(), data.sequence, actor["side"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [("Connect", 1, "consumer".to_owned()), ("Accept", 2, "system".to_owned())];
    assert_eq!(said, expected);
    assert_eq!(events[0].data.previous_state, None);
}

#[tokio::test]
async fn each_fault_of_a_request_has_its_own_code() {
    let doors = Doors::deciding().await;
    let cp = &doors.cp;
    let other = cp.vpc(&doors.consumer, "10.9.0.0/16").await;
    let elsewhere = cp.subnet(&doors.consumer, other.id, "10.9.1.0/24", "use1-az1").await;
    let same_zone = cp.subnet(&doors.consumer, doors.vpc.id, "10.0.3.0/24", "use1-az1").await;
    let unoffered = cp.subnet(&doors.consumer, doors.vpc.id, "10.0.4.0/24", "use1-az3").await;
    let foreign = cp.account("foreign").await;
    let foreign_vpc = cp.vpc(&foreign, "10.7.0.0/16").await;
    let foreign_subnet = cp.subnet(&foreign, foreign_vpc.id, "10.7.1.0/24", "use1-az1").await;
    let mut random = rand::rng();
    let ask = || doors.ask();
    let in_subnets = |subnets: &[SubnetId]| CreateEndpoint { subnets: subnets.to_vec(), ..ask() };
    let other_region = ask().service_name.replace("us-east-1", "eu-west-1");
    let many: Vec<_> = (0..6).map(|_| SecurityGroupId::generate(&mut random)).collect();

    let cases: Vec<(&str, CreateEndpoint, Code, &str)> = vec![
        (
            "a VPC that is not there",
            CreateEndpoint { vpc: VpcId::generate(&mut random), ..ask() },
            Code::InvalidVpcNotFound,
            "vpc_id",
        ),
        (
            "somebody else's VPC",
            CreateEndpoint { vpc: foreign_vpc.id, ..ask() },
            Code::InvalidVpcNotFound,
            "vpc_id",
        ),
        (
            "a text that is no service's name",
            CreateEndpoint { service_name: "db".into(), ..ask() },
            Code::InvalidServiceName,
            "service_name",
        ),
        (
            "another region's service",
            CreateEndpoint { service_name: other_region, ..ask() },
            Code::InvalidServiceName,
            "service_name",
        ),
        (
            "a subnet that is not there",
            in_subnets(&[SubnetId::generate(&mut random)]),
            Code::InvalidSubnetNotFound,
            "subnet_ids[0]",
        ),
        (
            "somebody else's subnet",
            in_subnets(&[doors.subnets[0].id, foreign_subnet.id]),
            Code::InvalidSubnetNotFound,
            "subnet_ids[1]",
        ),
        (
            "a subnet of another VPC",
            in_subnets(&[elsewhere.id]),
            Code::InvalidParameter,
            "subnet_ids[0]",
        ),
        (
            "a zone without the service",
            in_subnets(&[unoffered.id]),
            Code::InvalidParameter,
            unoffered.zone_name.as_str(),
        ),
        (
            "two subnets in a zone",
            in_subnets(&[doors.subnets[0].id, same_zone.id]),
            Code::DuplicateSubnetsInSameZone,
            "subnet_ids[1]",
        ),
        (
            "one subnet twice",
            in_subnets(&[same_zone.id, same_zone.id]),
            Code::DuplicateSubnetsInSameZone,
            "subnet_ids[1]",
        ),
        (
            "groups that are not there",
            CreateEndpoint { groups: many, ..ask() },
            Code::InvalidSecurityGroupNotFound,
            "group_ids[0]",
        ),
        (
            "private DNS before acceptance",
            CreateEndpoint { private_dns: Some(true), ..ask() },
            Code::InvalidParameter,
            "acceptance",
        ),
        // Of two faults, the one that spec 1.1 lists first.
        (
            "a VPC and a service",
            CreateEndpoint { vpc: foreign_vpc.id, service_name: "db".into(), ..ask() },
            Code::InvalidVpcNotFound,
            "vpc_id",
        ),
    ];
    for (what, ask, expected, mentions) in cases {
        let (code, message) = refused(&doors, ask).await;
        assert_eq!(code, expected, "{what}: {message}");
        assert!(message.contains(mentions), "{what}: {message}");
    }
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM vpc_endpoint) + (SELECT count(*) FROM network_interface)
              + (SELECT count(*) FROM outbox)",
    )
    .fetch_one(&cp.pool)
    .await
    .unwrap();
    assert_eq!(left, 0, "what is refused leaves nothing");
}

#[tokio::test]
async fn groups_and_endpoints_are_counted() {
    let mut doors = Doors::deciding().await;
    doors.set(|settings| {
        settings.quotas.endpoints_per_vpc = 2;
        settings.quotas.groups_per_interface = 0;
    });
    let (code, _) = refused(&doors, doors.ask()).await;
    assert_eq!(code, Code::SecurityGroupsPerInterfaceLimitExceeded);
    doors.set(|settings| settings.quotas.groups_per_interface = 5);
    let first = doors.endpoint().await;
    doors.endpoint().await;
    let (code, _) = refused(&doors, doors.ask()).await;
    assert_eq!(code, Code::VpcEndpointLimitExceeded);
    doors.delete(first.id).await;
    let (code, _) = refused(&doors, doors.ask()).await;
    assert_eq!(code, Code::VpcEndpointLimitExceeded, "one that is deleting counts");
    doors.obey().await;
    doors.endpoint().await;
}

#[tokio::test]
async fn a_service_is_absent_for_those_who_may_not_use_it() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let names = [doors.service.row.name.clone()];
    let offered = app.offered_services(&doors.consumer, &names, &page()).await.unwrap();
    assert_eq!(offered[0].ports, [80]);
    let zones: Vec<_> = offered[0].zones.iter().map(ToString::to_string).collect();
    assert_eq!(zones.iter().collect::<BTreeSet<_>>().len(), 2);

    let stranger = doors.cp.account("stranger").await;
    assert_eq!(app.offered_services(&stranger, &[], &page()).await.unwrap(), []);
    let hidden = refusal(app.offered_services(&stranger, &names, &page()).await);
    assert_eq!(hidden.code, Code::InvalidServiceName);
    let vpc = doors.cp.vpc(&stranger, "10.5.0.0/16").await;
    let ask = CreateEndpoint { vpc: vpc.id, subnets: Vec::new(), ..doors.ask() };
    let forbidden = refusal(app.create_endpoint(&stranger, ask.clone()).await);
    let unknown_name = ask.service_name.clone();
    let unknown_name = format!("{}{}", &unknown_name[..unknown_name.len() - 4], "0000");
    let unknown = CreateEndpoint { service_name: unknown_name.clone(), ..ask };
    let unknown = refusal(app.create_endpoint(&stranger, unknown).await);
    assert_eq!(forbidden.code, Code::InvalidServiceName);
    assert_eq!(
        forbidden.message.replace(&doors.service.row.name, "X"),
        unknown.message.replace(&unknown_name, "X"),
        "a forbidden service and an unknown one are answered alike"
    );

    // Without permission there is no new connection, and the old one stays.
    let endpoint = doors.available().await;
    let consumer: AccountId = doors.cp.id_of(&doors.consumer);
    let remove = vec![consumer.to_string().parse().unwrap()];
    let change = ModifyPermissions { service: doors.service(), add: Vec::new(), remove };
    app.modify_permissions(&doors.provider, change).await.unwrap();
    assert_eq!(refused(&doors, doors.ask()).await.0, Code::InvalidServiceName);
    assert_eq!(doors.state(endpoint.id).await, S::Available);
    let mut change = doors.change(endpoint.id);
    change.remove_subnets = vec![doors.subnets[0].id];
    app.modify_endpoint(&doors.consumer, change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_thirty_two_endpoints_asked_for_at_once_a_28_has_room_for_eleven() {
    let doors = Arc::new(Doors::deciding().await);
    let zone = "use1-az1";
    let small = doors.cp.subnet(&doors.consumer, doors.vpc.id, "10.0.9.0/28", zone).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let doors = Arc::clone(&doors);
        asking.spawn(async move {
            let ask = CreateEndpoint { subnets: vec![small.id], ..doors.ask() };
            doors.cp.app.create_endpoint(&doors.consumer, ask).await
        });
    }
    let (mut made, mut refusals) = (Vec::new(), Vec::new());
    while let Some(asked) = asking.join_next().await {
        match asked.unwrap() {
            Ok(endpoint) => made.push(endpoint.id),
            Err(error) => refusals.push(code::<()>(Err(error))),
        }
    }
    assert_eq!(made.len(), 11);
    assert_eq!(refusals, [Code::InsufficientFreeAddressesInSubnet; 21]);
    let mut addresses = BTreeSet::new();
    for id in &made {
        addresses.extend(doors.addresses(*id).await);
    }
    let expected: BTreeSet<_> = (4..=14).map(|last| format!("10.0.9.{last}")).collect();
    assert_eq!(addresses, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_asked_for_at_once_do_not_exceed_the_quota_of_the_vpc() {
    let mut doors = Doors::deciding().await;
    doors.set(|settings| settings.quotas.endpoints_per_vpc = 3);
    let doors = Arc::new(doors);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let doors = Arc::clone(&doors);
        asking.spawn(async move {
            let ask = CreateEndpoint { subnets: Vec::new(), ..doors.ask() };
            doors.cp.app.create_endpoint(&doors.consumer, ask).await
        });
    }
    let answers = asking.join_all().await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 3);
    for answer in refused {
        assert_eq!(code(answer), Code::VpcEndpointLimitExceeded);
    }
}

#[tokio::test]
async fn an_address_rests_for_a_minute_before_it_is_given_out_again() {
    let doors = Doors::deciding().await;
    let first = doors.endpoint().await;
    doors.delete(first.id).await;
    assert_eq!(doors.addresses(doors.endpoint().await.id).await[0], "10.0.1.5");
    doors.obey().await;
    doors.cp.clock.advance(Duration::from_secs(59));
    assert_eq!(doors.addresses(doors.endpoint().await.id).await[0], "10.0.1.6");
    doors.cp.clock.advance(Duration::from_secs(2));
    assert_eq!(doors.addresses(doors.endpoint().await.id).await[0], "10.0.1.4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_sent_again_with_its_token_makes_nothing_again() {
    let doors = Arc::new(Doors::deciding().await);
    let ask = CreateEndpoint { client_token: token("once"), ..doors.ask() };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (doors, ask) = (Arc::clone(&doors), ask.clone());
        asking.spawn(async move {
            doors.cp.app.create_endpoint(&doors.consumer, ask).await.unwrap().id
        });
    }
    let ids: BTreeSet<EndpointId> = asking.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    let id = *ids.first().unwrap();
    doors.decide(id, Decision::Accept).await;
    let app = &doors.cp.app;
    let mut turned = ask.clone();
    turned.subnets.reverse();
    let again = app.create_endpoint(&doors.consumer, turned).await.unwrap();
    assert_eq!((again.id, again.state), (id, S::Pending), "as it is now");

    let different = CreateEndpoint { subnets: Vec::new(), ..ask.clone() };
    let (code, _) = refused(&doors, different.clone()).await;
    assert_eq!(code, Code::IdempotentParameterMismatch);
    // Another account's token is another token, and so is one of yesterday.
    doors.cp.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let later = app.create_endpoint(&doors.consumer, different).await.unwrap();
    assert_ne!(later.id, id);
}

#[tokio::test]
async fn a_changed_endpoint_is_pending_until_its_hosts_are_done_and_a_swap_is_one_call() {
    let doors = Doors::automatic().await;
    let app = &doors.cp.app;
    let endpoint = doors.available().await;
    let nothing = app.modify_endpoint(&doors.consumer, doors.change(endpoint.id)).await.unwrap();
    assert_eq!(nothing.revision, endpoint.revision, "nothing asked for, nothing done");

    let other = doors.cp.subnet(&doors.consumer, doors.vpc.id, "10.0.5.0/24", "use1-az1").await;
    let mut add = doors.change(endpoint.id);
    add.add_subnets = vec![other.id];
    let twice = refusal(app.modify_endpoint(&doors.consumer, add.clone()).await);
    assert_eq!(twice.code, Code::DuplicateSubnetsInSameZone);
    let mut swap = add;
    swap.remove_subnets = vec![doors.subnets[0].id];
    let swapped = app.modify_endpoint(&doors.consumer, swap).await.unwrap();
    assert_eq!(swapped.state, S::Pending);
    assert_eq!(doors.addresses(endpoint.id).await, ["10.0.5.4", "10.0.2.4"]);
    let published: bool = sqlx::query_scalar("SELECT published FROM vpc_endpoint WHERE id = $1")
        .bind(endpoint.id.to_string())
        .fetch_one(&doors.cp.pool)
        .await
        .unwrap();
    assert!(published, "names go on while a modification runs");
    doors.obey().await;
    assert_eq!(doors.state(endpoint.id).await, S::Available);
    let released: Vec<String> = sqlx::query_scalar("SELECT host(address) FROM released_address")
        .fetch_all(&doors.cp.pool)
        .await
        .unwrap();
    assert_eq!(released, ["10.0.1.4"]);

    let mut last = doors.change(endpoint.id);
    last.remove_groups = endpoint.groups.clone();
    let refused = refusal(app.modify_endpoint(&doors.consumer, last).await);
    assert_eq!(refused.code, Code::InvalidParameter);
    let mut both = doors.change(endpoint.id);
    both.add_subnets = vec![other.id];
    both.remove_subnets = vec![other.id];
    let refused = refusal(app.modify_endpoint(&doors.consumer, both).await);
    assert_eq!(refused.code, Code::InvalidParameterCombination);

    // With no interface left there is nobody to wait for.
    let mut none = doors.change(endpoint.id);
    none.remove_subnets = vec![other.id, doors.subnets[1].id];
    let bare = app.modify_endpoint(&doors.consumer, none).await.unwrap();
    assert_eq!((bare.state, bare.interfaces.len()), (S::Available, 0));
}

#[tokio::test]
async fn interfaces_are_shown_to_their_owner_with_their_meters() {
    let doors = Doors::automatic().await;
    let app = &doors.cp.app;
    let endpoint = doors.endpoint().await;
    let filter = interfaces::Filter { endpoint: Some(endpoint.id), ..Default::default() };
    let pending = app.network_interfaces(&doors.consumer, filter, &page()).await.unwrap();
    assert_eq!(pending.iter().map(|one| one.bound).collect::<Vec<_>>(), [false, false]);
    doors.obey().await;
    sqlx::query("INSERT INTO interface_usage (network_interface_id, bytes_in) VALUES ($1, 42)")
        .bind(pending[0].id.to_string())
        .execute(&doors.cp.pool)
        .await
        .unwrap();
    let shown = app.network_interface(&doors.consumer, pending[0].id).await.unwrap();
    assert!(shown.bound);
    assert_eq!(shown.usage.bytes_in, 42);
    assert_eq!(shown.groups, endpoint.groups);
    let hidden = app.network_interface(&doors.provider, pending[0].id).await;
    assert_eq!(code(hidden), Code::InvalidNetworkInterfaceNotFound);
}

#[tokio::test]
async fn what_belongs_to_another_account_is_answered_as_if_it_did_not_exist() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let endpoint = doors.endpoint().await;
    let none = EndpointId::generate(&mut rand::rng());
    // The provider sees the connection, and still has no such endpoint.
    for id in [endpoint.id, none] {
        let get = refusal(app.endpoint(&doors.provider, id).await);
        assert_eq!(get.code, Code::InvalidVpcEndpointIdNotFound);
        assert_eq!(get.message, format!("vpc_endpoint_id: the endpoint {id} does not exist"));
        let modify = refusal(app.modify_endpoint(&doors.provider, doors.change(id)).await);
        assert_eq!(modify, get);
        let watch = app.watch_endpoints(&doors.provider, &[id]).await;
        assert_eq!(refusal(watch.map(|_| ())), get);
        let deleted = app.delete_endpoints(&doors.provider, &[id]).await.unwrap();
        assert_eq!(deleted[0].refusal.code, Code::InvalidVpcEndpointNotFound);
    }
    assert_eq!(app.endpoints(&doors.provider, Filter::default(), &page()).await.unwrap(), []);
    assert_eq!(doors.state(endpoint.id).await, S::PendingAcceptance);
    let operator = app.endpoint(&Caller::Operator, endpoint.id).await;
    assert_eq!(code(operator), Code::UnauthorizedOperation);
}

#[tokio::test]
async fn endpoints_are_listed_by_vpc_and_state_in_pages() {
    let doors = Doors::deciding().await;
    let app = &doors.cp.app;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(doors.endpoint().await.id);
    }
    ids.sort();
    doors.decide(ids[1], Decision::Reject).await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = Page::parse(2, &token).unwrap();
        let mut rows = app.endpoints(&doors.consumer, Filter::default(), &page).await.unwrap();
        token = page.cut(&mut rows, |endpoint| endpoint.id.to_string());
        seen.extend(rows.iter().map(|endpoint| endpoint.id));
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let filter = Filter { vpc: Some(doors.vpc.id), state: Some(S::Rejected), service: None };
    let rejected = app.endpoints(&doors.consumer, filter, &page()).await.unwrap();
    assert_eq!(rejected.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[1]]);
    let filter = Filter { vpc: Some(doors.provider_vpc.id), ..Filter::default() };
    assert_eq!(app.endpoints(&doors.consumer, filter, &page()).await.unwrap(), []);
}

#[tokio::test]
async fn an_endpoint_may_lead_to_the_providers_own_service_without_permission() {
    let doors = Doors::deciding().await;
    let made = doors.cp.app.create_service(&doors.provider, service(doors.provider_vpc.id)).await;
    let vpc = doors.cp.vpc(&doors.provider, "10.6.0.0/16").await;
    let ask = CreateEndpoint {
        vpc: vpc.id,
        service_name: made.unwrap().row.name,
        subnets: Vec::new(),
        ..doors.ask()
    };
    let endpoint = doors.cp.app.create_endpoint(&doors.provider, ask).await.unwrap();
    assert_eq!(endpoint.state, S::PendingAcceptance);
}
