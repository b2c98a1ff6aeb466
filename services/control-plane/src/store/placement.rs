//! Which host an interface goes to (design 7).
//!
//! Who is alive is decided by the database's clock: replicas whose own clocks differ must agree on it.

use std::time::Duration;

use postern_model::id::{EndpointId, HostId, NetworkInterfaceId, VpcId};
use postern_model::zone::ZoneId;
use sqlx::PgConnection;

use super::sql;
use super::state::stored;
use crate::error::Result;

/// A host that was heard of within this time takes new interfaces. Agents report every few seconds.
pub const HEARD_LATELY: Duration = Duration::from_secs(15);

/// A host that may take interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The host.
    pub host: HostId,
    /// The zone that it stands in.
    pub zone: ZoneId,
    /// How many interfaces it owns.
    pub load: i64,
}

/// The best host for an interface in each of `zones`, in their order: a host that reaches `vpc` (where
/// the addresses are) and `target_vpc` (where the targets are) and was heard of lately; of the same
/// zone if there is one, else any, the least loaded first. `None` where there is none.
///
/// The caller must hold both VPCs (`FOR KEY SHARE` at least) since an earlier statement, so that an
/// attachment that comes or goes meanwhile is seen.
///
/// # Errors
///
/// The database away.
pub async fn choose(
    db: &mut PgConnection,
    vpc: VpcId,
    target_vpc: VpcId,
    zones: &[ZoneId],
) -> Result<Vec<Option<HostId>>> {
    let mut candidates = candidates(db, vpc, target_vpc, HEARD_LATELY).await?;
    Ok(zones.iter().map(|zone| assign(&mut candidates, zone)).collect())
}

/// The hosts that [`choose`] chooses among, with `lease` in place of [`HEARD_LATELY`].
///
/// # Errors
///
/// The database away.
pub async fn candidates(
    db: &mut PgConnection,
    vpc: VpcId,
    target_vpc: VpcId,
    lease: Duration,
) -> Result<Vec<Candidate>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(sql!("placement/candidates"))
        .bind(vpc.to_string())
        .bind(target_vpc.to_string())
        .bind(lease.as_secs_f64())
        .fetch_all(db)
        .await?;
    let candidate = |(host, zone, load): (String, String, i64)| {
        Ok(Candidate { host: stored(&host)?, zone: stored(&zone)?, load })
    };
    rows.into_iter().map(candidate).collect()
}

/// An interface without a host, or with one that is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adrift {
    /// The interface.
    pub interface: NetworkInterfaceId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// The zone that it is in.
    pub zone: ZoneId,
    /// The silent host that owns it; `None` when none does.
    pub host: Option<HostId>,
    /// Whether its endpoint's names lead anywhere.
    pub published: bool,
}

/// Which interfaces are adrift: those without a host and, where a `lease` is given, those whose host
/// was not heard of for so long.
pub type Lease = Option<Duration>;

/// The pairs of VPCs (addresses, targets) in which interfaces are adrift.
///
/// # Errors
///
/// The database away.
pub async fn adrift(db: &mut PgConnection, lease: Lease) -> Result<Vec<(VpcId, VpcId)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(sql!("placement/adrift"))
        .bind(lease.unwrap_or_default().as_secs_f64())
        .bind(lease.is_some())
        .fetch_all(db)
        .await?;
    rows.iter().map(|(vpc, target_vpc)| Ok((stored(vpc)?, stored(target_vpc)?))).collect()
}

/// Locks at most `most` interfaces that are adrift in `vpc` with targets in `target_vpc`, with their
/// endpoints, and holds both VPCs. What somebody else has locked is left out.
///
/// # Errors
///
/// The database away.
pub async fn lock_adrift(
    db: &mut PgConnection,
    lease: Lease,
    vpc: VpcId,
    target_vpc: VpcId,
    most: i64,
) -> Result<Vec<Adrift>> {
    sqlx::query(sql!("placement/hold"))
        .bind([vpc.to_string(), target_vpc.to_string()])
        .execute(&mut *db)
        .await?;
    let rows: Vec<(String, String, String, Option<String>, bool)> =
        sqlx::query_as(sql!("placement/lock_adrift"))
            .bind(lease.unwrap_or_default().as_secs_f64())
            .bind(lease.is_some())
            .bind(vpc.to_string())
            .bind(target_vpc.to_string())
            .bind(most)
            .fetch_all(db)
            .await?;
    let adrift = rows.into_iter().map(|(interface, endpoint, zone, host, published)| {
        Ok(Adrift {
            interface: stored(&interface)?,
            endpoint: stored(&endpoint)?,
            zone: stored(&zone)?,
            host: host.as_deref().map(stored).transpose()?,
            published,
        })
    });
    adrift.collect()
}

/// Gives interfaces to hosts, each under a new epoch and not bound yet. The caller advances the hosts.
///
/// # Errors
///
/// The database away.
pub async fn give(db: &mut PgConnection, moves: &[(NetworkInterfaceId, HostId)]) -> Result<()> {
    let (interfaces, hosts): (Vec<_>, Vec<_>) =
        moves.iter().map(|(interface, host)| (interface.to_string(), host.to_string())).unzip();
    sqlx::query(sql!("placement/move")).bind(&interfaces).bind(&hosts).execute(db).await?;
    Ok(())
}

/// Takes the best candidate for one interface in `zone`, and counts it in: of the same zone if there
/// is one, then the least loaded, then the lowest id, so that equal questions have equal answers.
pub fn assign(candidates: &mut [Candidate], zone: &ZoneId) -> Option<HostId> {
    let best = candidates
        .iter_mut()
        .min_by_key(|candidate| (candidate.zone != *zone, candidate.load, candidate.host))?;
    best.load += 1;
    Some(best.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(digit: char, zone: &str, load: i64) -> Candidate {
        let host = format!("host-0000000000000000{digit}").parse().unwrap();
        Candidate { host, zone: zone.parse().unwrap(), load }
    }

    #[test]
    fn a_host_of_the_zone_is_preferred_to_an_idle_one_elsewhere() {
        let mut hosts = [candidate('1', "use1-az1", 0), candidate('2', "use1-az2", 9)];
        let zone = "use1-az2".parse().unwrap();
        assert_eq!(assign(&mut hosts, &zone), Some(hosts[1].host));
    }

    #[test]
    fn interfaces_without_a_host_in_their_zone_are_spread_over_the_others() {
        let mut hosts = [candidate('1', "use1-az1", 0), candidate('2', "use1-az1", 1)];
        let zone = "use1-az3".parse().unwrap();
        let chosen: Vec<_> = (0..4).filter_map(|_| assign(&mut hosts, &zone)).collect();
        let (one, two) = (hosts[0].host, hosts[1].host);
        assert_eq!(chosen, [one, one, two, one]);
    }

    #[test]
    fn without_candidates_there_is_no_host() {
        assert_eq!(assign(&mut [], &"use1-az1".parse().unwrap()), None);
    }
}
