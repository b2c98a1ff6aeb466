//! What a change costs the control plane, counted in rows that the database reads: as many for a host
//! that holds much as for one that holds little.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent;

use std::collections::BTreeMap;
use std::time::Duration;

use agent::world::World;
use agent::{Port, naming};
use chrono::DateTime;
use postern_control_plane::app::App;
use postern_control_plane::store::fleet::{Touched, advance};
use postern_control_plane::store::reports::{Status, Usage};
use postern_control_plane::store::state::{Since, read_changes};
use postern_control_plane::store::{Store, interfaces, reconcile, reports};
use postern_model::id::{EndpointId, HostId, NetworkInterfaceId};
use sqlx::postgres::PgPoolOptions;

/// Puts endpoints of one interface each on a host, as though each had been asked for.
const CROWD: &str = "
WITH made AS (
    INSERT INTO vpc_endpoint (id, connection_id, owner_id, vpc_id, service_id, state, label, published)
    SELECT 'vpce-' || lpad(to_hex(number), 17, '0'), 'vpce-conn-' || number, owner_id, vpc_id,
           service_id, 'available', lpad(number::text, 8, '0'), true
      FROM vpc_endpoint, generate_series(1, $2) AS number
     WHERE id = $1
), carried AS (
    INSERT INTO vpc_endpoint_group (endpoint_id, group_id)
    SELECT 'vpce-' || lpad(to_hex(number), 17, '0'), $3
      FROM generate_series(1, $2) AS number
)
INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id, zone_id, address, host_id,
                               epoch, bound, bound_generation)
SELECT 'eni-' || lpad(to_hex(number), 17, '0'), 'vpce-' || lpad(to_hex(number), 17, '0'), owner_id,
       vpc_id, subnet_id, zone_id, '10.0.128.0'::inet + number, host_id, 1, true, 1
  FROM network_interface, generate_series(1, $2) AS number
 WHERE endpoint_id = $1";

/// Rows that scans have read in this database so far, and entries of indexes.
const READ: &str = "
SELECT (SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables)
     + (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes)";

/// A step of a change reads no more: what it is about, and the rows beside that.
const FEW: i64 = 100;

/// Counts what is read over its one connection.
struct Counter {
    app: App,
    last: i64,
    steps: BTreeMap<&'static str, i64>,
}

