//! The dispatcher's settings. No other code looks at the environment.
//!
//! Each may also be given as `NAME_FILE`, the path of a file that holds the value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::Address;
use postern_model::zone::Region;
use postern_runtime::config::{
    Faults, Seconds, Secret, Vars, list, maybe, optional, required, required_secret, secret,
};
use url::Url;

use crate::deliver::SchedulerConfig;
use crate::deliver::email::{self, MailConfig, MailTls};
use crate::deliver::outbound::OutboundPolicy;
use crate::deliver::sign::keys::Sealing;
use crate::deliver::sign::seal::SealingKey;
use crate::identity::EnrolmentConfig;

/// What the dispatcher itself needs, in whatever process it runs.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// `POSTERN_DATABASE_URL`, required: `postgres://user:password@host:port/database`.
    pub database_url: Secret,
    /// `POSTERN_DATABASE_CONNECTIONS`, 16: the most connections at a time.
    pub database_connections: u32,
    /// `POSTERN_REGION`, `us-east-1`.
    pub region: Region,
    /// `POSTERN_PUBLIC_URL`, required: where receivers find the HTTP port; the base of the links in
    /// messages.
    pub public_url: String,
    /// `POSTERN_OUTBOUND_ALLOW`, none: ranges that webhooks may dial though they are not public
    /// (`10.1.0.0/16,fd00::/8`). `POSTERN_OUTBOUND_ALLOW_NAMES`, none: hosts whose names may lead to a
    /// private network (`hooks.corp.example,*.in.example`). `POSTERN_OUTBOUND_PORTS`: the ports; when empty 80, 443 and
    /// everything from 1024.
    pub outbound: OutboundPolicy,
    /// `POSTERN_OUTBOUND_CA_FILE`, none: authorities that webhooks trust besides the machine's, PEM.
    pub outbound_ca_file: Option<PathBuf>,
    /// `POSTERN_WEBHOOK_TIMEOUT_SECONDS`, 15: for one attempt. What a killed dispatcher had under way
    /// waits for that long and 5 s before it is tried again; with a mail server, for 35 s at least.
    pub webhook_timeout: Duration,
    /// `POSTERN_SMTP_*`: the mail server; without `POSTERN_SMTP_HOST` mails are not sent. `_TLS` is
    /// `starttls` (default), `implicit` or `none`; `_PORT` by default 587, 465 or 25; `_CA_FILE`:
    /// authorities to trust besides the machine's, PEM; `_USER` and `_PASSWORD`, none; `_FROM`, required.
    pub mail: Option<MailConfig>,
    /// `POSTERN_DELIVERIES_IN_FLIGHT`, 256, and `POSTERN_DELIVERIES_PER_TARGET`, 32.
    /// `POSTERN_DISABLE_AFTER_HOURS`, 120: a subscription that took nothing for so long, while ten
    /// messages or more were given up, is disabled.
    pub scheduler: SchedulerConfig,
    /// `POSTERN_RETENTION_DAYS`, 14: for how long deliveries can be looked at. They are kept by the day
    /// (UTC) of their message, and forgotten by whole days; a day on which something is still on its
    /// way stays.
    pub retention: Duration,
    /// `POSTERN_KEY_ENCRYPTION_KEY`, none: what the signing key is sealed with in the database, 32
    /// bytes in Base64; `POSTERN_KEY_ENCRYPTION_KEY_PREVIOUS`, none: the one before, while it is
    /// replaced.
    pub sealing: Sealing,
}

/// What the process needs besides.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The dispatcher itself.
    pub dispatcher: DispatcherConfig,
    /// `POSTERN_LISTEN`, `0.0.0.0:50061`: the public gRPC port.
    pub listen: SocketAddr,
    /// `POSTERN_TLS_CERT_FILE` and `POSTERN_TLS_KEY_FILE`, none: certificate and key of the public
    /// port, paths of PEM files; without them it is plain HTTP/2.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `POSTERN_INTERNAL_LISTEN`, `0.0.0.0:50062`: the port for other services, mTLS.
    pub internal_listen: SocketAddr,
    /// `POSTERN_HTTP_LISTEN`, `0.0.0.0:8090`: certificate and links.
    pub http_listen: SocketAddr,
    /// `POSTERN_ADMIN_LISTEN`, `127.0.0.1:9102`: health, readiness, metrics.
    pub admin_listen: SocketAddr,
    /// `POSTERN_AMQP_URL`, required: `amqp://user:password@host:port/%2f`.
    pub amqp_url: Secret,
    /// `POSTERN_CONTROL_PLANE` (`host:port`), `POSTERN_CA_FILE`, `POSTERN_JOIN_TOKEN` and
    /// `POSTERN_STATE_DIR` (`/var/lib/postern`).
    pub enrolment: EnrolmentConfig,
    /// `POSTERN_DRAIN_SECONDS`, 20: for attempts and calls under way when it stops.
    pub drain: Duration,
}

