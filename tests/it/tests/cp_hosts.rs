//! Hosts and attachments, and which hosts hear of what changes in a network.
#![allow(clippy::unwrap_used, clippy::panic)]

use postern_control_plane::Error;
use postern_control_plane::app::attachments::CreateAttachment;
use postern_control_plane::app::hosts::CreateHost;
use postern_control_plane::app::security_groups::{AuthorizeIngress, RevokeIngress};
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_control_plane::caller::Caller;
use postern_control_plane::pokes::Poke;
use postern_control_plane::store::hosts::{AttachmentRow, HostRow, Reach};
use postern_it::cp::{Cp, code, pages};
use postern_model::Code;
use postern_model::id::{AttachmentId, HostId, VpcId};
use postern_model::security::IngressRule;
use postern_proto::page::Page;
use postern_proto::v1;
use postern_proto::v1::host_service_client::HostServiceClient;
use tokio::sync::broadcast::Receiver;

fn all() -> Page {
    Page { size: 1000, after: None }
}

async fn create(cp: &Cp, name: &str, zone: &str) -> Result<HostRow, Error> {
    let command = CreateHost { name: name.parse().unwrap(), zone: zone.parse().unwrap() };
    cp.app.create_host(&Caller::Operator, command).await
}

async fn host(cp: &Cp, name: &str) -> HostId {
    create(cp, name, "use1-az1").await.unwrap().id
}

async fn attach(cp: &Cp, host: HostId, vpc: VpcId, reach: Reach) -> Result<AttachmentRow, Error> {
    cp.app.create_attachment(&Caller::Operator, CreateAttachment { host, vpc, reach }).await
}

fn namespace(name: &str) -> Reach {
    Reach::Namespace(name.to_owned())
}

/// The hosts that were poked so far.
fn poked(pokes: &mut Receiver<Poke>) -> Vec<HostId> {
    let mut hosts = Vec::new();
    while let Ok(poke) = pokes.try_recv() {
        if let Poke::Host(host) = poke {
            hosts.push(host);
        }
    }
    hosts
}

#[tokio::test]
async fn a_host_is_registered_by_a_name_of_its_own_in_a_zone_of_the_region() {
    let cp = Cp::start().await;
    let made = create(&cp, "Node-1.example", "use1-az2").await.unwrap();
    assert_eq!(made.name, "node-1.example");
    assert!(!made.connected && made.last_seen_at.is_none());
    let again = create(&cp, "node-1.EXAMPLE", "use1-az1").await;
    assert_eq!(code(again), Code::InvalidHostDuplicate);
    assert_eq!(code(create(&cp, "node-2", "use1-az9").await), Code::InvalidZoneNotFound);
    assert_eq!(cp.app.get_host(&Caller::Operator, made.id).await.unwrap(), made);
    let unknown = HostId::generate(&mut rand::rng());
    let refused = cp.app.get_host(&Caller::Operator, unknown).await;
    assert_eq!(code(refused), Code::InvalidHostNotFound);
}

#[tokio::test]
async fn loopback_reaches_vpcs_in_127_and_an_interface_those_outside() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let host = host(&cp, "node-1").await;
    let (near, far) =
        (cp.vpc(&caller, "127.16.0.0/16").await.id, cp.vpc(&caller, "10.0.0.0/16").await.id);
    let refused = attach(&cp, host, far, Reach::Loopback).await;
    assert_eq!(code(refused), Code::InvalidParameterCombination);
    let interface = Reach::Interface([192, 0, 2, 1].into());
    let refused = attach(&cp, host, near, interface.clone()).await;
    assert_eq!(code(refused), Code::InvalidParameterCombination);
    let made = attach(&cp, host, near, Reach::Loopback).await.unwrap();
    assert_eq!((made.host, made.vpc, &made.reach), (host, near, &Reach::Loopback));
    let made = attach(&cp, host, far, interface.clone()).await.unwrap();
    assert_eq!(made.reach, interface);
    let unknown = attach(&cp, HostId::generate(&mut rand::rng()), near, Reach::Loopback).await;
    assert_eq!(code(unknown), Code::InvalidHostNotFound);
    let unknown = attach(&cp, host, VpcId::generate(&mut rand::rng()), Reach::Loopback).await;
    assert_eq!(code(unknown), Code::InvalidVpcNotFound);
}

