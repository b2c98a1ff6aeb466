//! Every statement of the store is one that the schema knows.

use std::path::{Path, PathBuf};

use postern_dispatcher::store::Store;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::world::database;

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
}

#[tokio::test]
async fn every_statement_of_the_store_can_be_prepared_against_the_migrated_schema() {
    let database = database().await;
    let store = Store::new(&database.url(), 1).unwrap();
    let mut db = store.connection().await.unwrap();
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/dispatcher/src/store/sql");
    let mut files = Vec::new();
    find(&folder, &mut files);
    assert!(files.len() > 40, "{} statements are too few to be all of them", files.len());
    let mut faults = Vec::new();
    for file in files {
        let statement = std::fs::read_to_string(&file).unwrap();
        if let Err(error) = db.prepare(AssertSqlSafe(statement).into_sql_str()).await {
            faults.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn migrating_twice_and_side_by_side_is_harmless() {
    let database = postern_testkit::postgres::TestDatabase::empty().await.unwrap();
    let (one, two) =
        (Store::new(&database.url(), 2).unwrap(), Store::new(&database.url(), 2).unwrap());
    let (first, second) = tokio::join!(one.migrate(), two.migrate());
    first.unwrap();
    second.unwrap();
    one.migrate().await.unwrap();
}
