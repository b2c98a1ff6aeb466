//! VPCs, subnets and security groups, over the use cases and over gRPC.
#![allow(clippy::unwrap_used, clippy::panic)]

use postern_control_plane::app::security_groups::{
    AuthorizeIngress, CreateSecurityGroup, GroupName, RevokeIngress,
};
use postern_control_plane::app::subnets::CreateSubnet;
use postern_control_plane::app::vpcs::{CreateVpc, ModifyVpcAttribute};
use postern_control_plane::caller::Caller;
use postern_control_plane::store::security_groups::{GroupRow, NewRule};
use postern_it::cp::{Cp, code, pages, refusal, settings};
use postern_model::id::{SecurityGroupId, SecurityGroupRuleId, SubnetId, VpcId};
use postern_model::security::IngressRule;
use postern_model::{Code, Refusal};
use postern_proto::page::Page;
use postern_proto::status::reason;
use postern_proto::v1;
use postern_proto::v1::vpc_service_client::VpcServiceClient;

fn all() -> Page {
    Page { size: 1000, after: None }
}

fn new_vpc(cidr: &str) -> CreateVpc {
    CreateVpc { cidr: cidr.parse().unwrap(), name: String::new(), dns_hostnames: false }
}

fn new_subnet(vpc: VpcId, cidr: &str, zone: &str) -> CreateSubnet {
    CreateSubnet { vpc, cidr: cidr.parse().unwrap(), zone: zone.parse().unwrap() }
}

fn new_group(vpc: VpcId, name: &str) -> CreateSecurityGroup {
    let name = GroupName::parse("group_name", name.to_owned()).unwrap();
    CreateSecurityGroup { vpc, name, description: String::new() }
}

fn tcp(source: &str, port: u16) -> (IngressRule, String) {
    let port = Some(i64::from(port));
    (IngressRule::parse("rule", source, "tcp", port, port).unwrap(), "a rule".to_owned())
}

async fn authorize(
    cp: &Cp,
    caller: &Caller,
    group: SecurityGroupId,
    permissions: Vec<(IngressRule, String)>,
) -> Result<Vec<NewRule>, postern_control_plane::Error> {
    cp.app.authorize_ingress(caller, AuthorizeIngress { group, permissions }).await
}

async fn groups(cp: &Cp, caller: &Caller, vpc: VpcId) -> Vec<GroupRow> {
    cp.app.list_security_groups(caller, Some(vpc), &all()).await.unwrap().0
}

#[tokio::test]
async fn a_vpc_comes_with_a_default_group_whose_members_may_talk_to_each_other() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.1.2.3/16").await;
    assert_eq!(vpc.cidr.to_string(), "10.1.0.0/16", "host bits are cleared");
    assert!(vpc.dns_support && !vpc.dns_hostnames, "as on AWS");
    let groups = groups(&cp, &caller, vpc.id).await;
    let [group] = &groups[..] else { panic!("{groups:?}") };
    assert_eq!(group.name, "default");
    let [rule] = &group.rules[..] else { panic!("{group:?}") };
    assert_eq!(rule.referenced_group_id, Some(group.id));
    assert_eq!((rule.protocol.to_string().as_str(), rule.source), ("-1", None));
}

#[tokio::test]
async fn a_range_that_no_vpc_can_have_is_refused() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    for cidr in ["10.0.0.0/15", "10.0.0.0/29", "224.0.0.0/16", "0.0.0.0/16"] {
        let refused = refusal(cp.app.create_vpc(&caller, new_vpc(cidr)).await);
        assert_eq!(refused.code, Code::InvalidVpcRange, "{cidr}");
        assert_eq!(refused.field.unwrap().field, "cidr_block");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_exceed_the_quota_of_vpcs() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let tasks = (0..12).map(|_| {
        let (app, caller) = (cp.app.clone(), caller.clone());
        tokio::spawn(async move { app.create_vpc(&caller, new_vpc("10.0.0.0/16")).await })
    });
    let mut made = 0;
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(_) => made += 1,
            refused => assert_eq!(code(refused), Code::VpcLimitExceeded),
        }
    }
    assert_eq!(made, 5);
    // Another account is not affected.
    cp.vpc(&cp.account("other").await, "10.0.0.0/16").await;
}

