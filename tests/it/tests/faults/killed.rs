//! Each process killed at random moments, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postern_agent::held::Held;
use postern_proto::v1::VpcEndpointState as State;
use postern_testkit::deployment::{
    Deployment, Endpoint, Hook, PATIENCE, Program, Service, Vpc, World, echoes, refuses, until,
};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;
use tonic::Status;

use crate::Asked;

/// How many endpoints are made at most, and by how many hands. They go on until the killing is over.
const ENDPOINTS: usize = 160;
const HANDS: usize = 4;
/// How often each process is killed.
const KILLS: usize = 3;
/// A killed relay's lease, a killed dispatcher's and a host's run out before this, one after another.
const CONVERGENCE: Duration = Duration::from_secs(120);

/// What is done with an endpoint after it was asked for.
#[derive(Clone, Copy, Debug)]
struct Life {
    accept: bool,
    reject: bool,
    delete: bool,
    /// Before the next is asked for.
    pause: Duration,
}

impl Life {
    fn random(random: &mut StdRng) -> Self {
        let pause = Duration::from_millis(random.random_range(100..700));
        let mut coin = |of_ten: u32| random.random_ratio(of_ten, 10);
        Self { accept: coin(8), reject: coin(3), delete: coin(3), pause }
    }

    fn end(self) -> State {
        match self {
            Self { delete: true, .. } => State::Deleted,
            Self { reject: true, .. } => State::Rejected,
            Self { accept: true, .. } => State::Available,
            _ => State::PendingAcceptance,
        }
    }

    fn events(self) -> Vec<&'static str> {
        let steps = [("Accept", self.accept), ("Reject", self.reject), ("Delete", self.delete)];
        let done = steps.into_iter().filter_map(|(kind, done)| done.then_some(kind));
        std::iter::once("Connect").chain(done).collect()
    }

    /// Lives it, whoever is killed meanwhile.
    async fn live(self, number: usize, world: &World, vpc: &Vpc, service: &Service) -> Endpoint {
        let token = format!("endpoint {number}");
        let endpoint = until("it is made", PATIENCE, || async {
            world.endpoint(vpc, service).with_token(&token).try_create().await.map(Some)
        })
        .await;
        let id = endpoint.id.as_str();
        if self.accept {
            let before = |state| state == State::PendingAcceptance;
            insist(&endpoint, before, || service.accept(id)).await;
        }
        if self.reject {
            let before = |state| !matches!(state, State::Rejected);
            insist(&endpoint, before, || service.reject(id)).await;
        }
        if self.delete {
            let before = |state| !matches!(state, State::Deleting | State::Deleted);
            insist(&endpoint, before, || endpoint.delete()).await;
        }
        endpoint
    }
}