impl Counter {
    async fn over(world: &World, plans: &str) -> Self {
        let options = (*world.cp.pool.connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let app = App { store: Store::from_pool(pool), ..world.cp.app.clone() };
        let set = "SELECT set_config('plan_cache_mode', $1, false)";
        sqlx::query(set).bind(plans).execute(app.store.pool()).await.unwrap();
        let mut this = Self { app, last: 0, steps: BTreeMap::new() };
        this.read().await;
        this
    }

    async fn read(&mut self) -> i64 {
        // What a session has read is written down between its transactions.
        let flush = "SELECT pg_stat_force_next_flush()";
        sqlx::query(flush).execute(self.app.store.pool()).await.unwrap();
        let now: i64 = sqlx::query_scalar(READ).fetch_one(self.app.store.pool()).await.unwrap();
        now - std::mem::replace(&mut self.last, now)
    }

    async fn step(&mut self, what: &'static str) {
        let read = self.read().await;
        self.steps.insert(what, read);
    }
}

/// Everything from the change of an interface and its names to the endpoint that hears of it.
async fn one_change(
    counter: &mut Counter,
    world: &World,
    host: HostId,
    endpoint: EndpointId,
    interface: NetworkInterfaceId,
) {
    let app = counter.app.clone();
    let generation: i64 = sqlx::query_scalar("SELECT desired_generation FROM host WHERE id = $1")
        .bind(host.to_string())
        .fetch_one(app.store.pool())
        .await
        .unwrap();
    counter.read().await;

    let mut touched = Touched::default();
    touched.interface(interface);
    touched.names(world.vpc.id, endpoint);
    let mut tx = app.store.begin().await.unwrap();
    assert_eq!(advance(&mut tx, &touched, &BTreeMap::new()).await.unwrap(), [host]);
    tx.commit().await.unwrap();
    counter.step("advance").await;

    let mut db = app.store.acquire().await.unwrap();
    let (session, desired) = reports::present(&mut db, host).await.unwrap().unwrap();
    assert!(reports::seen(&mut db, host, session).await.unwrap());
    drop(db);
    assert_eq!(desired, generation + 1);
    counter.step("look").await;

    let since = read_changes(&app.store, &naming(), host, generation).await.unwrap().unwrap();
    let Since::Changed(change, _) = since else { panic!("{since:?}") };
    assert_eq!((change.upserts.len(), change.removals.len()), (2, 0));
    counter.step("delta").await;

    let (bound, error, epoch) = (true, String::new(), 1);
    let statuses = [Status { interface, epoch, bound, error }];
    let mut tx = app.store.begin().await.unwrap();
    let news = reports::statuses(&mut tx, host, desired, &statuses).await.unwrap();
    assert_eq!(news.len(), 1);
    assert!(interfaces::release(&mut tx, host, desired).await.unwrap().is_empty());
    assert!(reports::applied(&mut tx, host, session, desired).await.unwrap());
    tx.commit().await.unwrap();
    counter.step("answer").await;

    app.settle(endpoint).await.unwrap();
    counter.step("settle").await;

    let usage = Usage { interface, bytes_in: 1, bytes_out: 1, active: 1, total: 1, failed: 0 };
    let mut db = app.store.acquire().await.unwrap();
    reports::usage(&mut db, host, "boot", &[usage]).await.unwrap();
    drop(db);
    counter.step("usage").await;

    // The reconcilers look with each change that they watch over.
    let mut db = app.store.acquire().await.unwrap();
    let unsettled = reconcile::unsettled(&mut db, DateTime::UNIX_EPOCH, "", 500).await.unwrap();
    assert_eq!(unsettled, []);
    assert_eq!(reconcile::abandoned(&mut db, Duration::from_secs(60)).await.unwrap(), []);
    drop(db);
    counter.step("reconcile").await;
}

#[tokio::test]
async fn a_change_reads_as_many_rows_on_a_host_of_ten_thousand_interfaces_as_on_one_of_a_hundred() {
    let mut read = BTreeMap::new();
    for crowd in [100_i64, 10_000] {
        let world = World::new(false).await;
        let port = Port::open(&world.cp).await;
        let (host, _) = port.join("host-1", "use1-az1").await;
        world.attach(host).await;
        world.silence(host, 0.0).await;
        let endpoint = world.endpoint(&[0]).await;
        sqlx::query(CROWD)
            .bind(endpoint.to_string())
            .bind(crowd)
            .bind(world.group.to_string())
            .execute(&world.cp.pool)
            .await
            .unwrap();
        // Changes that others had, an hour of them.
        sqlx::query(
            "INSERT INTO host_change (host_id, generation, kind, object_id)
             SELECT $1, -number, 'interface', 'eni-' || number FROM generate_series(1, $2) AS number",
        )
        .bind(host.to_string())
        .bind(crowd)
        .execute(&world.cp.pool)
        .await
        .unwrap();
        sqlx::query("ANALYZE").execute(&world.cp.pool).await.unwrap();
        let interface: String =
            sqlx::query_scalar("SELECT id FROM network_interface WHERE endpoint_id = $1")
                .bind(endpoint.to_string())
                .fetch_one(&world.cp.pool)
                .await
                .unwrap();
        let interface: NetworkInterfaceId = interface.parse().unwrap();
        // A session's statements are planned for their values first, and for any later.
        for plans in ["force_custom_plan", "force_generic_plan"] {
            let mut counter = Counter::over(&world, plans).await;
            one_change(&mut counter, &world, host, endpoint, interface).await;
            println!("{crowd} interfaces, {plans}: rows read {:?}", counter.steps);
            read.insert((plans, crowd), counter.steps);
        }
    }
    for ((plans, crowd), steps) in read.iter().filter(|((_, crowd), _)| *crowd > 100) {
        for (step, rows) in steps {
            // At a hundred the tables are so small that reading all of them is the quickest.
            assert!(*rows <= FEW, "{step} reads {rows} rows at {crowd} ({plans}): {read:?}");
        }
    }
}