#[tokio::test]
async fn dns_attributes_are_switched_and_host_names_need_support() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let modify = |dns_support, dns_hostnames| {
        cp.app.modify_vpc_attribute(&caller, ModifyVpcAttribute { vpc, dns_support, dns_hostnames })
    };
    let on = modify(None, Some(true)).await.unwrap();
    assert!(on.dns_support && on.dns_hostnames && on.resolves_private_names());
    let off = modify(Some(false), None).await.unwrap();
    assert!(!off.dns_support && off.dns_hostnames && !off.resolves_private_names());
    assert_eq!(code(modify(None, Some(true)).await), Code::InvalidParameterCombination);
    assert_eq!(code(modify(Some(false), Some(true)).await), Code::InvalidParameterCombination);
    assert!(modify(Some(true), Some(true)).await.unwrap().resolves_private_names());
    assert_eq!(
        cp.app.get_vpc(&caller, vpc).await.unwrap(),
        modify(Some(true), None).await.unwrap()
    );
}

#[tokio::test]
async fn a_vpc_goes_only_when_nothing_is_left_in_it() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let delete = async || cp.app.delete_vpc(&caller, vpc.id).await;
    let left = async |what: &str| {
        let refused = refusal(delete().await);
        assert_eq!(refused.code, Code::DependencyViolation);
        assert!(refused.message.contains(what), "{}", refused.message);
    };
    let subnet = cp.subnet(&caller, vpc.id, "10.0.0.0/24", "use1-az1").await;
    left("a subnet").await;
    let group = cp.app.create_security_group(&caller, new_group(vpc.id, "web")).await.unwrap().id;
    left("a security group").await;
    let service = cp.seed_service(&vpc).await;
    left("an endpoint service").await;
    let endpoint = cp.seed_endpoint(&vpc, service, false).await;
    cp.seed_group(endpoint, group).await;
    cp.seed_interface(endpoint, &subnet, None).await;
    left("an endpoint").await;

    // What uses something keeps it.
    let refused = cp.app.delete_subnet(&caller, subnet.id).await;
    assert_eq!(code(refused), Code::DependencyViolation);
    let refused = cp.app.delete_security_group(&caller, group).await;
    assert_eq!(code(refused), Code::DependencyViolation);

    // Endpoints and services that are gone are still shown for a while; that keeps nothing.
    cp.seed_deleted(endpoint).await;
    sqlx::query("UPDATE endpoint_service SET state = 'Deleted', deleted_at = now()")
        .execute(&cp.pool)
        .await
        .unwrap();
    cp.app.delete_subnet(&caller, subnet.id).await.unwrap();
    cp.app.delete_security_group(&caller, group).await.unwrap();
    delete().await.unwrap();
    assert_eq!(code(cp.app.get_vpc(&caller, vpc.id).await), Code::InvalidVpcNotFound);
    assert_eq!(code(delete().await), Code::InvalidVpcNotFound);
    assert!(groups(&cp, &caller, vpc.id).await.is_empty(), "the default group goes too");
}

#[tokio::test]
async fn a_vpc_stays_while_a_service_that_is_gone_has_endpoints_that_are_not() {
    let cp = Cp::start().await;
    let (provider, consumer) = (cp.account("provider").await, cp.account("consumer").await);
    let theirs = cp.vpc(&provider, "10.0.0.0/16").await;
    let service = cp.seed_service(&theirs).await;
    let ours = cp.vpc(&consumer, "10.0.0.0/16").await;
    let endpoint = cp.seed_endpoint(&ours, service, false).await;
    sqlx::query("UPDATE endpoint_service SET state = 'Deleted', deleted_at = now()")
        .execute(&cp.pool)
        .await
        .unwrap();
    let refused = cp.app.delete_vpc(&provider, theirs.id).await;
    assert_eq!(code(refused), Code::DependencyViolation);
    cp.seed_deleted(endpoint).await;
    cp.app.delete_vpc(&provider, theirs.id).await.unwrap();
}

