//! The desired state of a host, read from what the use cases wrote (design 5).
//!
//! Nothing stores the state: a *key* says which object is meant, and [`objects`] makes it from the
//! rows of the moment. A snapshot is all keys of a host; a change is those keys that `host_change`
//! names since a generation, where a key whose object is not there any more is a removal. Both go the
//! same way from there, so that a change leads to what the snapshot after it says.
//!
//! Everything is read in one transaction that sees one moment ([`super::Store::snapshot`]), a fixed
//! number of statements whatever the number of objects.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use postern_model::desired::{Change, HostState, Key};
use postern_model::dns::Suffixes;
use postern_model::id::HostId;
use postern_model::zone::Region;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Store, sql};
use crate::error::{Error, Result};

/// A change of more rows than this is sent as a snapshot, which is then the cheaper one.
const ROWS_MAX: i64 = 20_000;

/// What the names of endpoints are made from.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The region of everything here.
    pub region: Region,
    /// What generated names end in.
    pub suffixes: Suffixes,
}

/// What is different from a generation on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The host holds the newest generation.
    Same,
    /// The change, and the trace context of the request that last added to it.
    Changed(Change, BTreeMap<String, String>),
    /// It can't be told from that generation: the host needs a snapshot.
    TooOld,
}

/// The whole state of `host`; `None` when there is no such host.
///
/// # Errors
///
/// The database away.
pub async fn read_all(store: &Store, naming: &Naming, host: HostId) -> Result<Option<HostState>> {
    let mut db = store.snapshot().await?;
    let Some(generation) = generation(&mut db, host).await? else { return Ok(None) };
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql!("state/keys")).bind(host.to_string()).fetch_all(&mut *db).await?;
    let mut keys = BTreeSet::new();
    for (kind, object, vpc) in rows {
        keys.insert(key(&kind, &object, &vpc)?);
    }
    let objects = objects::read(&mut db, naming, host, &keys).await?;
    Ok(Some(HostState::new(generation, objects)))
}

/// What is different for `host` since generation `from`; `None` when there is no such host.
///
/// # Errors
///
/// The database away.
pub async fn read_changes(
    store: &Store,
    naming: &Naming,
    host: HostId,
    from: i64,
) -> Result<Option<Since>> {
    let mut db = store.snapshot().await?;
    let Some(to) = generation(&mut db, host).await? else { return Ok(None) };
    if from == to {
        return Ok(Some(Since::Same));
    }
    // A host that is ahead holds the state of another database, or of one that was restored.
    if from < 1 || from > to {
        return Ok(Some(Since::TooOld));
    }
    type Row = (i64, String, String, String, Json<BTreeMap<String, String>>);
    let rows: Vec<Row> = sqlx::query_as(sql!("state/changes"))
        .bind(host.to_string())
        .bind(from)
        .bind(ROWS_MAX + 1)
        .fetch_all(&mut *db)
        .await?;
    // Each generation has a row at least, so a missing one was pruned.
    let generations: BTreeSet<i64> = rows.iter().map(|row| row.0).collect();
    if rows.len() as i64 > ROWS_MAX || generations.len() as i64 != to - from {
        return Ok(Some(Since::TooOld));
    }
    let context = rows.last().map(|row| row.4.0.clone()).unwrap_or_default();
    let mut keys = BTreeSet::new();
    let mut vpcs = BTreeSet::new();
    for (_, kind, object, vpc, _) in &rows {
        keys.insert(key(kind, object, vpc)?);
        if kind == "attachment" {
            vpcs.insert(vpc.clone());
        }
    }
    // With an attachment, the names of its VPC come and go.
    if !vpcs.is_empty() {
        let vpcs: Vec<_> = vpcs.into_iter().collect();
        let endpoints: Vec<(String, String)> =
            sqlx::query_as(sql!("state/endpoints_of_vpcs")).bind(&vpcs).fetch_all(&mut *db).await?;
        for (endpoint, vpc) in endpoints {
            keys.insert(key("names", &endpoint, &vpc)?);
        }
    }
    let upserts = objects::read(&mut db, naming, host, &keys).await?;
    for object in &upserts {
        keys.remove(&object.key());
    }
    let change = Change { from, to, upserts, removals: keys.into_iter().collect() };
    Ok(Some(Since::Changed(change, context)))
}

/// The generation of a host's desired state.
pub(crate) async fn generation(db: &mut PgConnection, host: HostId) -> Result<Option<i64>> {
    let generation = sqlx::query_scalar(sql!("state/generation"))
        .bind(host.to_string())
        .fetch_optional(db)
        .await?;
    Ok(generation)
}

fn key(kind: &str, object: &str, vpc: &str) -> Result<Key> {
    match kind {
        "attachment" => Ok(Key::Attachment(stored(object)?)),
        "interface" => Ok(Key::Interface(stored(object)?)),
        "names" => Ok(Key::Names(stored(vpc)?, stored(object)?)),
        _ => Err(Error::internal(format!("{kind:?} is no kind of object"))),
    }
}

/// A value that the database holds as text: malformed, it is our fault.
pub(crate) fn stored<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        let kind = std::any::type_name::<T>();
        Error::internal(format!("the database holds {text:?} for a {kind}"))
    })
}
