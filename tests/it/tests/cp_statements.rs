//! Every statement of the control plane's store is one that its schema knows.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use postern_control_plane::store::Store;
use postern_it::cp::database;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

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
    let store = Store::open(&database.url(), 1).unwrap();
    let mut db = store.acquire().await.unwrap();
    let mut files = Vec::new();
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/control-plane/src/store/sql");
    find(&folder, &mut files);
    files.sort();
    assert!(files.len() > 50, "{} statements are too few to be all of them", files.len());
    let mut faults = Vec::new();
    for file in files {
        let statement = std::fs::read_to_string(&file).unwrap();
        let prepared = db.prepare(AssertSqlSafe(statement).into_sql_str()).await;
        if let Err(error) = prepared {
            faults.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
