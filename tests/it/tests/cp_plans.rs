//! No statement that is run again and again reads a whole table that grows with its users.
#![allow(clippy::unwrap_used)]

#[path = "cp_plans/seed.rs"]
mod seed;

use std::path::Path;

use postern_control_plane::store::Store;
use postern_it::cp::database;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// Tables that grow with use. Scanning a small one is right: those that stay small are not here.
const GROWING: &[&str] = &[
    "account",
    "account_zone",
    "api_key",
    "client_token",
    "endpoint_history",
    "endpoint_service",
    "host_attachment",
    "host_change",
    "interface_usage",
    "network_interface",
    "outbox",
    "released_address",
    "security_group",
    "service_listener",
    "service_permission",
    "service_target",
    "subnet",
    "subnet_cursor",
    "vpc",
    "vpc_endpoint",
    "vpc_endpoint_group",
];

const OWNER: &str = "'000000000001'";
const VPC: &str = "'vpc-00000000000000001'";
const SERVICE: &str = "'vpce-svc-00000000000000001'";
const ENDPOINT: &str = "'vpce-00000000000000001'";
const ENDPOINTS: &str = "ARRAY['vpce-00000000000000001','vpce-00000000000000002']";
const INTERFACES: &str = "ARRAY['eni-00000000000000001','eni-00000000000000002']";
const HOST: &str = "'host-00000000000000001'";
const NOBODY: &str = "ARRAY['*','arn:aws:iam::000000000001:root']";

/// The statements that requests, the relay and the reconciler live on, with something to ask.
fn hot() -> Vec<(&'static str, String)> {
    let now = "now()";
    let page = "'vpce-5', 101";
    vec![
        ("accounts/owner_of_key", r"'\x00'".to_owned()),
        ("endpoints/find", format!("{OWNER}, ARRAY[{ENDPOINT}]")),
        ("endpoints/list", format!("{OWNER}, NULL, NULL, {page}")),
        ("endpoints/list", format!("{OWNER}, {VPC}, NULL, {page}")),
        ("endpoints/list", format!("{OWNER}, NULL, 'available', {page}")),
        ("endpoints/list", format!("{OWNER}, {VPC}, 'available', {page}")),
        ("endpoints/connections", format!("{OWNER}, NULL, NULL, {page}")),
        ("endpoints/connections", format!("{OWNER}, {SERVICE}, 'pendingAcceptance', {page}")),
        ("endpoints/revisions", format!("{OWNER}, {ENDPOINTS}")),
        ("endpoints/lock", format!("{ENDPOINTS}, {OWNER}, NULL")),
        ("endpoints/lock", format!("{ENDPOINTS}, NULL, {SERVICE}")),
        ("endpoints/locate", format!("{ENDPOINT}, {OWNER}")),
        ("endpoints/overdue", format!("'pendingAcceptance', {now}, 500")),
        ("endpoints/forget", format!("{now}, 500")),
        (
            "endpoints/insert",
            format!(
                "'vpce-0000000000000000a', 'c', {OWNER}, {VPC}, {SERVICE}, 'pending', 'abcdefgh', \
                 NULL, '', 2, {now}, {now}, ARRAY['sg-00000000000000001'], \
                 ARRAY['eni-0000000000000000a'], ARRAY['subnet-00000000000000001'], \
                 ARRAY['use1-az1'], ARRAY['10.0.0.4'::inet], ARRAY['10.0.255.254'::inet], \
                 ARRAY[{HOST}], ARRAY[gen_random_uuid()], ARRAY[1], ARRAY['Connect'], \
                 ARRAY['{{}}'::jsonb], ARRAY[{HOST}], '{{}}'"
            ),
        ),
        (
            "endpoints/apply",
            format!(
                "{ENDPOINTS}, ARRAY['pending'], ARRAY['available'], ARRAY[true], ARRAY[''], \
                 ARRAY['pending'], 0, 'system', NULL, {now}"
            ),
        ),
        (
            "client_tokens/claim_and_hold",
            format!("{OWNER}, 'a', 't', '', 'r', {now}, {now}, {SERVICE}, {VPC}"),
        ),
        ("client_tokens/claim", format!("{OWNER}, 'a', 't', '', 'r', {now}, {now}")),
        ("client_tokens/find", format!("{OWNER}, 'a', 't', {now}")),
        ("client_tokens/forget", format!("{now}, 500")),
        ("sites/hold", format!("{SERVICE}, {VPC}, {OWNER}")),
        (
            "sites/survey",
            format!(
                "{OWNER}, {VPC}, {SERVICE}, {NOBODY}, NULL, ARRAY['subnet-00000000000000001'], \
                 ARRAY[]::text[], {now}"
            ),
        ),
        ("placement/candidates", format!("{VPC}, 'vpc-00000000000000002', 15")),
        ("placement/hold", format!("ARRAY[{VPC}]")),
        ("placement/adrift", "15, true".to_owned()),
        ("placement/lock_adrift", format!("15, true, {VPC}, {VPC}, 500")),
        (
            "fleet/advance",
            format!("ARRAY[{HOST}], ARRAY['interface'], {INTERFACES}, ARRAY[''], '{{}}'"),
        ),
        ("fleet/resolve", format!("{INTERFACES}, ARRAY[{VPC}], {ENDPOINTS}")),
        ("interfaces/list", format!("{OWNER}, 'eni-00000000000000001', NULL, NULL, NULL, 101")),
        ("interfaces/list", format!("{OWNER}, NULL, {ENDPOINT}, NULL, NULL, 101")),
        ("interfaces/list", format!("{OWNER}, NULL, NULL, {VPC}, NULL, 101")),
        ("interfaces/list", format!("{OWNER}, NULL, NULL, NULL, 'eni-5', 101")),
        ("interfaces/of", ENDPOINTS.to_owned()),
        ("interfaces/remove", format!("{ENDPOINTS}, {INTERFACES}, {now}")),
        ("interfaces/release", format!("{HOST}, 5")),
        ("interfaces/clear", format!("{ENDPOINT}, {now}")),
        ("notifications/matching", format!("'Accept', ARRAY[{SERVICE}], {ENDPOINTS}")),
        ("reconcile/abandoned", "60".to_owned()),
        ("reconcile/unsettled", format!("{now}, '', 500")),
        ("relay/claim", "ARRAY[]::text[], 100".to_owned()),
        ("relay/depth", String::new()),
        ("relay/mark", "ARRAY[gen_random_uuid()], 'relay', 'me', 1".to_owned()),
        ("retention/outbox", "3600".to_owned()),
        ("retention/host_changes", "3600".to_owned()),
    ]
}

