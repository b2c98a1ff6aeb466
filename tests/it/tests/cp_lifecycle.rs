//! The life of endpoints on a real database: every state and command against the model's table, and
//! many actors at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postern_control_plane::app::connections::Decision;
use postern_control_plane::app::security_groups::AuthorizeIngress;
use postern_control_plane::app::services::ModifyService;
use postern_control_plane::app::vpcs::ModifyVpcAttribute;
use postern_it::cp::code;
use postern_it::cp::doors::Doors;
use postern_model::Code;
use postern_model::endpoint::{EndpointEvent as On, EndpointState as S};
use postern_model::id::{EndpointId, ServiceId};
use postern_model::security::IngressRule;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// What is done to an endpoint that is put into a state first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Command {
    Accept,
    Reject,
    Modify,
    Delete,
    Expire,
    /// All that is there is bound in time.
    AllBound,
    /// Some of it is bound, and the time is up.
    SomeBoundLate,
    /// None of it is bound, and the time is up.
    NoneBoundLate,
    /// No host has any of it.
    LetGo,
}

const COMMANDS: [Command; 9] = [
    Command::Accept,
    Command::Reject,
    Command::Modify,
    Command::Delete,
    Command::Expire,
    Command::AllBound,
    Command::SomeBoundLate,
    Command::NoneBoundLate,
    Command::LetGo,
];

impl Command {
    fn event(self) -> On {
        match self {
            Self::Accept => On::Accepted,
            Self::Reject => On::Rejected,
            Self::Modify => On::Modified,
            Self::Delete => On::DeleteRequested,
            Self::Expire => On::Expired,
            Self::AllBound => On::Attached,
            Self::SomeBoundLate => On::PartlyAttached,
            Self::NoneBoundLate => On::AttachFailed,
            Self::LetGo => On::Detached,
        }
    }

    /// Whether nothing happens and that is fine, as spec 1.4 and 1.11 say.
    fn is_done(self, state: S) -> bool {
        match self {
            Self::Accept => matches!(state, S::Pending | S::Available | S::Partial),
            Self::Reject => state == S::Rejected,
            Self::Delete => matches!(state, S::Deleting | S::Deleted),
            // Nobody asks for these: where they don't apply, nothing happens.
            Self::Expire | Self::AllBound | Self::SomeBoundLate | Self::NoneBoundLate => true,
            Self::LetGo => true,
            Self::Modify => false,
        }
    }
}

async fn set_interfaces(doors: &Doors, id: EndpointId, change: &str) {
    let update = format!("UPDATE network_interface SET {change} WHERE endpoint_id = $1");
    sqlx::query(sqlx::AssertSqlSafe(update))
        .bind(id.to_string())
        .execute(&doors.cp.pool)
        .await
        .unwrap();
}

/// Does it, and returns the state that a refusal names, if it was refused.
async fn run(doors: &Doors, id: EndpointId, command: Command) -> Option<String> {
    const BOUND: &str = "bound = true, bound_generation = change_generation";
    let app = &doors.cp.app;
    let refused = |failed: Vec<postern_control_plane::app::items::Unsuccessful>| {
        failed.into_iter().next().map(|item| {
            assert_eq!(item.refusal.code, Code::InvalidState);
            item.refusal.message
        })
    };
    match command {
        Command::Accept => return refused(doors.try_decide(id, Decision::Accept).await),
        Command::Reject => return refused(doors.try_decide(id, Decision::Reject).await),
        Command::Modify => {
            let mut change = doors.change(id);
            change.remove_subnets = vec![doors.subnets[0].id];
            return match app.modify_endpoint(&doors.consumer, change).await {
                Ok(_) => None,
                Err(postern_control_plane::Error::Refused(refusal)) => {
                    assert_eq!(refusal.code, Code::InvalidState);
                    Some(refusal.message)
                }
                Err(error) => panic!("{error:?}"),
            };
        }
        Command::Delete => {
            let failed = app.delete_endpoints(&doors.consumer, &[id]).await.unwrap();
            return refused(failed);
        }
        Command::Expire => {
            doors.cp.clock.advance(Duration::from_secs(8 * 24 * 3600));
            app.expire_due().await.unwrap();
        }
        Command::AllBound => {
            set_interfaces(doors, id, BOUND).await;
            app.settle(id).await.unwrap();
        }
        Command::SomeBoundLate => {
            let some = format!("{BOUND} , bind_error = ''");
            set_interfaces(doors, id, "bound = false, bind_error = 'address in use'").await;
            let update = format!(
                "UPDATE network_interface SET {some} WHERE endpoint_id = $1 AND zone_id = 'use1-az1'"
            );
            sqlx::query(sqlx::AssertSqlSafe(update))
                .bind(id.to_string())
                .execute(&doors.cp.pool)
                .await
                .unwrap();
            doors.cp.clock.advance(Duration::from_secs(601));
            app.settle(id).await.unwrap();
        }
        Command::NoneBoundLate => {
            doors.cp.clock.advance(Duration::from_secs(601));
            app.settle(id).await.unwrap();
        }
        Command::LetGo => {
            set_interfaces(doors, id, "removed_at = now(), host_id = NULL").await;
            app.settle(id).await.unwrap();
        }
    }
    None
}

