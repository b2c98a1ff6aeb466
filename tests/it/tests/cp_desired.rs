//! The desired state of hosts: changes lead to what the snapshot after them says, whatever happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;

use std::collections::BTreeMap;

use agent::world::{World, reconciler_takes_over};
use agent::{Port, naming};
use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::endpoints::ModifyEndpoint;
use postern_control_plane::app::security_groups::{AuthorizeIngress, RevokeIngress};
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_control_plane::caller::Caller;
use postern_control_plane::store::fleet::{Touched, advance};
use postern_control_plane::store::reports::Status as Bound;
use postern_control_plane::store::state::{Since, read_all, read_changes};
use postern_control_plane::store::{interfaces, reports};
use postern_model::desired::HostState;
use postern_model::id::{EndpointId, HostId};
use postern_model::security::IngressRule;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

#[tokio::test]
async fn a_host_that_was_away_for_too_long_is_told_everything() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, _) = port.join("host-1", "use1-az1").await;
    let before = world.truth(host).await;
    world.attach(host).await;
    sqlx::query("DELETE FROM host_change WHERE generation = 2")
        .execute(&world.cp.pool)
        .await
        .unwrap();
    let since = read_changes(&world.cp.app.store, &naming(), host, before.generation).await;
    assert_eq!(since.unwrap(), Some(Since::TooOld));
    let nobody = HostId::generate(&mut rand::rng());
    assert!(read_all(&world.cp.app.store, &naming(), nobody).await.unwrap().is_none());
}

/// What an agent's answer does, at the level of the store.
async fn answer(world: &World, host: HostId, state: &HostState, bound: bool) {
    let app = &world.cp.app;
    let statuses: Vec<_> = state
        .interfaces()
        .map(|interface| Bound {
            interface: interface.id,
            epoch: interface.epoch,
            bound,
            error: String::new(),
        })
        .collect();
    let mut tx = app.store.begin().await.unwrap();
    let news = reports::statuses(&mut tx, host, state.generation, &statuses).await.unwrap();
    let mut endpoints = interfaces::release(&mut tx, host, state.generation).await.unwrap();
    let mut touched = Touched::default();
    for news in news {
        if news.names {
            touched.names(news.vpc, news.endpoint);
        }
        endpoints.push(news.endpoint);
    }
    advance(&mut tx, &touched, &BTreeMap::new()).await.unwrap();
    tx.commit().await.unwrap();
    for endpoint in endpoints {
        app.settle(endpoint).await.unwrap();
    }
}