/// Asks for something until it is done. An answer that was lost leaves it open whether it is: then
/// the state tells.
async fn insist<F>(endpoint: &Endpoint, before: impl Fn(State) -> bool, mut ask: impl FnMut() -> F)
where
    F: Future<Output = Result<(), Status>>,
{
    let mut last = None;
    for _ in 0..200 {
        match ask().await {
            Ok(()) => return,
            Err(status) => last = Some(status),
        }
        if endpoint.get().await.is_ok_and(|now| !before(now.state())) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{} does not get on: {last:?}", endpoint.id);
}

#[tokio::test]
async fn whichever_process_is_killed_whenever_nothing_is_lost_and_everything_settles() {
    let seed = match std::env::var("POSTERN_TEST_SEED") {
        Ok(text) => text.parse().expect("POSTERN_TEST_SEED is a number"),
        Err(_) => rand::random::<u64>(),
    };
    eprintln!("POSTERN_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let mut deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).create().await;
    let hook = world.hook(&service).await;

    let lives: Vec<Life> = (0..ENDPOINTS).map(|_| Life::random(&mut random)).collect();
    let (next, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = async {
        let hands = (0..HANDS).map(|_| async {
            let mut made = Vec::new();
            while !killed.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(life) = lives.get(number).copied() else { break };
                made.push((life.live(number, &world, &vpc, &service).await, life));
                sleep(life.pause).await;
            }
            made
        });
        let made = futures_util::future::join_all(hands).await;
        made.into_iter().flatten().collect::<Vec<_>>()
    };
    let killing = async {
        kill_all(&mut deployment, &mut random).await;
        killed.store(true, Ordering::Relaxed);
    };
    let (made, ()) = tokio::join!(load, killing);
    eprintln!("{} endpoints meanwhile", made.len());
    for program in [Program::ControlPlane, Program::Dispatcher, Program::Agent(1)] {
        deployment.ready(program).await;
    }

    for (endpoint, life) in &made {
        endpoint.reaches_one_of(&[life.end()], CONVERGENCE).await;
    }
    the_host_holds_what_it_should(&deployment, &world, &made).await;
    packets_flow_where_they_should(&vpc, &made).await;
    no_event_is_lost(&deployment, &hook, &made).await;
}

#[tokio::test]
async fn a_killed_control_plane_holds_events_back_for_a_few_seconds_only() {
    // The relay's lease, and what a machine that is busy takes for everything else.
    const FEW: Duration = Duration::from_secs(6 + 6);
    let mut deployment = Deployment::start().await;
    let world = World::of(&deployment);
    let (provider, consumer) = (world.account("provider").await, world.account("consumer").await);
    let (theirs, vpc) = (world.vpc(&provider).await, world.vpc(&consumer).await);
    let service = world.service(&provider, &theirs).create().await;
    let hook = world.hook(&service).await;
    deployment.process(Program::ControlPlane).kill();
    deployment.restart(Program::ControlPlane).await;
    let endpoint = world.endpoint(&vpc, &service).create().await;
    until("the event arrives", FEW, async || -> Asked<()> {
        Ok((hook.kinds(&endpoint.id) == ["Connect"]).then_some(()))
    })
    .await;
}

/// Kills the processes, in a random order and with random pauses, and starts each again.
async fn kill_all(deployment: &mut Deployment, random: &mut StdRng) {
    let all = [Program::ControlPlane, Program::Dispatcher, Program::Agent(1)];
    let mut victims: Vec<Program> = all.into_iter().cycle().take(KILLS * all.len()).collect();
    victims.shuffle(random);
    for victim in victims {
        let alive = Duration::from_millis(random.random_range(200..1500));
        let dead = Duration::from_millis(random.random_range(0..500));
        sleep(alive).await;
        deployment.process(victim).kill();
        eprintln!("{victim:?} killed after {alive:?}, for {dead:?}");
        sleep(dead).await;
        deployment.process(victim).start();
    }
}

/// The agent's state is the control plane's, and has exactly the interfaces that there are.
async fn the_host_holds_what_it_should(
    deployment: &Deployment,
    world: &World,
    made: &[(Endpoint, Life)],
) {
    let host = until("the host has applied the last state", CONVERGENCE, async || -> Asked<_> {
        let host = world.hosts().await.remove(0);
        Ok((host.desired_generation == host.applied_generation).then_some(host))
    })
    .await;
    let (_, state) = Held::open(&deployment.agent_state(1)).unwrap();
    assert_eq!(state.generation, host.applied_generation);
    let held: BTreeMap<String, (String, bool)> = state
        .interfaces()
        .map(|one| (one.endpoint.to_string(), (one.address.to_string(), one.serving)))
        .collect();
    let wanted: BTreeMap<String, (String, bool)> = made
        .iter()
        .filter(|(_, life)| !life.delete)
        .map(|(endpoint, life)| {
            let serving = life.end() == State::Available;
            (endpoint.id.clone(), (endpoint.addresses[0].to_string(), serving))
        })
        .collect();
    assert_eq!(held, wanted);
}

async fn packets_flow_where_they_should(vpc: &Vpc, made: &[(Endpoint, Life)]) {
    let alive: BTreeSet<_> =
        made.iter().filter(|(_, life)| !life.delete).map(|(endpoint, _)| endpoint.at()).collect();
    for (endpoint, life) in made {
        let at = endpoint.at();
        if life.end() == State::Available {
            if let Err(error) = echoes(vpc.source(), at).await {
                panic!("{} at {at}: {error}", endpoint.id);
            }
        } else if !life.delete || !alive.contains(&at) {
            assert!(refuses(vpc.source(), at).await, "{} at {at}, {life:?}", endpoint.id);
        }
    }
}

/// Every event that was written down has arrived, in its endpoint's order, and none as two messages.
async fn no_event_is_lost(deployment: &Deployment, hook: &Hook, made: &[(Endpoint, Life)]) {
    let count: usize = made.iter().map(|(_, life)| life.events().len()).sum();
    until("every event has arrived", CONVERGENCE, async || -> Asked<()> {
        Ok((hook.events().len() >= count).then_some(()))
    })
    .await;
    let arrived = hook.by_endpoint();
    let pool = deployment.pool().await;
    for (endpoint, life) in made {
        let events = arrived.get(&endpoint.id).cloned().unwrap_or_default();
        let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, life.events(), "{}", endpoint.id);
        let written: Vec<String> = sqlx::query_scalar(
            "SELECT id::text FROM control_plane.outbox WHERE endpoint_id = $1 ORDER BY sequence",
        )
        .bind(&endpoint.id)
        .fetch_all(&pool)
        .await
        .unwrap();
        let came: Vec<_> = events.into_iter().map(|event| event.event_id).collect();
        assert_eq!(came, written, "{}", endpoint.id);
    }
    assert_eq!(hook.events().len(), count, "an event was in effect twice");
}
