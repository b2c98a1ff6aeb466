//! Locks are taken in one order: whatever runs at the same time, nobody waits for somebody who waits
//! for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;

use std::collections::BTreeMap;
use std::time::Duration;

use agent::world::World;
use agent::{Port, until};
use postern_control_plane::app::endpoints::ModifyEndpoint;
use postern_control_plane::app::security_groups::{AuthorizeIngress, RevokeIngress};
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_control_plane::error::Result;
use postern_control_plane::store::fleet::{Touched, advance};
use postern_control_plane::store::reports::{Status, Usage};
use postern_control_plane::store::{interfaces, reports};
use postern_model::desired::HostState;
use postern_model::id::{EndpointId, HostId};
use postern_model::security::IngressRule;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{ConnectOptions as _, Connection as _};

/// How often each of those who run at the same time does what it does.
const ROUNDS: u8 = 40;

/// Postgres ended one of two transactions that waited for each other.
const DEADLOCK: &str = "40P01";

/// Refusals and absences are part of the game; a deadlock is not.
fn fair<T>(what: &str, result: Result<T>) -> Option<T> {
    let error = match result {
        Ok(done) => return Some(done),
        Err(error) => error,
    };
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
    if let Some(sqlx::Error::Database(error)) = source {
        assert_ne!(error.code().as_deref(), Some(DEADLOCK), "{what}: {error}");
    }
    None
}

/// What a session writes down of an agent's answer, about all that the host has, in some order.
async fn answer(world: &World, host: HostId, random: &mut StdRng) -> Result<()> {
    let app = &world.cp.app;
    let state: HostState = world.truth(host).await;
    let bound = random.random_bool(0.7);
    let mut statuses: Vec<_> = state
        .interfaces()
        .map(|interface| Status {
            interface: interface.id,
            epoch: interface.epoch,
            bound,
            error: String::new(),
        })
        .collect();
    statuses.shuffle(random);
    statuses.truncate(random.random_range(0..=statuses.len()));
    let usage = statuses.iter().map(|status| Usage {
        interface: status.interface,
        bytes_in: 1,
        bytes_out: 1,
        active: 1,
        total: 1,
        failed: 0,
    });
    let usage: Vec<_> = usage.collect();
    let mut db = app.store.acquire().await?;
    reports::usage(&mut db, host, "boot", &usage).await?;
    drop(db);
    let mut tx = app.store.begin().await?;
    let news = reports::statuses(&mut tx, host, state.generation, &statuses).await?;
    let mut endpoints = interfaces::release(&mut tx, host, state.generation).await?;
    let mut touched = Touched::default();
    for news in news {
        if news.names {
            touched.names(news.vpc, news.endpoint);
        }
        endpoints.push(news.endpoint);
    }
    advance(&mut tx, &touched, &BTreeMap::new()).await?;
    tx.commit().await?;
    for endpoint in endpoints {
        app.settle(endpoint).await?;
    }
    Ok(())
}

async fn modify(world: &World, endpoint: EndpointId, subnet: usize, add: bool) {
    let subnet = world.subnets[subnet].id;
    let command = ModifyEndpoint {
        id: endpoint,
        add_subnets: if add { vec![subnet] } else { vec![] },
        remove_subnets: if add { vec![] } else { vec![subnet] },
        add_groups: vec![],
        remove_groups: vec![],
        private_dns: None,
    };
    fair("modify", world.cp.app.modify_endpoint(&world.consumer, command).await);
}

async fn change_rules(world: &World, round: u8) {
    let source = format!("10.200.{round}.0/24");
    let rule = IngressRule::parse("rule", &source, "tcp", Some(80), Some(80)).unwrap();
    let permissions = vec![(rule, String::new())];
    let command = AuthorizeIngress { group: world.group, permissions };
    let added = world.cp.app.authorize_ingress(&world.consumer, command).await;
    let Some(added) = fair("authorize", added) else { return };
    let command = RevokeIngress { group: world.group, rules: vec![added[0].id] };
    fair("revoke", world.cp.app.revoke_ingress(&world.consumer, command).await);
}

/// Deadlocks that the database has found, those that nobody was told of included.
async fn deadlocks(world: &World) -> i64 {
    let options = world.cp.pool.connect_options();
    // A session's counts are there when it has ended.
    world.cp.pool.close().await;
    let mut db = options.connect().await.unwrap();
    let select = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let found = sqlx::query_scalar(select).fetch_one(&mut db).await.unwrap();
    db.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_rules_and_endpoints_that_change_at_the_same_time_never_deadlock() {
    let world = World::new(false).await;
    let port = Port::open(&world.cp).await;
    let mut hosts = Vec::new();
    for number in 1..=2 {
        let zone = format!("use1-az{number}");
        let (host, _) = port.join(&format!("host-{number}"), &zone).await;
        world.attach(host).await;
        world.silence(host, -3600.0).await;
        hosts.push(host);
    }
    let mut endpoints = Vec::new();
    for _ in 0..6 {
        endpoints.push(world.endpoint(&[0, 1]).await);
    }
    let run = async {
        let reports = hosts.iter().enumerate().flat_map(|(number, host)| {
            let world = &world;
            (0..2).map(move |half| async move {
                let mut random = StdRng::seed_from_u64(2 * number as u64 + half);
                for _ in 0..ROUNDS {
                    fair("an answer", answer(world, *host, &mut random).await);
                }
            })
        });
        let modifying = endpoints.iter().enumerate().map(|(number, endpoint)| {
            let world = &world;
            async move {
                for round in 0..ROUNDS {
                    let subnet = (number + usize::from(round) / 2) % 3;
                    modify(world, *endpoint, subnet, round % 2 == 0).await;
                }
            }
        });
        let rules = async {
            for round in 0..ROUNDS {
                change_rules(&world, round).await;
            }
        };
        let coming_and_going = async {
            for _ in 0..ROUNDS / 2 {
                let endpoint = world.endpoint(&[0, 1, 2]).await;
                let deleted = world.cp.app.delete_endpoints(&world.consumer, &[endpoint]).await;
                fair("delete", deleted);
            }
        };
        let attributes = async {
            for round in 0..ROUNDS {
                let dns_hostnames = Some(round % 2 == 0);
                let vpc = world.vpc.id;
                let command = ModifyVpcAttribute { vpc, dns_support: None, dns_hostnames };
                fair(
                    "attributes",
                    world.cp.app.modify_vpc_attribute(&world.consumer, command).await,
                );
            }
        };
        let reconciling = async {
            for _ in 0..ROUNDS / 4 {
                world.reconciler().pass().await;
            }
        };
        tokio::join!(
            futures_util::future::join_all(reports),
            futures_util::future::join_all(modifying),
            rules,
            coming_and_going,
            attributes,
            reconciling
        );
    };
    tokio::time::timeout(Duration::from_secs(300), run).await.expect("nobody waits for ever");
    // In the end all of it comes to rest.
    until("what was to go to be gone", || async {
        let mut random = StdRng::seed_from_u64(99);
        for host in &hosts {
            answer(&world, *host, &mut random).await.unwrap();
        }
        let select = "SELECT count(*) FROM network_interface WHERE removed_at IS NOT NULL";
        let left: i64 = sqlx::query_scalar(select).fetch_one(&world.cp.pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(deadlocks(&world).await, 0);
}