#[tokio::test]
async fn a_subnet_lies_in_its_vpc_and_in_a_zone_by_name_or_id() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/20").await.id;
    let create =
        |cidr: &str, zone: &str| cp.app.create_subnet(&caller, new_subnet(vpc, cidr, zone));

    let (zones, _) = cp.app.list_zones(&caller, &all()).await.unwrap();
    let by_name = create("10.0.0.0/28", "us-east-1b").await.unwrap();
    assert_eq!((&by_name.zone_name, &by_name.zone), (&zones[1].name, &zones[1].id));
    let by_id = create("10.0.1.0/24", zones[2].id.as_str()).await.unwrap();
    assert_eq!((&by_id.zone_name, &by_id.zone), (&zones[2].name, &zones[2].id));
    assert_eq!((by_name.available(), by_id.available()), (11, 251));

    for cidr in ["10.0.2.0/29", "10.0.0.0/15", "10.0.16.0/24", "10.0.0.0/19", "11.0.0.0/24"] {
        assert_eq!(code(create(cidr, "use1-az1").await), Code::InvalidSubnetRange, "{cidr}");
    }
    for zone in ["us-east-1z", "use1-az9", "eu-west-1a"] {
        assert_eq!(code(create("10.0.2.0/24", zone).await), Code::InvalidZoneNotFound, "{zone}");
    }
    for cidr in ["10.0.1.0/24", "10.0.1.128/25", "10.0.0.0/23", "10.0.0.0/20"] {
        assert_eq!(code(create(cidr, "use1-az1").await), Code::InvalidSubnetConflict, "{cidr}");
    }
    create("10.0.2.0/24", "use1-az1").await.unwrap();
}

#[tokio::test]
async fn an_interface_takes_one_of_the_available_addresses() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await;
    let subnet = cp.subnet(&caller, vpc.id, "10.0.0.0/28", "use1-az1").await;
    let endpoint = cp.seed_endpoint(&vpc, cp.seed_service(&vpc).await, false).await;
    cp.seed_interface(endpoint, &subnet, None).await;
    assert_eq!(cp.app.get_subnet(&caller, subnet.id).await.unwrap().available(), 10);
    let (listed, _) = cp.app.list_subnets(&caller, Some(vpc.id), &all()).await.unwrap();
    assert_eq!(listed[0].available(), 10);
}

#[tokio::test]
async fn of_overlapping_subnets_asked_for_at_the_same_time_one_is_made() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let cidrs = ["10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/20"];
    let tasks = (0..16).map(|number| {
        let (app, caller) = (cp.app.clone(), caller.clone());
        // The four overlap pairwise, but for the two halves.
        let cidr = cidrs[number % 4];
        tokio::spawn(
            async move { app.create_subnet(&caller, new_subnet(vpc, cidr, "use1-az1")).await },
        )
    });
    for task in tasks.collect::<Vec<_>>() {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(code::<()>(Err(error)), Code::InvalidSubnetConflict);
        }
    }
    let (made, _) = cp.app.list_subnets(&caller, None, &all()).await.unwrap();
    assert!(!made.is_empty());
    for (at, one) in made.iter().enumerate() {
        assert!(made[at + 1..].iter().all(|other| !one.cidr.overlaps(other.cidr)), "{made:?}");
    }
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_exceed_the_quotas_of_a_vpc() {
    let mut settings = settings();
    settings.quotas.subnets_per_vpc = 4;
    settings.quotas.groups_per_vpc = 3;
    let cp = Cp::with(settings).await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let tasks = (0..10).map(|number| {
        let (app, caller) = (cp.app.clone(), caller.clone());
        tokio::spawn(async move {
            let subnet = new_subnet(vpc, &format!("10.0.{number}.0/24"), "use1-az1");
            let subnet = app.create_subnet(&caller, subnet).await;
            let group = new_group(vpc, &format!("group {number}"));
            (subnet, app.create_security_group(&caller, group).await)
        })
    });
    let (mut subnets, mut groups) = (0, 0);
    for task in tasks.collect::<Vec<_>>() {
        let (subnet, group) = task.await.unwrap();
        match subnet {
            Ok(_) => subnets += 1,
            refused => assert_eq!(code(refused), Code::SubnetLimitExceeded),
        }
        match group {
            Ok(_) => groups += 1,
            refused => assert_eq!(code(refused), Code::SecurityGroupLimitExceeded),
        }
    }
    assert_eq!((subnets, groups), (4, 2), "the default group counts");
}

