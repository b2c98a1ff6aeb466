//! Endpoint services: what a provider offers.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::zone::ZoneId;

/// How many ports a service may offer (spec 5.1).
pub const LISTENERS_MAX: usize = 50;
/// How many targets a listener may have (spec 9).
pub const TARGETS_MAX: usize = 500;
/// The default time without a byte after which a connection is reset, in seconds (spec 5.5).
pub const IDLE_TIMEOUT_SECONDS: u32 = 350;
/// The range that the idle timeout may be set to, in seconds (spec 5.5).
pub const IDLE_TIMEOUT_RANGE: std::ops::RangeInclusive<u32> = 60..=6000;

/// A server that a listener forwards connections to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Its address in the provider's VPC.
    pub address: Ipv4Addr,
    /// Its TCP port, not 0.
    pub port: u16,
    /// The zone that it stands in.
    pub zone: ZoneId,
}

/// A port that consumers may connect to, and who answers there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// The TCP port at the endpoint's addresses, not 0.
    pub port: u16,
    /// The servers.
    pub targets: Vec<Target>,
}

/// The zones that a service is offered in: those where every listener has a target. A zone that could
/// answer on some ports only would make the same name behave differently from address to address.
pub fn zones(listeners: &[Listener]) -> Vec<ZoneId> {
    let Some(first) = listeners.first() else { return Vec::new() };
    let has = |listener: &Listener, zone: &ZoneId| {
        listener.targets.iter().any(|target| target.zone == *zone)
    };
    let mut zones: Vec<_> = first
        .targets
        .iter()
        .map(|target| target.zone.clone())
        .filter(|zone| listeners.iter().all(|listener| has(listener, zone)))
        .collect();
    zones.sort();
    zones.dedup();
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_offered_where_every_port_is_answered() {
        let target = |zone: &str| Target {
            address: Ipv4Addr::new(10, 0, 0, 1),
            port: 80,
            zone: zone.parse().unwrap(),
        };
        let listeners = [
            Listener { port: 80, targets: vec![target("use1-az2"), target("use1-az1")] },
            Listener { port: 443, targets: vec![target("use1-az1"), target("use1-az3")] },
        ];
        assert_eq!(zones(&listeners), ["use1-az1".parse().unwrap()]);
        assert_eq!(zones(&listeners[..1]).len(), 2);
    }
}