async fn plan(db: &mut PgConnection, statement: &str, arguments: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../services/control-plane/src/store/sql")
        .join(statement)
        .with_extension("sql");
    let text = std::fs::read_to_string(&file).unwrap();
    let run = |sql: String| AssertSqlSafe(sql);
    let failed = |error: sqlx::Error| format!("{statement}: {error}");
    sqlx::raw_sql(run(format!("PREPARE hot AS {text}")))
        .execute(&mut *db)
        .await
        .map_err(failed)
        .unwrap();
    let execute = if arguments.is_empty() {
        "EXPLAIN EXECUTE hot".to_owned()
    } else {
        format!("EXPLAIN EXECUTE hot ({arguments})")
    };
    let rows = sqlx::raw_sql(run(execute)).fetch_all(&mut *db).await.map_err(failed).unwrap();
    sqlx::raw_sql("DEALLOCATE hot").execute(&mut *db).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

/// The growing tables that a plan reads from end to end.
fn scanned(plan: &[String]) -> Vec<&str> {
    let whole = |line: &str| {
        let (_, after) = line.split_once("Seq Scan on ")?;
        after.split_whitespace().next().and_then(|table| GROWING.iter().find(|one| **one == table))
    };
    plan.iter().filter_map(|line| whole(line)).copied().collect()
}

#[tokio::test]
async fn no_hot_statement_reads_a_whole_table_that_grows() {
    let database = database().await;
    let store = Store::open(&database.url(), 1).unwrap();
    let mut db = store.acquire().await.unwrap();
    sqlx::raw_sql(seed::SEED).execute(&mut *db).await.unwrap();
    let mut faults = Vec::new();
    for (statement, arguments) in hot() {
        let plan = plan(&mut db, statement, &arguments).await;
        let scanned = scanned(&plan);
        if !scanned.is_empty() {
            faults.push(format!(
                "{statement} ({arguments}) reads all of {scanned:?}:\n{}",
                plan.join("\n")
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[tokio::test]
async fn a_whole_scan_is_noticed() {
    let database = database().await;
    let store = Store::open(&database.url(), 1).unwrap();
    let mut db = store.acquire().await.unwrap();
    sqlx::raw_sql(seed::SEED).execute(&mut *db).await.unwrap();
    let rows = sqlx::raw_sql("EXPLAIN SELECT FROM vpc_endpoint WHERE label = 'abcdefgh'")
        .fetch_all(&mut *db)
        .await
        .unwrap();
    let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(scanned(&plan), ["vpc_endpoint"]);
}

#[tokio::test]
async fn the_search_for_a_free_address_does_not_read_what_is_taken() {
    let database = database().await;
    let store = Store::open(&database.url(), 1).unwrap();
    let mut db = store.acquire().await.unwrap();
    sqlx::raw_sql(seed::SEED).execute(&mut *db).await.unwrap();
    let free = "SELECT host(next_address('vpc-00000000000000001', 'subnet-00000000000000001', \
                '10.0.0.4', '10.0.255.254', now()))";
    // As many as the seed has, from the first usable address on.
    let expected: String = sqlx::query_scalar("SELECT host('10.0.0.4'::inet + 3000)")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    let found: String = sqlx::query_scalar(free).fetch_one(&mut *db).await.unwrap();
    assert_eq!(found, expected, "without a cursor it is found all the same");

    sqlx::raw_sql(
        "INSERT INTO subnet_cursor SELECT 'subnet-00000000000000001', '10.0.0.4'::inet + 3000;
         ANALYZE subnet_cursor",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    let rows = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS) {free}")))
        .fetch_all(&mut *db)
        .await
        .unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let touched: u64 = lines
        .iter()
        .take_while(|line| !line.starts_with("Planning"))
        .flat_map(|line| line.split_whitespace())
        .filter_map(|word| word.strip_prefix("hit=").or_else(|| word.strip_prefix("read=")))
        .map(|count| count.parse::<u64>().unwrap())
        .max()
        .unwrap();
    // Planning inside the function reads the catalogue; the addresses themselves are thousands.
    assert!(touched < 1000, "{}", lines.join("\n"));

    // What was released before the cursor comes first, once it has rested.
    sqlx::raw_sql(
        "DELETE FROM interface_usage;
         DELETE FROM network_interface WHERE vpc_id = 'vpc-00000000000000001'
            AND address IN ('10.0.0.9', '10.0.0.14');
         INSERT INTO released_address VALUES
            ('vpc-00000000000000001', '10.0.0.9', now() + interval '1 minute'),
            ('vpc-00000000000000001', '10.0.0.14', now() - interval '1 minute')",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    let found: String = sqlx::query_scalar(free).fetch_one(&mut *db).await.unwrap();
    assert_eq!(found, "10.0.0.14");
}