#[tokio::test]
async fn only_namespaces_keep_overlapping_vpcs_apart_on_a_host() {
    let cp = Cp::start().await;
    let (one, other) = (cp.account("one").await, cp.account("other").await);
    let host = host(&cp, "node-1").await;
    let interface = || Reach::Interface([192, 0, 2, 1].into());
    let first = cp.vpc(&one, "10.0.0.0/16").await.id;
    let second = cp.vpc(&other, "10.0.128.0/20").await.id;
    attach(&cp, host, first, interface()).await.unwrap();
    let refused = attach(&cp, host, second, interface()).await;
    assert_eq!(code(refused), Code::InvalidAttachmentConflict);
    attach(&cp, host, second, namespace("blue")).await.unwrap();
    let twice = attach(&cp, host, first, namespace("green")).await;
    assert_eq!(code(twice), Code::InvalidAttachmentConflict);
    // Another host is another place.
    let elsewhere = create(&cp, "node-2", "use1-az2").await.unwrap().id;
    attach(&cp, elsewhere, second, interface()).await.unwrap();
}

#[tokio::test]
async fn attachments_made_at_the_same_time_on_one_host_are_all_made_and_each_is_told() {
    let cp = Cp::start().await;
    let host = host(&cp, "node-1").await;
    let mut pokes = cp.app.pokes.listen_local();
    let mut vpcs = Vec::new();
    for number in 0..8 {
        let caller = cp.account("one of eight").await;
        vpcs.push(cp.vpc(&caller, &format!("10.{number}.0.0/16")).await.id);
    }
    let tasks = vpcs.into_iter().map(|vpc| {
        let app = cp.app.clone();
        tokio::spawn(async move {
            let reach = Reach::Interface([192, 0, 2, 1].into());
            let command = CreateAttachment { host, vpc, reach };
            app.create_attachment(&Caller::Operator, command).await.unwrap().id.to_string()
        })
    });
    let mut made = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        made.push(task.await.unwrap());
    }
    let changes = cp.changes(host).await;
    assert_eq!(
        changes.iter().map(|change| change.0).collect::<Vec<_>>(),
        (2..=9).collect::<Vec<_>>()
    );
    let mut told: Vec<_> = changes.into_iter().map(|(_, kind, object)| (kind, object)).collect();
    told.sort();
    made.sort();
    let expected: Vec<_> = made.into_iter().map(|id| ("attachment".to_owned(), id)).collect();
    assert_eq!(told, expected);
    assert_eq!(poked(&mut pokes), vec![host; 8]);
}

#[tokio::test]
async fn an_attachment_stays_while_an_interface_on_its_host_depends_on_it() {
    let cp = Cp::start().await;
    let (provider, consumer) = (cp.account("provider").await, cp.account("consumer").await);
    let host = host(&cp, "node-1").await;
    let (theirs, ours) =
        (cp.vpc(&provider, "10.0.0.0/16").await, cp.vpc(&consumer, "10.0.0.0/16").await);
    let there = attach(&cp, host, theirs.id, namespace("provider")).await.unwrap().id;
    let here = attach(&cp, host, ours.id, namespace("consumer")).await.unwrap().id;
    let subnet = cp.subnet(&consumer, ours.id, "10.0.0.0/24", "use1-az1").await;
    let endpoint = cp.seed_endpoint(&ours, cp.seed_service(&theirs).await, false).await;
    cp.seed_interface(endpoint, &subnet, Some(host)).await;
    let delete = |id| cp.app.delete_attachment(&Caller::Operator, id);

    assert_eq!(code(delete(here).await), Code::DependencyViolation, "its address is there");
    assert_eq!(code(delete(there).await), Code::DependencyViolation, "its targets are there");
    let refused = cp.app.delete_host(&Caller::Operator, host).await;
    assert_eq!(code(refused), Code::DependencyViolation);
    let refused = cp.app.delete_vpc(&provider, theirs.id).await;
    assert_eq!(code(refused), Code::DependencyViolation);

    cp.seed_deleted(endpoint).await;
    let before = cp.app.get_host(&Caller::Operator, host).await.unwrap().desired_generation;
    delete(here).await.unwrap();
    let after = cp.app.get_host(&Caller::Operator, host).await.unwrap().desired_generation;
    assert_eq!(after, before + 1, "the host is told");
    assert_eq!(code(delete(here).await), Code::InvalidAttachmentNotFound);
    let unknown = AttachmentId::generate(&mut rand::rng());
    assert_eq!(code(delete(unknown).await), Code::InvalidAttachmentNotFound);

    // A host takes its attachments with it.
    cp.app.delete_host(&Caller::Operator, host).await.unwrap();
    let (left, _) = cp.app.list_attachments(&Caller::Operator, None, None, &all()).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    let again = cp.app.delete_host(&Caller::Operator, host).await;
    assert_eq!(code(again), Code::InvalidHostNotFound);
}