/// What `migrate` and `rotate-signing-key` need.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// `POSTERN_DATABASE_URL`, required.
    pub database_url: Secret,
    /// `POSTERN_KEY_ENCRYPTION_KEY` and `POSTERN_KEY_ENCRYPTION_KEY_PREVIOUS`, none.
    pub sealing: Sealing,
}

impl MigrateConfig {
    /// Reads it.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn load(vars: &Vars<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let database_url = required_secret(vars, "POSTERN_DATABASE_URL", &mut faults);
        let sealing = sealing(vars, &mut faults);
        match database_url {
            Some(database_url) if faults.is_empty() => Ok(Self { database_url, sealing }),
            _ => Err(faults),
        }
    }
}

/// A part of a configuration that is read after everything was noted: `None` is in the faults.
type Read<T> = Option<T>;

impl DispatcherConfig {
    /// Reads what the dispatcher needs in a process that is not its own.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn load(vars: &Vars<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        match Self::read(vars, &mut faults) {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    fn read(vars: &Vars<'_>, faults: &mut Faults) -> Read<Self> {
        let database_url = required_secret(vars, "POSTERN_DATABASE_URL", faults);
        let public_url = required::<Url>(vars, "POSTERN_PUBLIC_URL", faults);
        if public_url.as_ref().is_some_and(|url| !url.scheme().starts_with("http")) {
            faults.push("POSTERN_PUBLIC_URL", "must start with http:// or https://");
        }
        let region = match "us-east-1".parse() {
            Ok(default) => Some(optional(vars, "POSTERN_REGION", default, faults)),
            Err(_) => required(vars, "POSTERN_REGION", faults),
        };
        let defaults = SchedulerConfig::default();
        let scheduler = SchedulerConfig {
            in_flight: bounded(vars, "POSTERN_DELIVERIES_IN_FLIGHT", defaults.in_flight, faults),
            per_target: bounded(vars, "POSTERN_DELIVERIES_PER_TARGET", defaults.per_target, faults),
            ..defaults
        };
        let timeout: Duration =
            optional(vars, "POSTERN_WEBHOOK_TIMEOUT_SECONDS", Seconds(15), faults).into();
        if timeout.is_zero() || timeout > Duration::from_secs(60) {
            faults.push("POSTERN_WEBHOOK_TIMEOUT_SECONDS", "must be from 1 to 60");
        }
        let days = optional(vars, "POSTERN_RETENTION_DAYS", 14_u32, faults);
        if days == 0 || days > 3650 {
            faults.push("POSTERN_RETENTION_DAYS", "must be from 1 to 3650");
        }
        let connections =
            u32::try_from(bounded(vars, "POSTERN_DATABASE_CONNECTIONS", 16, faults)).ok();
        let hours = optional(vars, "POSTERN_DISABLE_AFTER_HOURS", 120_u32, faults);
        if hours == 0 || hours > 10_000 {
            faults.push("POSTERN_DISABLE_AFTER_HOURS", "must be from 1 to 10000");
        }
        let disable_after = Duration::from_secs(u64::from(hours) * 3600);
        let scheduler = SchedulerConfig { disable_after, ..scheduler };
        let sealing = sealing(vars, faults);
        let mail = mail(vars, faults);
        let longest = mail.as_ref().map_or(timeout, |_| timeout.max(email::TIMEOUT));
        let scheduler = SchedulerConfig { lease: SchedulerConfig::lease_of(longest), ..scheduler };
        let outbound = OutboundPolicy {
            allow: list(vars, "POSTERN_OUTBOUND_ALLOW", faults),
            ports: list(vars, "POSTERN_OUTBOUND_PORTS", faults),
            names: list(vars, "POSTERN_OUTBOUND_ALLOW_NAMES", faults),
        };
        Some(Self {
            database_url: database_url?,
            database_connections: connections?,
            region: region?,
            public_url: public_url?.to_string(),
            outbound,
            // A path already, so that there is no NAME_FILE of it.
            outbound_ca_file: vars.direct("POSTERN_OUTBOUND_CA_FILE").map(PathBuf::from),
            webhook_timeout: timeout,
            mail,
            scheduler,
            retention: Duration::from_secs(u64::from(days) * 24 * 3600),
            sealing,
        })
    }
}

/// A number from 1 to 10,000.
fn bounded(vars: &Vars<'_>, name: &str, default: usize, faults: &mut Faults) -> usize {
    let number = optional(vars, name, default, faults);
    if !(1..=10_000).contains(&number) {
        faults.push(name, "must be from 1 to 10000");
    }
    number
}

fn sealing(vars: &Vars<'_>, faults: &mut Faults) -> Sealing {
    let mut key = |name: &str| {
        let text = secret(vars, name, faults)?;
        SealingKey::new(&text).map_err(|error| faults.push(name, error.to_string())).ok()
    };
    let current = key("POSTERN_KEY_ENCRYPTION_KEY");
    let previous = key("POSTERN_KEY_ENCRYPTION_KEY_PREVIOUS");
    Sealing { current, previous }
}