#[tokio::test]
async fn a_groups_name_is_unique_in_its_vpc_ignoring_case() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let web = cp.app.create_security_group(&caller, new_group(vpc, "Web")).await.unwrap();
    assert!(web.rules.is_empty(), "a new group lets nobody in");
    let again = cp.app.create_security_group(&caller, new_group(vpc, "wEB")).await;
    assert_eq!(code(again), Code::InvalidGroupDuplicate);
    let other = cp.vpc(&caller, "10.0.0.0/16").await.id;
    cp.app.create_security_group(&caller, new_group(other, "web")).await.unwrap();
    // The default group goes with its VPC alone.
    let default = groups(&cp, &caller, vpc).await.into_iter().find(|group| group.name == "default");
    let refused = cp.app.delete_security_group(&caller, default.unwrap().id).await;
    assert_eq!(code(refused), Code::CannotDelete);
}

#[tokio::test]
async fn rules_are_added_and_removed_all_or_none() {
    let mut settings = settings();
    settings.quotas.rules_per_group = 4;
    let cp = Cp::with(settings).await;
    let caller = cp.account("consumer").await;
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let group = cp.app.create_security_group(&caller, new_group(vpc, "web")).await.unwrap().id;
    let rules = async || cp.app.get_security_group(&caller, group).await.unwrap().rules;
    let add = async |permissions| authorize(&cp, &caller, group, permissions).await;

    let added = add(vec![tcp("10.0.0.0/8", 443), tcp("10.0.0.0/8", 80)]).await.unwrap();
    assert_eq!((added[0].rule.ports.first(), added[1].rule.ports.first()), (443, 80), "as asked");
    let twice = add(vec![tcp("10.0.0.0/8", 22), tcp("10.0.0.0/8", 443)]).await;
    assert_eq!(code(twice), Code::InvalidPermissionDuplicate);
    let itself = add(vec![tcp("10.0.0.0/8", 22), tcp("10.1.0.0/8", 22)]).await;
    assert_eq!(code(itself), Code::InvalidPermissionDuplicate, "host bits are cleared");
    let many = add((1..=3).map(|port| tcp("10.0.0.0/8", port)).collect()).await;
    assert_eq!(code(many), Code::RulesPerSecurityGroupLimitExceeded);
    assert_eq!(rules().await.len(), 2, "none of these was added");

    let remove = async |rules| cp.app.revoke_ingress(&caller, RevokeIngress { group, rules }).await;
    let unknown = SecurityGroupRuleId::generate(&mut rand::rng());
    let refused: Refusal = refusal(remove(vec![added[0].id, unknown]).await);
    assert_eq!(refused.code, Code::InvalidPermissionNotFound);
    assert_eq!(refused.field.unwrap().field, "security_group_rule_ids[1]");
    assert_eq!(rules().await.len(), 2, "none was removed");
    remove(vec![added[0].id, added[0].id]).await.unwrap();
    let left = rules().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, added[1].id);
    assert_eq!(left[0].description, "a rule");
    add(vec![tcp("10.0.0.0/8", 443)]).await.unwrap();
}