#[tokio::test]
async fn hosts_and_attachments_come_in_pages_and_by_host_and_vpc() {
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let client = HostServiceClient::new(served.operator());
    let caller = cp.account("consumer").await;
    let (vpc, other) =
        (cp.vpc(&caller, "10.0.0.0/16").await.id, cp.vpc(&caller, "10.1.0.0/16").await.id);
    let mut ids = Vec::new();
    for number in 0..5 {
        let host = host(&cp, &format!("node-{number}")).await;
        attach(&cp, host, vpc, namespace("blue")).await.unwrap();
        ids.push(host);
    }
    attach(&cp, ids[0], other, namespace("green")).await.unwrap();
    let hosts = pages(
        2,
        |host: &v1::Host| host.host_id.clone(),
        |page_size, page_token| {
            let mut client = client.clone();
            async move {
                let request = v1::ListHostsRequest { page_size, page_token };
                let page = client.list_hosts(request).await.unwrap().into_inner();
                (page.hosts, page.next_page_token)
            }
        },
    );
    assert_eq!(hosts.await.len(), 5);
    let key = |attachment: &v1::HostAttachment| attachment.attachment_id.clone();
    let attachments = async |host_id: String, vpc_id: String| {
        let all = pages(2, key, |page_size, page_token| {
            let (mut client, host_id, vpc_id) = (client.clone(), host_id.clone(), vpc_id.clone());
            async move {
                let request =
                    v1::ListHostAttachmentsRequest { host_id, vpc_id, page_size, page_token };
                let page = client.list_host_attachments(request).await.unwrap().into_inner();
                (page.attachments, page.next_page_token)
            }
        });
        all.await.len()
    };
    assert_eq!(attachments(String::new(), String::new()).await, 6);
    assert_eq!(attachments(String::new(), vpc.to_string()).await, 5);
    assert_eq!(attachments(ids[0].to_string(), String::new()).await, 2);
    assert_eq!(attachments(ids[1].to_string(), other.to_string()).await, 0);
}

#[tokio::test]
async fn the_hosts_of_interfaces_that_carry_a_group_hear_of_its_rules_and_others_do_not() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let group = cp.app.list_security_groups(&caller, Some(vpc.id), &all()).await.unwrap().0[0].id;
    let (with, without) = (host(&cp, "node-1").await, host(&cp, "node-2").await);
    let service = cp.seed_service(&vpc).await;
    let zones = ["use1-az1", "use1-az2"];
    let mut interfaces = Vec::new();
    for (number, host) in [with, without].into_iter().enumerate() {
        let subnet =
            cp.subnet(&caller, vpc.id, &format!("10.0.{number}.0/24"), zones[number]).await;
        let endpoint = cp.seed_endpoint(&vpc, service, false).await;
        interfaces.push(cp.seed_interface(endpoint, &subnet, Some(host)).await);
        if number == 0 {
            cp.seed_group(endpoint, group).await;
        }
    }
    let mut pokes = cp.app.pokes.listen_local();
    let rule = IngressRule::parse("rule", "10.0.0.0/8", "tcp", Some(443), Some(443)).unwrap();
    let command = AuthorizeIngress { group, permissions: vec![(rule, String::new())] };
    let added = cp.app.authorize_ingress(&caller, command).await.unwrap();
    let change = |generation| (generation, "interface".to_owned(), interfaces[0].to_string());
    assert_eq!(cp.changes(with).await, [change(2)]);
    assert_eq!(poked(&mut pokes), [with]);
    let command = RevokeIngress { group, rules: vec![added[0].id] };
    cp.app.revoke_ingress(&caller, command).await.unwrap();
    assert_eq!(cp.changes(with).await, [change(2), change(3)]);
    assert_eq!(poked(&mut pokes), [with]);
    assert!(cp.changes(without).await.is_empty());
}

