//! What agents say: that they are there, what is bound on them, and what their meters read.
//!
//! Whoever writes here names the stream (`session`) that it heard it on, since a host has one stream:
//! a write that finds another session was overtaken by a newer stream.

use postern_model::id::{AttachmentId, EndpointId, HostId, NetworkInterfaceId, VpcId};
use sqlx::PgConnection;

use super::sql;
use super::state::stored;
use crate::error::Result;

/// More than any meter reaches, and far from where sums would overflow.
const METER_MAX: u64 = 1 << 56;

/// What a host says of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The interface.
    pub interface: NetworkInterfaceId,
    /// The ownership that this is about.
    pub epoch: i64,
    /// Whether its address is there and, when serving, every listener is open.
    pub bound: bool,
    /// Why it is not bound; empty otherwise.
    pub error: String,
}

/// An endpoint for which a status was news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Whether its names lead elsewhere now.
    pub names: bool,
    /// Whether it waits for its interfaces.
    pub unsettled: bool,
}

/// The meters of one interface, as its agent reads them since it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The interface.
    pub interface: NetworkInterfaceId,
    /// Bytes from clients to targets.
    pub bytes_in: u64,
    /// Bytes from targets to clients.
    pub bytes_out: u64,
    /// Connections open now.
    pub active: u64,
    /// Connections accepted.
    pub total: u64,
    /// Connections that no target took.
    pub failed: u64,
}

/// The id of the host `name`, which stands in `zone`: `fresh` if it was not known.
///
/// # Errors
///
/// The database away.
pub async fn join(db: &mut PgConnection, fresh: HostId, name: &str, zone: &str) -> Result<HostId> {
    let id: String = sqlx::query_scalar(sql!("reports/join"))
        .bind(fresh.to_string())
        .bind(name)
        .bind(zone)
        .fetch_one(db)
        .await?;
    stored(&id)
}

/// The name of a host; `None` when it was removed.
///
/// # Errors
///
/// The database away.
pub async fn name_of(db: &mut PgConnection, host: HostId) -> Result<Option<String>> {
    let name = sqlx::query_scalar(sql!("reports/name_of"))
        .bind(host.to_string())
        .fetch_optional(db)
        .await?;
    Ok(name)
}

/// Begins a stream of `host`, which ends the one before; its session. `None` when there is no such
/// host any more.
///
/// # Errors
///
/// The database away.
pub async fn begin(
    db: &mut PgConnection,
    host: HostId,
    agent_version: &str,
    held: i64,
) -> Result<Option<i64>> {
    let session = sqlx::query_scalar(sql!("reports/begin"))
        .bind(host.to_string())
        .bind(agent_version)
        .bind(held)
        .fetch_optional(db)
        .await?;
    Ok(session)
}

/// The newest session of a host and the generation of its desired state.
///
/// # Errors
///
/// The database away.
pub async fn present(db: &mut PgConnection, host: HostId) -> Result<Option<(i64, i64)>> {
    let present =
        sqlx::query_as(sql!("reports/present")).bind(host.to_string()).fetch_optional(db).await?;
    Ok(present)
}