#[tokio::test]
async fn a_faulty_permission_is_named_by_its_place_and_field() {
    use tonic_types::StatusExt as _;
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let served = cp.serve().await;
    let mut client = VpcServiceClient::new(served.as_(&cp.key(&caller).await));
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    let group = cp.app.create_security_group(&caller, new_group(vpc, "web")).await.unwrap().id;
    let good = v1::IpPermission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(443),
        to_port: Some(443),
        cidr_ipv4: "10.0.0.0/8".to_owned(),
        description: String::new(),
    };
    let bad = [
        (v1::IpPermission { ip_protocol: "tpc".to_owned(), ..good.clone() }, "ip_protocol"),
        (v1::IpPermission { ip_protocol: String::new(), ..good.clone() }, "ip_protocol"),
        (v1::IpPermission { from_port: None, ..good.clone() }, "from_port"),
        (v1::IpPermission { from_port: Some(-1), ..good.clone() }, "from_port"),
        (v1::IpPermission { to_port: Some(65536), ..good.clone() }, "to_port"),
        (v1::IpPermission { to_port: Some(1), ..good.clone() }, "to_port"),
        (v1::IpPermission { cidr_ipv4: "10.0.0.0/33".to_owned(), ..good.clone() }, "cidr_ipv4"),
        (v1::IpPermission { cidr_ipv4: String::new(), ..good.clone() }, "cidr_ipv4"),
        (v1::IpPermission { description: "é".to_owned(), ..good.clone() }, "description"),
    ];
    for (bad, field) in bad {
        let request = v1::AuthorizeSecurityGroupIngressRequest {
            group_id: group.to_string(),
            ip_permissions: vec![good.clone(), bad],
        };
        let status = client.authorize_security_group_ingress(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, format!("ip_permissions[1].{field}"));
    }
    let request = v1::AuthorizeSecurityGroupIngressRequest {
        group_id: group.to_string(),
        ip_permissions: vec![v1::IpPermission { ip_protocol: "-1".to_owned(), ..good }],
    };
    let answer = client.authorize_security_group_ingress(request).await.unwrap().into_inner();
    let permission = answer.security_group_rules[0].permission.clone().unwrap();
    assert_eq!((permission.from_port, permission.to_port), (None, None), "ports mean nothing");
}

#[tokio::test]
async fn vpcs_subnets_and_groups_come_in_pages() {
    let cp = Cp::start().await;
    let caller = cp.account("consumer").await;
    let served = cp.serve().await;
    let client = VpcServiceClient::new(served.as_(&cp.key(&caller).await));
    let vpc = cp.vpc(&caller, "10.0.0.0/16").await.id;
    for number in 0..4 {
        cp.vpc(&caller, "10.0.0.0/16").await;
        cp.subnet(&caller, vpc, &format!("10.0.{number}.0/24"), "use1-az1").await;
        let group = new_group(vpc, &format!("group {number}"));
        cp.app.create_security_group(&caller, group).await.unwrap();
    }
    let vpcs = pages(
        2,
        |vpc: &v1::Vpc| vpc.vpc_id.clone(),
        |page_size, page_token| {
            let mut client = client.clone();
            async move {
                let request = v1::ListVpcsRequest { page_size, page_token };
                let page = client.list_vpcs(request).await.unwrap().into_inner();
                (page.vpcs, page.next_page_token)
            }
        },
    );
    assert_eq!(vpcs.await.len(), 5);
    let subnets = pages(
        3,
        |subnet: &v1::Subnet| subnet.subnet_id.clone(),
        |page_size, page_token| {
            let mut client = client.clone();
            async move {
                let vpc_id = vpc.to_string();
                let request = v1::ListSubnetsRequest { vpc_id, page_size, page_token };
                let page = client.list_subnets(request).await.unwrap().into_inner();
                (page.subnets, page.next_page_token)
            }
        },
    );
    assert_eq!(subnets.await.len(), 4);
    let groups = pages(
        2,
        |group: &v1::SecurityGroup| group.group_id.clone(),
        |page_size, page_token| {
            let mut client = client.clone();
            async move {
                let vpc_id = vpc.to_string();
                let request = v1::ListSecurityGroupsRequest { vpc_id, page_size, page_token };
                let page = client.list_security_groups(request).await.unwrap().into_inner();
                (page.security_groups, page.next_page_token)
            }
        },
    );
    assert_eq!(groups.await.len(), 5);
    // Without a filter, those of all VPCs; another account sees none of them.
    assert_eq!(cp.app.list_security_groups(&caller, None, &all()).await.unwrap().0.len(), 9);
    let other = cp.account("other").await;
    assert!(cp.app.list_vpcs(&other, &all()).await.unwrap().0.is_empty());
    assert!(cp.app.list_subnets(&other, Some(vpc), &all()).await.unwrap().0.is_empty());
    assert!(cp.app.list_security_groups(&other, Some(vpc), &all()).await.unwrap().0.is_empty());
}

