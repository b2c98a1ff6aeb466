//! The control plane's configuration, read whole before anything is opened. No other code looks at
//! the environment. Each setting may be given as a file instead, by its name and `_FILE`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_model::dns::Suffixes;
use postern_model::zone::{Region, ZoneId};
use postern_runtime::config::{
    Faults, Seconds, Secret, Vars, flag, list, maybe, optional, required_secret, secret,
};

use crate::app::{Quotas, Settings, Times};
use crate::store::state::Naming;

/// Keys that people make up are guessed; these are meant to come out of a generator.
const SECRET_MIN: usize = 16;

/// Everything that the control plane is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: Database,
    /// The ports.
    pub listen: Listen,
    /// The region, its names, quotas and times.
    pub settings: Settings,
    /// What the names of endpoints are made from.
    pub naming: Naming,
    /// The fleet and its identities.
    pub fleet: FleetConfig,
    /// Who may be the operator: `POSTERN_OPERATOR_KEY`.
    pub operator_key: Secret,
    /// The message broker: `POSTERN_AMQP_URL`. `None` only where a bus is handed in.
    pub amqp_url: Option<Secret>,
    /// The dispatcher's internal port, `host:port`: `POSTERN_DISPATCHER_INTERNAL_ADDRESS`. `None`
    /// only where the topics are handed in.
    pub dispatcher: Option<String>,
    /// For how long one replica relays events without saying so again, which it does three times in
    /// that: after a kill, events wait for at most so long. `POSTERN_RELAY_LEASE_SECONDS`, 6.
    pub relay_lease: Duration,
    /// How long calls and streams may go on after a stop is asked for: `POSTERN_DRAIN_SECONDS`, 20.
    pub drain: Duration,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Database {
    /// `POSTERN_DATABASE_URL`.
    pub url: Secret,
    /// Connections at most: `POSTERN_DATABASE_CONNECTIONS`, 20.
    pub connections: u32,
    /// Whether the schema is brought up to date at the start: `POSTERN_MIGRATE`, on.
    pub migrate: bool,
}

/// The ports.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The public API: `POSTERN_LISTEN`, 0.0.0.0:50051.
    pub api: SocketAddr,
    /// Agents and other services, mTLS: `POSTERN_AGENT_LISTEN`, 0.0.0.0:50052.
    pub agents: SocketAddr,
    /// Health and metrics: `POSTERN_ADMIN_LISTEN`, 0.0.0.0:9101.
    pub admin: SocketAddr,
    /// Certificate and key of the public API, PEM: `POSTERN_API_TLS_CERT` and `POSTERN_API_TLS_KEY`.
    /// Without them it is plain HTTP/2.
    pub api_tls: Option<(PathBuf, PathBuf)>,
    /// For a unary call to be answered: `POSTERN_UNARY_TIMEOUT_SECONDS`, 30.
    pub unary_timeout: Duration,
}

/// The fleet and its identities.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// What hosts and services join with: `POSTERN_JOIN_TOKEN`.
    pub join_token: Secret,
    /// Where the certificate authority is kept: `POSTERN_CA_DIR`, `/var/lib/postern/ca`. Replicas
    /// share it.
    pub ca_dir: PathBuf,
    /// Where the authority's certificate is written besides, as `ca.pem`, for others to mount without
    /// seeing the key: `POSTERN_CA_PUBLISH_DIR`, nowhere.
    pub ca_publish_dir: Option<PathBuf>,
    /// DNS names and addresses in our own certificate, for clients that look at those:
    /// `POSTERN_SERVER_NAMES`, comma separated. Postern's own clients check our SPIFFE id instead.
    pub server_names: Vec<String>,
    /// A host that is silent for so long loses its interfaces to another:
    /// `POSTERN_HOST_LEASE_SECONDS`, 15.
    pub host_lease: Duration,
}

impl Config {
    /// Reads the whole configuration.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub fn load(vars: &Vars<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let database = Database::load(vars, &mut faults);
        let listen = Listen::load(vars, &mut faults);
        let (settings, naming) = load_settings(vars, &mut faults);
        let fleet = FleetConfig::load(vars, &mut faults);
        let operator_key = strong(vars, "POSTERN_OPERATOR_KEY", &mut faults);
        let amqp_url = required_secret(vars, "POSTERN_AMQP_URL", &mut faults);
        let dispatcher = postern_runtime::config::required::<String>(
            vars,
            "POSTERN_DISPATCHER_INTERNAL_ADDRESS",
            &mut faults,
        );
        let relay_lease = optional(vars, "POSTERN_RELAY_LEASE_SECONDS", Seconds(6), &mut faults);
        // Less, and a database that is slow for a moment would hand the work to and fro.
        if !(Seconds(3)..=Seconds(300)).contains(&relay_lease) {
            faults.push("POSTERN_RELAY_LEASE_SECONDS", "must be from 3 to 300");
        }
        let drain = optional(vars, "POSTERN_DRAIN_SECONDS", Seconds(20), &mut faults).into();
        let (Some(database), Some(fleet), Some(operator_key)) = (database, fleet, operator_key)
        else {
            return Err(faults);
        };
        faults.check()?;
        Ok(Self {
            database,
            listen,
            settings,
            naming,
            fleet,
            operator_key,
            amqp_url,
            dispatcher,
            relay_lease: relay_lease.into(),
            drain,
        })
    }
}