/// Notes that the host was heard of; `false` when a newer stream has taken over.
///
/// # Errors
///
/// The database away.
pub async fn seen(db: &mut PgConnection, host: HostId, session: i64) -> Result<bool> {
    let done =
        sqlx::query(sql!("reports/seen")).bind(host.to_string()).bind(session).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that the stream ended, unless a newer one has taken over.
///
/// # Errors
///
/// The database away.
pub async fn end(db: &mut PgConnection, host: HostId, session: i64) -> Result<()> {
    sqlx::query(sql!("reports/end")).bind(host.to_string()).bind(session).execute(db).await?;
    Ok(())
}

/// Moves the host one generation on, though nothing changed.
///
/// # Errors
///
/// The database away.
pub async fn skip(db: &mut PgConnection, host: HostId) -> Result<()> {
    sqlx::query(sql!("reports/skip")).bind(host.to_string()).execute(db).await?;
    Ok(())
}

/// Notes the generation that the host has applied; `false` when a newer stream has taken over.
///
/// # Errors
///
/// The database away.
pub async fn applied(
    db: &mut PgConnection,
    host: HostId,
    session: i64,
    generation: i64,
) -> Result<bool> {
    let done = sqlx::query(sql!("reports/applied"))
        .bind(host.to_string())
        .bind(session)
        .bind(generation)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Holds what a word of `host` about these interfaces, as of `generation`, will change: their VPCs and
/// endpoints, then the interfaces, and with them those that the host has let go of by then. One
/// statement holds both kinds, because the order of interfaces is by id: whoever holds one and waits
/// for one before it may be waited for.
///
/// # Errors
///
/// The database away.
async fn hold(db: &mut PgConnection, host: HostId, generation: i64, ids: &[String]) -> Result<()> {
    sqlx::query(sql!("reports/hold")).bind(host.to_string()).bind(ids).execute(&mut *db).await?;
    sqlx::query(sql!("reports/hold_interfaces"))
        .bind(host.to_string())
        .bind(ids)
        .bind(generation)
        .execute(db)
        .await?;
    Ok(())
}

/// Notes what `host` says of its interfaces while it holds `generation`. What is not its own, or no
/// more, is left out. What the host has let go of by then is held too, in one order with them, so that
/// [`super::interfaces::release`] may follow.
///
/// # Errors
///
/// The database away.
pub async fn statuses(
    db: &mut PgConnection,
    host: HostId,
    generation: i64,
    statuses: &[Status],
) -> Result<Vec<News>> {
    if statuses.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = statuses.iter().map(|status| status.interface.to_string()).collect();
    let epochs: Vec<_> = statuses.iter().map(|status| status.epoch).collect();
    let bound: Vec<_> = statuses.iter().map(|status| status.bound).collect();
    let errors: Vec<_> = statuses.iter().map(|status| status.error.as_str()).collect();
    hold(&mut *db, host, generation, &ids).await?;
    let news: Vec<(String, String, bool, bool)> = sqlx::query_as(sql!("reports/statuses"))
        .bind(host.to_string())
        .bind(&ids)
        .bind(&epochs)
        .bind(&bound)
        .bind(&errors)
        .bind(generation)
        .fetch_all(db)
        .await?;
    let news = news.into_iter().map(|(endpoint, vpc, names, unsettled)| {
        Ok(News { endpoint: stored(&endpoint)?, vpc: stored(&vpc)?, names, unsettled })
    });
    news.collect()
}

/// Notes where the resolvers of `host` listen, as `address:port`; empty where one does not.
///
/// # Errors
///
/// The database away.
pub async fn resolvers(
    db: &mut PgConnection,
    host: HostId,
    resolvers: &[(AttachmentId, String)],
) -> Result<()> {
    if resolvers.is_empty() {
        return Ok(());
    }
    let (ids, endpoints): (Vec<_>, Vec<_>) =
        resolvers.iter().map(|(id, endpoint)| (id.to_string(), endpoint.as_str())).unzip();
    sqlx::query(sql!("reports/resolvers"))
        .bind(host.to_string())
        .bind(&ids)
        .bind(&endpoints)
        .execute(db)
        .await?;
    Ok(())
}

/// Adds what the meters of interfaces that `host` owns have counted since they were last read. `boot`
/// names the agent's run, whose meters started from zero.
///
/// # Errors
///
/// The database away.
pub async fn usage(db: &mut PgConnection, host: HostId, boot: &str, usage: &[Usage]) -> Result<()> {
    if usage.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = usage.iter().map(|usage| usage.interface.to_string()).collect();
    let column = |read: fn(&Usage) -> u64| -> Vec<i64> {
        usage.iter().map(|usage| read(usage).min(METER_MAX) as i64).collect()
    };
    sqlx::query(sql!("reports/usage"))
        .bind(host.to_string())
        .bind(boot)
        .bind(&ids)
        .bind(column(|usage| usage.bytes_in))
        .bind(column(|usage| usage.bytes_out))
        .bind(column(|usage| usage.total))
        .bind(column(|usage| usage.failed))
        .bind(column(|usage| usage.active))
        .execute(db)
        .await?;
    Ok(())
}
