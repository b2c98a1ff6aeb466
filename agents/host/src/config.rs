//! The agent's configuration. No other code looks at the environment.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use postern_model::zone::ZoneId;
use postern_runtime::config::{
    Faults, Seconds, Secret, Vars, flag, list, maybe, optional, required, secret,
};

/// What an agent is told when it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `POSTERN_CONTROL_PLANE`: where the control plane serves hosts, as `host:port`.
    pub control_plane: String,
    /// `POSTERN_HOST_NAME`: the host's name, unique in the fleet; the machine's when not given.
    pub host_name: String,
    /// `POSTERN_ZONE`: the id of the zone that the host stands in, such as `use1-az1`.
    pub zone: ZoneId,
    /// `POSTERN_JOIN_TOKEN`: what a host enrols with. Not needed once it has an identity.
    pub join_token: Option<Secret>,
    /// `POSTERN_CA_FILE`: the certificate of the control plane's authority, PEM. Awaited, when it is
    /// not there yet.
    pub ca_file: PathBuf,
    /// `POSTERN_STATE_DIR`: where the identity and the last state are kept.
    pub state_dir: PathBuf,
    /// `POSTERN_ADMIN_LISTEN`: where health, readiness and metrics are served; nowhere when `off`.
    pub admin_listen: SocketAddr,
    /// `POSTERN_RESOLVER_PORT`: the port of the VPCs' resolvers, UDP and TCP.
    pub resolver_port: u16,
    /// `POSTERN_DNS_UPSTREAMS`: resolvers that everything else is forwarded to, as `address:port`,
    /// comma separated; those of the machine when not given.
    pub dns_upstreams: Vec<SocketAddr>,
    /// `POSTERN_DNS_FORWARDING`: whether anything is forwarded at all.
    pub dns_forwarding: bool,
    /// `POSTERN_DNS_SUFFIX`: what the names of endpoints end in, as on the control plane.
    pub dns_suffix: String,
    /// `POSTERN_WORKERS`: the forwarder's threads; one a core when not given.
    pub workers: Option<NonZeroUsize>,
    /// `POSTERN_REPORT_SECONDS`: how often the host reports, which is its heartbeat too.
    pub report_every: Duration,
    /// `POSTERN_DRAIN_SECONDS`: how long open connections may go on after the agent is told to stop.
    pub drain: Duration,
}

impl AgentConfig {
    /// Reads the agent's whole configuration.
    ///
    /// # Errors
    ///
    /// Every setting that is missing or not well formed.
    pub fn load(vars: &Vars<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let control_plane: Option<String> = required(vars, "POSTERN_CONTROL_PLANE", &mut faults);
        let zone = required(vars, "POSTERN_ZONE", &mut faults);
        let ca_file: Option<PathBuf> = required(vars, "POSTERN_CA_FILE", &mut faults);
        let host_name = maybe(vars, "POSTERN_HOST_NAME", &mut faults).or_else(machine_name);
        let join_token = secret(vars, "POSTERN_JOIN_TOKEN", &mut faults);
        let state_dir = optional(
            vars,
            "POSTERN_STATE_DIR",
            PathBuf::from("/var/lib/postern-agent"),
            &mut faults,
        );
        let admin_listen = optional(
            vars,
            "POSTERN_ADMIN_LISTEN",
            SocketAddr::from(([0, 0, 0, 0], 9103)),
            &mut faults,
        );
        let resolver_port = optional(vars, "POSTERN_RESOLVER_PORT", 53, &mut faults);
        let dns_upstreams = list(vars, "POSTERN_DNS_UPSTREAMS", &mut faults);
        let dns_forwarding = flag(vars, "POSTERN_DNS_FORWARDING", true, &mut faults);
        let dns_suffix =
            optional(vars, "POSTERN_DNS_SUFFIX", "vpce.amazonaws.com".to_owned(), &mut faults);
        let workers = maybe(vars, "POSTERN_WORKERS", &mut faults);
        let report_every = optional(vars, "POSTERN_REPORT_SECONDS", Seconds(3), &mut faults);
        let drain = optional(vars, "POSTERN_DRAIN_SECONDS", Seconds(20), &mut faults);
        if host_name.is_none() {
            faults.push("POSTERN_HOST_NAME", "is not given, and the machine has no name");
        }
        if report_every.0 == 0 {
            faults.push("POSTERN_REPORT_SECONDS", "must be at least 1");
        }
        faults.check()?;
        // Nothing is missing where there is no fault.
        let (Some(control_plane), Some(zone), Some(ca_file), Some(host_name)) =
            (control_plane, zone, ca_file, host_name)
        else {
            return Err(Faults::new());
        };
        Ok(Self {
            control_plane,
            host_name,
            zone,
            join_token,
            ca_file,
            state_dir,
            admin_listen,
            resolver_port,
            dns_upstreams,
            dns_forwarding,
            dns_suffix,
            workers,
            report_every: report_every.into(),
            drain: drain.into(),
        })
    }
}

fn machine_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_setting_is_named_at_once() {
        let faults = AgentConfig::load(&Vars::from_fn(|_| None)).unwrap_err().to_string();
        for name in ["POSTERN_CONTROL_PLANE", "POSTERN_ZONE", "POSTERN_CA_FILE"] {
            assert!(faults.contains(name), "{faults}");
        }
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let vars = Vars::from_pairs([
            ("POSTERN_CONTROL_PLANE", "cp:50052"),
            ("POSTERN_ZONE", "use1-az1"),
            ("POSTERN_CA_FILE", "/ca.pem"),
            ("POSTERN_HOST_NAME", "h1"),
        ]);
        let config = AgentConfig::load(&vars).unwrap();
        assert_eq!(config.resolver_port, 53);
        assert_eq!(config.report_every, Duration::from_secs(3));
        assert!(config.dns_forwarding && config.dns_upstreams.is_empty());
    }
}