#[tokio::test]
async fn every_state_and_command_ends_where_the_models_table_says() {
    let doors = Doors::deciding().await;
    for state in S::ALL {
        for command in COMMANDS {
            let endpoint = doors.endpoint().await;
            let now = doors.cp.app.clock.now();
            doors.force(endpoint.id, state).await;
            sqlx::query("UPDATE vpc_endpoint SET state_changed_at = $2 WHERE id = $1")
                .bind(endpoint.id.to_string())
                .bind(now)
                .execute(&doors.cp.pool)
                .await
                .unwrap();
            // Taken away from a living endpoint, its interfaces leave nothing to wait for.
            let event = match (command, state) {
                (Command::LetGo, S::Pending | S::Partial) => On::Attached,
                _ => command.event(),
            };
            let refused = run(&doors, endpoint.id, command).await;

            let after = doors.get(endpoint.id).await;
            let case = format!("{command:?} in {state}");
            match state.after(event) {
                Some(to) => {
                    assert_eq!(after.state, to, "{case}");
                    assert_eq!(refused, None, "{case}");
                    assert_eq!(after.revision, endpoint.revision + 1, "{case}");
                }
                None => {
                    assert_eq!(after.state, state, "{case}");
                    assert_eq!(after.revision, endpoint.revision, "{case}");
                    assert_eq!(refused.is_none(), command.is_done(state), "{case}");
                    if let Some(message) = refused {
                        assert!(message.contains(state.as_str()), "{case}: {message}");
                    }
                }
            }
            // Out of the way of the next case's sweeps.
            set_interfaces(&doors, endpoint.id, "removed_at = now(), host_id = NULL").await;
            doors.force(endpoint.id, S::Deleting).await;
            doors.cp.app.settle(endpoint.id).await.unwrap();
            assert_eq!(doors.state(endpoint.id).await, S::Deleted, "{case}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_available_when_its_host_has_bound_it_and_gone_when_its_host_let_go() {
    let doors = Doors::deciding().await;
    let id = doors.endpoint().await.id;
    assert_eq!(doors.state(id).await, S::PendingAcceptance);
    doors.obey().await;
    assert_eq!(doors.state(id).await, S::PendingAcceptance, "nobody has accepted it");
    doors.decide(id, Decision::Accept).await;
    doors.cp.app.settle(id).await.unwrap();
    assert_eq!(doors.state(id).await, S::Pending, "what was bound before it was accepted is old");
    doors.obey().await;
    assert_eq!(doors.state(id).await, S::Available);

    doors.decide(id, Decision::Reject).await;
    assert_eq!(doors.state(id).await, S::Rejected);
    doors.decide(id, Decision::Accept).await;
    doors.obey().await;
    assert_eq!(doors.state(id).await, S::Available, "a rejected endpoint may be accepted again");

    doors.delete(id).await;
    assert_eq!(doors.state(id).await, S::Deleting);
    doors.obey().await;
    assert_eq!(doors.state(id).await, S::Deleted);
    assert_eq!(doors.addresses(id).await, Vec::<String>::new());
    assert_eq!(doors.kinds(id).await, ["Connect", "Accept", "Reject", "Accept", "Delete"]);
}

#[tokio::test]
async fn a_zone_that_fails_makes_the_endpoint_partial_and_its_recovery_available() {
    let doors = Doors::automatic().await;
    let id = doors.endpoint().await.id;
    doors.report(|zone| zone == "use1-az1").await;
    assert_eq!(doors.state(id).await, S::Pending);
    doors.cp.clock.advance(Duration::from_secs(600));
    doors.cp.app.settle(id).await.unwrap();
    let partial = doors.get(id).await;
    assert_eq!(partial.state, S::Partial);
    assert!(partial.failure_reason.contains("use1-az2: address in use"), "{partial:?}");
    doors.obey().await;
    let recovered = doors.get(id).await;
    assert_eq!((recovered.state, recovered.failure_reason.as_str()), (S::Available, ""));
}

#[tokio::test]
async fn an_endpoint_without_a_host_says_what_it_waits_for_and_fails_in_the_end() {
    let doors = Doors::automatic().await;
    sqlx::query("UPDATE host SET last_seen_at = now() - interval '1 hour'")
        .execute(&doors.cp.pool)
        .await
        .unwrap();
    let endpoint = doors.endpoint().await;
    assert_eq!(endpoint.state, S::Pending);
    assert!(endpoint.failure_reason.contains("waits for a host"), "{endpoint:?}");
    doors.cp.clock.advance(Duration::from_secs(600));
    doors.cp.app.settle(endpoint.id).await.unwrap();
    let failed = doors.get(endpoint.id).await;
    assert_eq!(failed.state, S::Failed);
    assert!(failed.failure_reason.contains("waits for a host"), "{failed:?}");
    // No host has any of it, so that it is gone at once.
    doors.delete(endpoint.id).await;
    assert_eq!(doors.state(endpoint.id).await, S::Deleted);
}

#[tokio::test]
async fn a_request_expires_after_seven_days_and_not_before_though_it_was_modified() {
    let doors = Doors::deciding().await;
    let id = doors.endpoint().await.id;
    doors.cp.clock.advance(Duration::from_secs(7 * 24 * 3600 - 1));
    let mut change = doors.change(id);
    change.remove_subnets = vec![doors.subnets[1].id];
    let changed = doors.cp.app.modify_endpoint(&doors.consumer, change).await.unwrap();
    assert_eq!(changed.state, S::PendingAcceptance);
    assert_eq!(doors.cp.app.expire_due().await.unwrap(), 0);
    doors.cp.clock.advance(Duration::from_secs(1));
    assert_eq!(doors.cp.app.expire_due().await.unwrap(), 1);
    assert_eq!(doors.state(id).await, S::Expired);
    assert_eq!(doors.kinds(id).await, ["Connect"], "the world does not hear of an expiry");
    let failed = doors.try_decide(id, Decision::Accept).await;
    assert_eq!(failed[0].refusal.code, Code::InvalidState);
}

#[tokio::test]
async fn a_deleted_endpoint_is_shown_for_an_hour_and_its_service_goes_after_it() {
    let doors = Doors::deciding().await;
    let id = doors.endpoint().await.id;
    doors.decide(id, Decision::Reject).await;
    let services = [doors.service()];
    let failed = doors.cp.app.delete_services(&doors.provider, &services).await.unwrap();
    assert_eq!(failed, Vec::new(), "a rejected endpoint does not hold its service");
    let again = doors.cp.app.decide(&doors.provider, services[0], &[id], Decision::Accept).await;
    assert_eq!(code(again), Code::InvalidVpcEndpointServiceIdNotFound);
    assert_eq!(doors.state(id).await, S::Rejected);

    doors.delete(id).await;
    doors.obey().await;
    doors.cp.clock.advance(Duration::from_secs(3599));
    let kept = doors.cp.app.forget_deleted().await.unwrap();
    assert_eq!((kept.endpoints, kept.services), (0, 0));
    assert_eq!(doors.state(id).await, S::Deleted);
    doors.cp.clock.advance(Duration::from_secs(1));
    let gone = doors.cp.app.forget_deleted().await.unwrap();
    assert_eq!((gone.endpoints, gone.services), (1, 1));
    let shown = doors.cp.app.endpoint(&doors.consumer, id).await;
    assert_eq!(code(shown), Code::InvalidVpcEndpointIdNotFound);
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

/// One line of an endpoint's history.
#[derive(Debug, sqlx::FromRow)]
struct Moved {
    endpoint_id: String,
    revision: i64,
    from_state: Option<String>,
    to_state: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_at_once_leaves_legal_histories_and_events_without_gaps() {
    const SEED: u64 = 20_180_921;
    let doors = Arc::new(Doors::deciding().await);
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(doors.endpoint().await.id);
    }
    let group = doors.get(ids[0]).await.groups[0];
    let mut actors = tokio::task::JoinSet::new();
    for actor in 0..8 {
        let (doors, ids) = (Arc::clone(&doors), ids.clone());
        actors.spawn(async move {
            let mut random = StdRng::seed_from_u64(SEED + actor);
            for _ in 0..25 {
                let mut some = vec![ids[random.random_range(0..ids.len())]];
                some.push(ids[random.random_range(0..ids.len())]);
                let app = &doors.cp.app;
                let (provider, service) = (&doors.provider, doors.service());
                match random.random_range(0..28) {
                    0..6 => {
                        app.decide(provider, service, &some, Decision::Accept).await.unwrap();
                    }
                    6..12 => {
                        app.decide(provider, service, &some, Decision::Reject).await.unwrap();
                    }
                    12..14 => {
                        let mut change = doors.change(some[0]);
                        let subnet = doors.subnets[random.random_range(0..2)].id;
                        if random.random() {
                            change.add_subnets = vec![subnet];
                        } else {
                            change.remove_subnets = vec![subnet];
                        }
                        match app.modify_endpoint(&doors.consumer, change).await {
                            Ok(_) | Err(postern_control_plane::Error::Refused(_)) => {}
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                    14..19 => doors.obey().await,
                    // Rare, since there is no way back.
                    19 => {
                        app.delete_endpoints(&doors.consumer, &some[..1]).await.unwrap();
                    }
                    // What others depend on changes too: nobody may wait for somebody in a circle.
                    20..22 => {
                        let idle_timeout_seconds = Some(random.random_range(60..6000));
                        let command = ModifyService { idle_timeout_seconds, ..unchanged(service) };
                        app.modify_service(provider, command).await.unwrap();
                    }
                    22..24 => {
                        let command = ModifyVpcAttribute {
                            vpc: doors.vpc.id,
                            dns_support: None,
                            dns_hostnames: Some(random.random()),
                        };
                        app.modify_vpc_attribute(&doors.consumer, command).await.unwrap();
                    }
                    24..26 => {
                        let port = Some(random.random_range(1..60_000));
                        let rule = IngressRule::parse("rule", "10.0.0.0/8", "tcp", port, port);
                        let permissions = vec![(rule.unwrap(), String::new())];
                        let command = AuthorizeIngress { group, permissions };
                        app.authorize_ingress(&doors.consumer, command).await.unwrap();
                    }
                    _ => drop(doors.endpoint().await),
                }
            }
        });
    }
    while let Some(ended) = actors.join_next().await {
        ended.expect("no actor is stopped by another");
    }

    let history: Vec<Moved> = sqlx::query_as(
        "SELECT endpoint_id, revision, from_state, to_state FROM endpoint_history
          ORDER BY endpoint_id, revision",
    )
    .fetch_all(&doors.cp.pool)
    .await
    .unwrap();
    let mut of: BTreeMap<String, Vec<Moved>> = BTreeMap::new();
    for moved in history {
        of.entry(moved.endpoint_id.clone()).or_default().push(moved);
    }
    assert!(of.len() >= ids.len());
    for (id, moves) in of {
        let id: EndpointId = id.parse().unwrap();
        let mut state: Option<S> = None;
        let mut expected = vec!["Connect"];
        for (revision, moved) in (1..).zip(&moves) {
            assert_eq!(moved.revision, revision, "{id}: a revision is missing");
            let from = moved.from_state.as_deref().map(|from| from.parse::<S>().unwrap());
            let to: S = moved.to_state.parse().unwrap();
            assert_eq!(from, state, "{id}: a move starts where the last one ended");
            if let Some(from) = from {
                let on = On::ALL.into_iter().find(|on| from.after(*on) == Some(to));
                assert!(on.is_some(), "{id}: {from} to {to} is no legal move");
                match (from, to) {
                    (S::PendingAcceptance | S::Rejected, S::Pending) => expected.push("Accept"),
                    (_, S::Rejected) => expected.push("Reject"),
                    (_, S::Deleting) => expected.push("Delete"),
                    _ => {}
                }
            }
            state = Some(to);
        }
        let now = doors.get(id).await;
        assert_eq!(Some(now.state), state);
        let events = doors.events(id).await;
        let kinds: Vec<_> = events.iter().map(|event| event.data.event.as_str()).collect();
        assert_eq!(kinds, expected, "{id}: every move that the world hears of is one event");
        let sequences: Vec<_> = events.iter().map(|event| event.data.sequence).collect();
        assert_eq!(sequences, (1..=events.len() as i64).collect::<Vec<_>>());
    }
}