#[tokio::test]
async fn changes_lead_to_what_the_snapshot_after_them_says_whatever_happens() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::new(true).await;
        let app = &world.cp.app;
        let port = Port::open(&world.cp).await;
        let mut held = BTreeMap::new();
        for number in 1..=2 {
            let (host, _) = port.join(&format!("host-{number}"), &format!("use1-az{number}")).await;
            held.insert(host, world.truth(host).await);
        }
        let hosts: Vec<_> = held.keys().copied().collect();
        let mut endpoints: Vec<EndpointId> = Vec::new();
        let mut log = Vec::new();
        for step in 0..70 {
            for host in &hosts {
                world.silence(*host, 0.0).await;
            }
            let endpoint = endpoints.choose(&mut random).copied();
            let action = random.random_range(0..13);
            log.push(action);
            // Many of these are refused, by the state of things: that is part of the game.
            match (action, endpoint) {
                (0 | 1, _) if endpoints.len() < 6 => {
                    let first = random.random_range(0..3);
                    endpoints.push(world.endpoint(&[first]).await);
                }
                (2 | 3, Some(endpoint)) => {
                    let decision =
                        if random.random_bool(0.8) { Decision::Accept } else { Decision::Reject };
                    let _ = app.decide(&world.provider, world.service, &[endpoint], decision).await;
                }
                (4, Some(endpoint)) if random.random_bool(0.3) => {
                    let _ = app.delete_endpoints(&world.consumer, &[endpoint]).await;
                    endpoints.retain(|other| *other != endpoint);
                }
                (5, Some(endpoint)) => {
                    let subnet = world.subnets[random.random_range(0..3)].id;
                    let add = random.random_bool(0.6);
                    let command = ModifyEndpoint {
                        id: endpoint,
                        add_subnets: if add { vec![subnet] } else { vec![] },
                        remove_subnets: if add { vec![] } else { vec![subnet] },
                        add_groups: vec![],
                        remove_groups: vec![],
                        private_dns: None,
                    };
                    let _ = app.modify_endpoint(&world.consumer, command).await;
                }
                (6, _) => {
                    let source = format!("10.{}.0.0/16", random.random_range(0..4));
                    let rule =
                        IngressRule::parse("rule", &source, "tcp", Some(80), Some(80)).unwrap();
                    let permissions = vec![(rule, String::new())];
                    let command = AuthorizeIngress { group: world.group, permissions };
                    let _ = app.authorize_ingress(&world.consumer, command).await;
                }
                (7, _) => {
                    let select = "SELECT id FROM security_group_rule WHERE group_id = $1 LIMIT 1";
                    let rule: Option<String> = sqlx::query_scalar(select)
                        .bind(world.group.to_string())
                        .fetch_optional(&world.cp.pool)
                        .await
                        .unwrap();
                    if let Some(rule) = rule {
                        let rules = vec![rule.parse().unwrap()];
                        let command = RevokeIngress { group: world.group, rules };
                        app.revoke_ingress(&world.consumer, command).await.unwrap();
                    }
                }
                (8, _) => {
                    let on = Some(random.random_bool(0.7));
                    let (dns_support, dns_hostnames) =
                        if random.random_bool(0.5) { (on, None) } else { (None, on) };
                    let command =
                        ModifyVpcAttribute { vpc: world.vpc.id, dns_support, dns_hostnames };
                    let _ = app.modify_vpc_attribute(&world.consumer, command).await;
                }
                (9, _) => {
                    let host = *hosts.choose(&mut random).unwrap();
                    let select = "SELECT id FROM host_attachment WHERE host_id = $1 LIMIT 1";
                    let attachment: Option<String> = sqlx::query_scalar(select)
                        .bind(host.to_string())
                        .fetch_optional(&world.cp.pool)
                        .await
                        .unwrap();
                    match attachment {
                        Some(attachment) => {
                            let attachment = attachment.parse().unwrap();
                            let _ = app.delete_attachment(&Caller::Operator, attachment).await;
                        }
                        None => world.attach(host).await,
                    }
                }
                (10, _) => {
                    world.reconciler().pass().await;
                    reconciler_takes_over(&world).await;
                }
                _ => {
                    let host = *hosts.choose(&mut random).unwrap();
                    let bound = random.random_bool(0.9);
                    let state = held[&host].clone();
                    answer(&world, host, &state, bound).await;
                }
            }
            for host in &hosts {
                // Not every time, so that a change spans several generations.
                if random.random_bool(0.7) {
                    let next = world.catch_up(*host, &held[host]).await;
                    let truth = world.truth(*host).await;
                    assert_eq!(next, truth, "seed {seed}, step {step}, {log:?}");
                    assert_eq!(next.digest(), truth.digest());
                    held.insert(*host, next);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_rule_and_an_endpoint_that_are_made_at_the_same_time_find_each_other() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let (host, _) = port.join("host-1", "use1-az1").await;
    world.attach(host).await;
    let mut held = world.truth(host).await;
    for round in 0..12_u8 {
        world.silence(host, 0.0).await;
        let source = format!("10.200.{round}.0/24");
        let rule = IngressRule::parse("rule", &source, "tcp", Some(80), Some(80)).unwrap();
        let command =
            AuthorizeIngress { group: world.group, permissions: vec![(rule, String::new())] };
        // A reader that follows all the time, as a session does.
        let follow = async {
            let mut held = held.clone();
            for _ in 0..20 {
                held = world.catch_up(host, &held).await;
            }
            held
        };
        let (authorized, endpoint, followed) = tokio::join!(
            world.cp.app.authorize_ingress(&world.consumer, command),
            world.endpoint(&[0]),
            follow
        );
        authorized.unwrap();
        held = world.catch_up(host, &followed).await;
        let truth = world.truth(host).await;
        assert_eq!(held, truth, "round {round}");
        let interface =
            truth.interfaces().find(|interface| interface.endpoint == endpoint).unwrap();
        assert!(interface.ingress.contains(&rule), "round {round}");
    }
}