impl Database {
    /// Reads what is needed to open the database.
    ///
    /// # Errors
    ///
    /// Every mistake in it is noted; without a URL there is `None`.
    pub fn load(vars: &Vars<'_>, faults: &mut Faults) -> Option<Self> {
        let url = required_secret(vars, "POSTERN_DATABASE_URL", faults);
        let connections = optional(vars, "POSTERN_DATABASE_CONNECTIONS", 20, faults);
        // One is taken by LISTEN, and a request may need one while it holds another.
        if connections < 4 {
            faults.push("POSTERN_DATABASE_CONNECTIONS", "must be 4 or more");
        }
        let migrate = flag(vars, "POSTERN_MIGRATE", true, faults);
        Some(Self { url: url?, connections, migrate })
    }
}

impl Listen {
    fn load(vars: &Vars<'_>, faults: &mut Faults) -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let certificate = maybe::<PathBuf>(vars, "POSTERN_API_TLS_CERT", faults);
        let key = maybe::<PathBuf>(vars, "POSTERN_API_TLS_KEY", faults);
        match (&certificate, &key) {
            (Some(_), None) => {
                faults.push("POSTERN_API_TLS_KEY", "is needed with POSTERN_API_TLS_CERT");
            }
            (None, Some(_)) => {
                faults.push("POSTERN_API_TLS_CERT", "is needed with POSTERN_API_TLS_KEY");
            }
            _ => {}
        }
        let unary = optional(vars, "POSTERN_UNARY_TIMEOUT_SECONDS", Seconds(30), faults);
        Self {
            api: optional(vars, "POSTERN_LISTEN", any(50051), faults),
            agents: optional(vars, "POSTERN_AGENT_LISTEN", any(50052), faults),
            admin: optional(vars, "POSTERN_ADMIN_LISTEN", any(9101), faults),
            api_tls: certificate.zip(key),
            unary_timeout: unary.into(),
        }
    }
}

impl FleetConfig {
    fn load(vars: &Vars<'_>, faults: &mut Faults) -> Option<Self> {
        let join_token = strong(vars, "POSTERN_JOIN_TOKEN", faults);
        let ca_dir = optional(vars, "POSTERN_CA_DIR", PathBuf::from("/var/lib/postern/ca"), faults);
        let ca_publish_dir = maybe::<PathBuf>(vars, "POSTERN_CA_PUBLISH_DIR", faults);
        if ca_publish_dir.as_ref() == Some(&ca_dir) {
            faults.push("POSTERN_CA_PUBLISH_DIR", "is POSTERN_CA_DIR, where the key is");
        }
        let server_names = list(vars, "POSTERN_SERVER_NAMES", faults);
        let host_lease = optional(vars, "POSTERN_HOST_LEASE_SECONDS", Seconds(15), faults);
        // Agents report every few seconds: less than two reports would move interfaces for nothing.
        if host_lease < Seconds(5) {
            faults.push("POSTERN_HOST_LEASE_SECONDS", "must be 5 or more");
        }
        Some(Self {
            join_token: join_token?,
            ca_dir,
            ca_publish_dir,
            server_names,
            host_lease: host_lease.into(),
        })
    }
}

fn load_settings(vars: &Vars<'_>, faults: &mut Faults) -> (Settings, Naming) {
    let region: Region = maybe(vars, "POSTERN_REGION", faults).unwrap_or_else(default_region);
    let mut zones: Vec<ZoneId> = list(vars, "POSTERN_ZONES", faults);
    if zones.is_empty() {
        zones = (1..=3).map(|number| region.zone_id(number)).collect();
    }
    let of_region = format!("{}-az", region.abbreviation());
    for zone in zones.iter().filter(|zone| !zone.as_str().starts_with(&of_region)) {
        faults.push("POSTERN_ZONES", format!("has {zone}, which is no zone of {region}"));
    }
    let suffixes: Suffixes = maybe(vars, "POSTERN_DNS_SUFFIX", faults).unwrap_or_default();
    let settings = Settings {
        region: region.clone(),
        zones,
        dns_suffix: suffixes.to_string(),
        quotas: load_quotas(vars, faults),
        times: load_times(vars, faults),
    };
    (settings, Naming { region, suffixes })
}

/// AWS's first region, as everywhere in its documentation.
fn default_region() -> Region {
    // The text is a region: the model's tests parse it.
    "us-east-1".parse().unwrap_or_else(|_| unreachable!())
}