/// All that a client sees of a refusal, with the id that it asked for taken out.
fn seen<T: std::fmt::Debug>(
    result: Result<tonic::Response<T>, tonic::Status>,
    id: &str,
) -> (tonic::Code, String, String) {
    let status = result.unwrap_err();
    assert!(reason(&status).unwrap().ends_with(".NotFound"), "{status:?}");
    // The details hold the message again; the ids are of one length.
    let details = String::from_utf8_lossy(status.details()).replace(id, "<id>");
    (status.code(), status.message().replace(id, "<id>"), details)
}

#[tokio::test]
async fn what_belongs_to_another_account_is_answered_as_if_it_did_not_exist() {
    let cp = Cp::start().await;
    let (owner, stranger) = (cp.account("owner").await, cp.account("stranger").await);
    let vpc = cp.vpc(&owner, "10.0.0.0/16").await;
    let subnet = cp.subnet(&owner, vpc.id, "10.0.0.0/24", "use1-az1").await.id;
    let group = cp.app.create_security_group(&owner, new_group(vpc.id, "web")).await.unwrap().id;
    let rule = authorize(&cp, &owner, group, vec![tcp("10.0.0.0/8", 443)]).await.unwrap()[0].id;
    let served = cp.serve().await;
    let client = VpcServiceClient::new(served.as_(&cp.key(&stranger).await));
    let random = &mut rand::rng();

    macro_rules! same {
        ($method:ident, $foreign:expr, $unknown:expr, |$id:ident| $request:expr) => {{
            let (foreign, unknown) = ($foreign.to_string(), $unknown.to_string());
            let mut answers = Vec::new();
            for id in [foreign, unknown] {
                let $id = id.clone();
                answers.push(seen(client.clone().$method($request).await, &id));
            }
            assert_eq!(answers[0], answers[1], stringify!($method));
        }};
    }
    let unknown = VpcId::generate(random);
    same!(get_vpc, vpc.id, unknown, |vpc_id| v1::GetVpcRequest { vpc_id });
    same!(delete_vpc, vpc.id, unknown, |vpc_id| v1::DeleteVpcRequest { vpc_id });
    same!(modify_vpc_attribute, vpc.id, unknown, |vpc_id| v1::ModifyVpcAttributeRequest {
        vpc_id,
        enable_dns_support: Some(false),
        enable_dns_hostnames: None,
    });
    // A range outside the VPC and a zone that isn't there don't tell the two apart either.
    same!(create_subnet, vpc.id, unknown, |vpc_id| v1::CreateSubnetRequest {
        vpc_id,
        cidr_block: "10.0.0.0/24".to_owned(),
        availability_zone: "use1-az1".to_owned(),
    });
    same!(create_subnet, vpc.id, unknown, |vpc_id| v1::CreateSubnetRequest {
        vpc_id,
        cidr_block: "10.9.0.0/24".to_owned(),
        availability_zone: "use1-az9".to_owned(),
    });
    same!(create_security_group, vpc.id, unknown, |vpc_id| v1::CreateSecurityGroupRequest {
        vpc_id,
        group_name: "web".to_owned(),
        description: String::new(),
    });
    let unknown = SubnetId::generate(random);
    same!(get_subnet, subnet, unknown, |subnet_id| v1::GetSubnetRequest { subnet_id });
    same!(delete_subnet, subnet, unknown, |subnet_id| v1::DeleteSubnetRequest { subnet_id });
    let unknown = SecurityGroupId::generate(random);
    same!(get_security_group, group, unknown, |group_id| v1::GetSecurityGroupRequest { group_id });
    same!(delete_security_group, group, unknown, |group_id| v1::DeleteSecurityGroupRequest {
        group_id
    });
    same!(authorize_security_group_ingress, group, unknown, |group_id| {
        v1::AuthorizeSecurityGroupIngressRequest {
            group_id,
            ip_permissions: vec![v1::IpPermission {
                ip_protocol: "-1".to_owned(),
                cidr_ipv4: "0.0.0.0/0".to_owned(),
                ..Default::default()
            }],
        }
    });
    same!(revoke_security_group_ingress, group, unknown, |group_id| {
        v1::RevokeSecurityGroupIngressRequest {
            group_id,
            security_group_rule_ids: vec![rule.to_string()],
        }
    });
    // And nothing of it happened.
    assert_eq!(cp.app.get_vpc(&owner, vpc.id).await.unwrap(), vpc);
    assert_eq!(cp.app.get_security_group(&owner, group).await.unwrap().rules.len(), 1);
    cp.app.get_subnet(&owner, subnet).await.unwrap();
}