#[tokio::test]
async fn rules_of_groups_that_share_interfaces_change_at_the_same_time_without_a_deadlock() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let host = host(&cp, "node-1").await;
    let service = cp.seed_service(&vpc).await;
    let mut groups = Vec::new();
    for name in ["one", "two", "three", "four"] {
        use postern_control_plane::app::security_groups::{CreateSecurityGroup, GroupName};
        let name = GroupName::parse("group_name", name.to_owned()).unwrap();
        let command = CreateSecurityGroup { vpc: vpc.id, name, description: String::new() };
        groups.push(cp.app.create_security_group(&caller, command).await.unwrap().id);
    }
    for number in 0..6 {
        let cidr = format!("10.0.{number}.0/24");
        let subnet = cp.subnet(&caller, vpc.id, &cidr, "use1-az1").await;
        let endpoint = cp.seed_endpoint(&vpc, service, false).await;
        cp.seed_interface(endpoint, &subnet, Some(host)).await;
        for group in &groups {
            cp.seed_group(endpoint, *group).await;
        }
    }
    let tasks = (0..24).map(|number| {
        let (app, caller, group) = (cp.app.clone(), caller.clone(), groups[number % 4]);
        tokio::spawn(async move {
            let port = Some(number as i64);
            let rule = IngressRule::parse("rule", "10.0.0.0/8", "tcp", port, port).unwrap();
            let command = AuthorizeIngress { group, permissions: vec![(rule, String::new())] };
            app.authorize_ingress(&caller, command).await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let generation = cp.app.get_host(&Caller::Operator, host).await.unwrap().desired_generation;
    assert_eq!(generation, 25);
}

#[tokio::test]
async fn the_hosts_of_a_vpc_hear_of_its_dns_attributes() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let (with, without) = (host(&cp, "node-1").await, host(&cp, "node-2").await);
    let attachment = attach(&cp, with, vpc.id, namespace("blue")).await.unwrap().id;
    let service = cp.seed_service(&vpc).await;
    let private = cp.seed_endpoint(&vpc, service, true).await;
    cp.seed_endpoint(&vpc, service, false).await;
    let modify = async |dns_support, dns_hostnames| {
        let command = ModifyVpcAttribute { vpc: vpc.id, dns_support, dns_hostnames };
        cp.app.modify_vpc_attribute(&caller, command).await.unwrap();
        let changes = cp.changes(with).await;
        let newest = changes.iter().map(|change| change.0).max().unwrap();
        let told = changes.into_iter().filter(|change| change.0 == newest);
        (newest, told.map(|(_, kind, object)| (kind, object)).collect::<Vec<_>>())
    };
    let names = ("names".to_owned(), private.to_string());
    let attached = ("attachment".to_owned(), attachment.to_string());
    assert_eq!(modify(None, Some(true)).await, (3, vec![names.clone()]));
    assert_eq!(modify(None, Some(true)).await, (3, vec![names.clone()]), "nothing changed");
    assert_eq!(modify(Some(false), None).await, (4, vec![attached.clone(), names.clone()]));
    assert_eq!(modify(None, Some(false)).await, (4, vec![attached.clone(), names]), "off already");
    assert_eq!(modify(Some(true), None).await, (5, vec![attached]));
    assert!(cp.changes(without).await.is_empty());
}

#[tokio::test]
async fn names_that_change_while_an_attachment_is_being_made_reach_its_host_too() {
    use postern_control_plane::store::fleet::{self, Touched};
    use postern_control_plane::store::{hosts, vpcs};
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let host = host(&cp, "node-1").await;
    let endpoint = cp.seed_endpoint(&vpc, cp.seed_service(&vpc).await, false).await;

    let mut attaching = cp.app.store.begin().await.unwrap();
    vpcs::lock_any(&mut attaching, vpc.id).await.unwrap();
    let id = AttachmentId::generate(&mut rand::rng());
    let at = (vpc.id, vpc.cidr);
    hosts::insert_attachment(&mut attaching, id, host, at, &namespace("blue")).await.unwrap();

    let store = cp.app.store.clone();
    let changing = tokio::spawn(async move {
        let mut tx = store.begin().await.unwrap();
        let mut touched = Touched::default();
        touched.names(vpc.id, endpoint);
        let hosts = fleet::advance(&mut tx, &touched, &Default::default()).await.unwrap();
        tx.commit().await.unwrap();
        hosts
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let blocked = async {
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&cp.pool).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), blocked).await.unwrap();
    attaching.commit().await.unwrap();
    assert_eq!(changing.await.unwrap(), [host]);
}