fn load_quotas(vars: &Vars<'_>, faults: &mut Faults) -> Quotas {
    let mut quotas = Quotas::default();
    for (name, quota) in [
        ("POSTERN_QUOTA_VPCS", &mut quotas.vpcs),
        ("POSTERN_QUOTA_SUBNETS_PER_VPC", &mut quotas.subnets_per_vpc),
        ("POSTERN_QUOTA_GROUPS_PER_VPC", &mut quotas.groups_per_vpc),
        ("POSTERN_QUOTA_RULES_PER_GROUP", &mut quotas.rules_per_group),
        ("POSTERN_QUOTA_GROUPS_PER_INTERFACE", &mut quotas.groups_per_interface),
        ("POSTERN_QUOTA_ENDPOINTS_PER_VPC", &mut quotas.endpoints_per_vpc),
        ("POSTERN_QUOTA_SERVICES", &mut quotas.services),
        ("POSTERN_QUOTA_PRINCIPALS_PER_SERVICE", &mut quotas.principals_per_service),
        ("POSTERN_QUOTA_NOTIFICATIONS_PER_RESOURCE", &mut quotas.notifications_per_resource),
    ] {
        *quota = optional(vars, name, *quota, faults);
    }
    quotas
}

fn load_times(vars: &Vars<'_>, faults: &mut Faults) -> Times {
    let mut times = Times::default();
    for (name, time) in [
        ("POSTERN_PENDING_ACCEPTANCE_SECONDS", &mut times.pending_acceptance_ttl),
        ("POSTERN_PENDING_TIMEOUT_SECONDS", &mut times.pending_timeout),
        ("POSTERN_DELETED_RETENTION_SECONDS", &mut times.deleted_retention),
        ("POSTERN_CLIENT_TOKEN_RETENTION_SECONDS", &mut times.client_token_retention),
        ("POSTERN_ADDRESS_REST_SECONDS", &mut times.address_rest),
        ("POSTERN_WATCH_REFRESH_SECONDS", &mut times.watch_refresh),
    ] {
        *time = optional(vars, name, Seconds(time.as_secs()), faults).into();
    }
    if times.watch_refresh.is_zero() {
        faults.push("POSTERN_WATCH_REFRESH_SECONDS", "must be 1 or more");
    }
    times
}

fn strong(vars: &Vars<'_>, name: &str, faults: &mut Faults) -> Option<Secret> {
    if secret(vars, name, &mut Faults::new()).is_some_and(|text| text.expose().len() < SECRET_MIN) {
        faults.push(name, format!("is shorter than {SECRET_MIN} characters"));
        return None;
    }
    required_secret(vars, name, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: [(&str, &str); 5] = [
        ("POSTERN_DATABASE_URL", "postgres://postern@localhost/postern"),
        ("POSTERN_AMQP_URL", "amqp://localhost"),
        ("POSTERN_OPERATOR_KEY", "0123456789abcdef"),
        ("POSTERN_JOIN_TOKEN", "fedcba9876543210"),
        ("POSTERN_DISPATCHER_INTERNAL_ADDRESS", "dispatcher:50062"),
    ];

    #[test]
    fn what_has_a_default_need_not_be_given() {
        let config = Config::load(&Vars::from_pairs(LEAST)).unwrap();
        assert_eq!(config.listen.api.port(), 50051);
        assert_eq!(config.listen.agents.port(), 50052);
        assert_eq!(config.settings.zones.len(), 3);
        assert_eq!(config.settings.dns_suffix, "vpce.amazonaws.com");
        assert_eq!(config.settings.quotas.endpoints_per_vpc, 50);
        assert_eq!(config.fleet.host_lease, Duration::from_secs(15));
        assert!(config.database.migrate);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let vars = Vars::from_pairs(LEAST.into_iter().chain([
            ("POSTERN_OPERATOR_KEY", "hunter2"),
            ("POSTERN_ZONES", "use1-az1,euc1-az1"),
            ("POSTERN_API_TLS_CERT", "/tmp/cert.pem"),
            ("POSTERN_QUOTA_VPCS", "many"),
            ("POSTERN_HOST_LEASE_SECONDS", "1"),
            ("POSTERN_RELAY_LEASE_SECONDS", "1"),
            ("POSTERN_CA_PUBLISH_DIR", "/var/lib/postern/ca"),
            ("POSTERN_DATABASE_CONNECTIONS", "1"),
        ]));
        let faults = Config::load(&vars).unwrap_err();
        let named: Vec<_> = faults.iter().map(|fault| fault.name.as_str()).collect();
        for name in [
            "POSTERN_OPERATOR_KEY",
            "POSTERN_ZONES",
            "POSTERN_API_TLS_KEY",
            "POSTERN_QUOTA_VPCS",
            "POSTERN_HOST_LEASE_SECONDS",
            "POSTERN_RELAY_LEASE_SECONDS",
            "POSTERN_CA_PUBLISH_DIR",
            "POSTERN_DATABASE_CONNECTIONS",
        ] {
            assert!(named.contains(&name), "{name} is not in {named:?}");
        }
        assert!(!faults.to_string().contains("hunter2"), "a secret is in the message");
    }

    #[test]
    fn what_has_no_default_is_named_when_it_is_missing() {
        let faults = Config::load(&Vars::from_pairs::<&str, &str>([])).unwrap_err();
        let named: Vec<_> = faults.iter().map(|fault| fault.name.as_str()).collect();
        for (name, _) in LEAST {
            assert!(named.contains(&name), "{name} is not in {named:?}");
        }
    }
}