#[tokio::test]
async fn malformed_and_missing_fields_are_refused_by_name() {
    use tonic_types::StatusExt as _;
    let cp = Cp::start().await;
    let served = cp.serve().await;
    let key = cp.key(&cp.account("consumer").await).await;
    let mut client = VpcServiceClient::new(served.as_(&key));
    let field = |status: tonic::Status| {
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        (violations[0].field.clone(), reason(&status).unwrap())
    };
    let missing = |name: &str| (name.to_owned(), "MissingParameter".to_owned());
    let malformed = |name: &str| (name.to_owned(), "InvalidParameterValue".to_owned());

    let status = client.create_vpc(v1::CreateVpcRequest::default()).await.unwrap_err();
    assert_eq!(field(status), missing("cidr_block"));
    let request = v1::CreateVpcRequest { cidr_block: "ten".to_owned(), ..Default::default() };
    assert_eq!(field(client.create_vpc(request).await.unwrap_err()), malformed("cidr_block"));
    let request = v1::CreateVpcRequest {
        cidr_block: "10.0.0.0/16".to_owned(),
        name: "n".repeat(256),
        ..Default::default()
    };
    assert_eq!(field(client.create_vpc(request).await.unwrap_err()), malformed("name"));
    let status = client.get_vpc(v1::GetVpcRequest::default()).await.unwrap_err();
    assert_eq!(field(status), missing("vpc_id"));
    let request = v1::GetVpcRequest { vpc_id: "subnet-00000000000000000".to_owned() };
    assert_eq!(field(client.get_vpc(request).await.unwrap_err()), malformed("vpc_id"));
    let request = v1::ListVpcsRequest { page_size: -1, page_token: String::new() };
    assert_eq!(field(client.list_vpcs(request).await.unwrap_err()), malformed("page_size"));
    let request = v1::CreateSecurityGroupRequest {
        vpc_id: "vpc-00000000000000000".to_owned(),
        group_name: "default".to_owned(),
        description: String::new(),
    };
    let status = client.create_security_group(request).await.unwrap_err();
    assert_eq!(field(status), ("group_name".to_owned(), "InvalidGroup.Reserved".to_owned()));
    let request = v1::ModifyVpcAttributeRequest {
        vpc_id: "vpc-00000000000000000".to_owned(),
        ..Default::default()
    };
    let status = client.modify_vpc_attribute(request).await.unwrap_err();
    assert_eq!(reason(&status).as_deref(), Some("MissingParameter"));
}