fn mail(vars: &Vars<'_>, faults: &mut Faults) -> Option<MailConfig> {
    let host = maybe::<String>(vars, "POSTERN_SMTP_HOST", faults)?;
    let tls = optional(vars, "POSTERN_SMTP_TLS", MailTls::StartTls, faults);
    let port = match tls {
        MailTls::None => 25,
        MailTls::StartTls => 587,
        MailTls::Implicit => 465,
    };
    let port = optional(vars, "POSTERN_SMTP_PORT", port, faults);
    let user = maybe::<String>(vars, "POSTERN_SMTP_USER", faults);
    let password = secret(vars, "POSTERN_SMTP_PASSWORD", faults);
    if user.is_some() != password.is_some() {
        faults.push("POSTERN_SMTP_PASSWORD", "user and password are given both or not at all");
    }
    let from = required::<Address>(vars, "POSTERN_SMTP_FROM", faults)?;
    // A path already, so that there is no NAME_FILE of it.
    let ca_file = vars.direct("POSTERN_SMTP_CA_FILE").map(PathBuf::from);
    Some(MailConfig { host, port, tls, ca_file, credentials: user.zip(password), from })
}

impl ProcessConfig {
    /// Reads everything before failing on anything, so that one start reports every mistake.
    ///
    /// # Errors
    /// What is missing or malformed.
    pub fn load(vars: &Vars<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let dispatcher = DispatcherConfig::read(vars, &mut faults);
        let mut listen = |name: &str, default: [u8; 4], port: u16| {
            optional(vars, name, SocketAddr::from((default, port)), &mut faults)
        };
        let public = listen("POSTERN_LISTEN", [0; 4], 50061);
        let internal_listen = listen("POSTERN_INTERNAL_LISTEN", [0; 4], 50062);
        let http_listen = listen("POSTERN_HTTP_LISTEN", [0; 4], 8090);
        let admin_listen = listen("POSTERN_ADMIN_LISTEN", [127, 0, 0, 1], 9102);
        let amqp_url = required_secret(vars, "POSTERN_AMQP_URL", &mut faults);
        let control_plane = required::<String>(vars, "POSTERN_CONTROL_PLANE", &mut faults);
        let ca_file = vars.direct("POSTERN_CA_FILE").map(PathBuf::from);
        if ca_file.is_none() {
            faults.push("POSTERN_CA_FILE", "is missing");
        }
        let join_token = secret(vars, "POSTERN_JOIN_TOKEN", &mut faults);
        let state_dir =
            optional(vars, "POSTERN_STATE_DIR", PathBuf::from("/var/lib/postern"), &mut faults);
        let certificate = vars.direct("POSTERN_TLS_CERT_FILE").map(PathBuf::from);
        let key = vars.direct("POSTERN_TLS_KEY_FILE").map(PathBuf::from);
        if certificate.is_some() != key.is_some() {
            faults.push("POSTERN_TLS_KEY_FILE", "certificate and key are given both or not at all");
        }
        let drain = optional(vars, "POSTERN_DRAIN_SECONDS", Seconds(20), &mut faults).into();
        let (Some(dispatcher), Some(amqp_url), Some(control_plane), Some(ca_file)) =
            (dispatcher, amqp_url, control_plane, ca_file)
        else {
            return Err(faults);
        };
        faults.check()?;
        let dir = state_dir.join("identity");
        Ok(Self {
            dispatcher,
            listen: public,
            tls: certificate.zip(key),
            internal_listen,
            http_listen,
            admin_listen,
            amqp_url,
            enrolment: EnrolmentConfig { control_plane, ca_file, join_token, dir },
            drain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_at_once() {
        let vars = Vars::from_pairs([
            ("POSTERN_OUTBOUND_ALLOW", "10.0.0.0/99"),
            ("POSTERN_SMTP_HOST", "mail"),
            ("POSTERN_SMTP_TLS", "perhaps"),
        ]);
        let faults = ProcessConfig::load(&vars).unwrap_err().to_string();
        for name in [
            "POSTERN_DATABASE_URL",
            "POSTERN_PUBLIC_URL",
            "POSTERN_AMQP_URL",
            "POSTERN_CONTROL_PLANE",
            "POSTERN_CA_FILE",
            "POSTERN_OUTBOUND_ALLOW",
            "POSTERN_SMTP_TLS",
            "POSTERN_SMTP_FROM",
        ] {
            assert!(faults.contains(name), "{name}: {faults}");
        }
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let vars = Vars::from_pairs([
            ("POSTERN_DATABASE_URL", "postgres://localhost/postern"),
            ("POSTERN_PUBLIC_URL", "https://events.example.com"),
            ("POSTERN_AMQP_URL", "amqp://localhost"),
            ("POSTERN_CONTROL_PLANE", "control-plane:50052"),
            ("POSTERN_CA_FILE", "/ca.pem"),
        ]);
        let config = ProcessConfig::load(&vars).unwrap();
        assert_eq!(config.listen.port(), 50061);
        assert_eq!(config.dispatcher.webhook_timeout, Duration::from_secs(15));
        assert_eq!(config.dispatcher.scheduler.lease, Duration::from_secs(23));
        assert!(config.dispatcher.mail.is_none() && config.dispatcher.outbound.allow.is_empty());
    }
}
