//! What to send where: ghz's configuration file, with flags of the same names on top.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the report is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Summary,
    /// For machines, with ghz's keys; times are in nanoseconds.
    Json,
}

/// The command line.
#[derive(Debug, Default, Parser)]
#[command(
    name = "postern-load",
    about = "Drives one gRPC method and reports the figures that ghz does",
    after_help = "Exit status: 0 all calls answered OK, 2 some did not, 1 nothing could be driven.\n\n\
                  Example: postern-load --config tests/load/list.json -c 32 --connections 4 \\\n\
                  \x20   -m '{\"authorization\": \"Bearer pst_...\"}' 127.0.0.1:50051"
)]
pub struct Flags {
    /// A ghz configuration file (JSON)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The .proto file of the service; without one the server is asked by reflection
    #[arg(long, value_name = "FILE")]
    pub proto: Option<PathBuf>,
    /// Where the .proto file and its imports are looked for
    #[arg(short, long, value_name = "DIRECTORY", value_delimiter = ',')]
    pub import_paths: Vec<PathBuf>,
    /// A compiled descriptor set in place of the .proto file
    #[arg(long, value_name = "FILE")]
    pub protoset: Option<PathBuf>,
    /// The method, as package.Service/Method
    #[arg(long)]
    pub call: Option<String>,
    /// How many requests to send
    #[arg(short = 'n', long)]
    pub total: Option<u64>,
    /// How many requests may be under way at once
    #[arg(short = 'c', long)]
    pub concurrency: Option<u32>,
    /// How many connections they share
    #[arg(long)]
    pub connections: Option<u32>,
    /// For how long to send, such as 30s; the total does not count then
    #[arg(short = 'z', long)]
    pub duration: Option<String>,
    /// Requests a second; without it as many as are answered
    #[arg(short = 'r', long)]
    pub rps: Option<u32>,
    /// The request as JSON, or an array of requests to send in turn
    #[arg(short = 'd', long)]
    pub data: Option<String>,
    /// A file with what --data takes
    #[arg(short = 'D', long, value_name = "FILE", conflicts_with = "data")]
    pub data_file: Option<PathBuf>,
    /// Metadata as a JSON object
    #[arg(short = 'm', long)]
    pub metadata: Option<String>,
    /// Plain text in place of TLS
    #[arg(long)]
    pub insecure: bool,
    /// The certificates (PEM) that the server's must lead to
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// How long one call may take, such as 20s
    #[arg(short = 't', long)]
    pub timeout: Option<String>,
    /// What the report calls the run
    #[arg(long)]
    pub name: Option<String>,
    /// After how long the client ends a stream
    #[arg(long)]
    pub stream_call_duration: Option<String>,
    /// After how many messages the client ends a stream
    #[arg(long)]
    pub stream_call_count: Option<u64>,
    /// Counts failed calls in the latencies too
    #[arg(long)]
    pub count_errors: bool,
    /// How to write the report
    #[arg(short = 'O', long, value_enum, default_value_t)]
    pub format: Format,
    /// The server, as host:port
    pub host: Option<String>,
}

/// The keys of a ghz file that the driver honours, as they stand there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    proto: Option<PathBuf>,
    import_paths: Vec<PathBuf>,
    protoset: Option<PathBuf>,
    call: Option<String>,
    host: Option<String>,
    total: Option<u64>,
    concurrency: Option<u32>,
    connections: Option<u32>,
    duration: Option<String>,
    rps: Option<u32>,
    data: Option<Value>,
    data_file: Option<PathBuf>,
    metadata: Option<BTreeMap<String, String>>,
    insecure: bool,
    cacert: Option<PathBuf>,
    timeout: Option<String>,
    name: Option<String>,
    stream_call_duration: Option<String>,
    stream_call_count: Option<u64>,
    count_errors: bool,
}

/// Where the description of the method comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Descriptors {
    /// A .proto file and the directories for its imports.
    Proto(PathBuf, Vec<PathBuf>),
    /// A file of compiled descriptors.
    Protoset(PathBuf),
    /// The server's reflection service.
    Reflection,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// After so many requests.
    Total(u64),
    /// When no more are begun, counted from the first.
    After(Duration),
}

/// A run, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the report calls it.
    pub name: Option<String>,
    /// Where the method is described.
    pub descriptors: Descriptors,
    /// The service's full name.
    pub service: String,
    /// The method's name.
    pub method: String,
    /// host:port.
    pub host: String,
    /// When to end.
    pub end: End,
    /// How many calls may be under way at once, at least 1.
    pub concurrency: u32,
    /// How many connections they share, at least 1 and at most `concurrency`.
    pub connections: u32,
    /// Requests a second, if they have appointed times.
    pub rps: Option<u32>,
    /// The requests, sent in turn; at least one.
    pub data: Vec<Value>,
    /// Sent with each call.
    pub metadata: BTreeMap<String, String>,
    /// The certificates to trust; `None` speaks plain text.
    pub cacert: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
    /// After how long a stream is ended.
    pub stream_call_duration: Option<Duration>,
    /// After how many messages a stream is ended.
    pub stream_call_count: Option<u64>,
    /// Whether failed calls count in the latencies.
    pub count_errors: bool,
}

impl Config {
    /// Reads the file that the flags name, lays the flags over it and checks the whole. Paths are from
    /// the current directory and defaults are ghz's: 200 requests, 50 at once, one connection, 20 s.
    ///
    /// # Errors
    /// Names the key or flag that is wrong or missing.
    pub fn load(flags: Flags) -> Result<Self> {
        let file = match &flags.config {
            None => File::default(),
            Some(path) => read("config", path)?,
        };
        let call =
            flags.call.or(file.call).context("call: which method? (package.Service/Method)")?;
        let (service, method) = call
            .trim_start_matches('/')
            .rsplit_once(['/', '.'])
            .with_context(|| format!("call: {call:?} is not package.Service/Method"))?;
        let proto = flags.proto.or(file.proto);
        let protoset = flags.protoset.or(file.protoset);
        let mut import_paths =
            if flags.import_paths.is_empty() { file.import_paths } else { flags.import_paths };
        if import_paths.is_empty() {
            import_paths.push(PathBuf::from("."));
        }
        let descriptors = match (proto, protoset) {
            (Some(proto), None) => Descriptors::Proto(proto, import_paths),
            (None, Some(protoset)) => Descriptors::Protoset(protoset),
            (None, None) => Descriptors::Reflection,
            (Some(_), Some(_)) => bail!("proto and protoset: give one of them"),
        };
        let end = match duration("duration", flags.duration.or(file.duration))? {
            Some(time) => End::After(time),
            None => End::Total(flags.total.or(file.total).unwrap_or(200)),
        };
        let concurrency = flags.concurrency.or(file.concurrency).unwrap_or(50);
        ensure!((1..=10_000).contains(&concurrency), "concurrency: 1 to 10000");
        let connections = flags.connections.or(file.connections).unwrap_or(1);
        ensure!(
            (1..=concurrency).contains(&connections),
            "connections: 1 to concurrency ({concurrency})"
        );
        let cacert = flags.cacert.or(file.cacert);
        let insecure = flags.insecure || file.insecure;
        ensure!(insecure || cacert.is_some(), "cacert: needed for TLS; insecure speaks plain text");
        let data = match (flags.data, flags.data_file, file.data, file.data_file) {
            (Some(text), ..) => Some(serde_json::from_str(&text).context("data: no JSON")?),
            (None, Some(path), ..) | (None, None, None, Some(path)) => {
                Some(read("data-file", &path)?)
            }
            (None, None, data, _) => data,
        };
        let data = match data.unwrap_or_else(|| Value::Object(serde_json::Map::new())) {
            Value::Array(requests) => requests,
            // ghz takes the JSON as text as well.
            Value::String(text) => vec![serde_json::from_str(&text).context("data: no JSON")?],
            request => vec![request],
        };
        ensure!(!data.is_empty(), "data: an empty array holds no request");
        let metadata = match flags.metadata {
            Some(text) => {
                serde_json::from_str(&text).context("metadata: no JSON object of texts")?
            }
            None => file.metadata.unwrap_or_default(),
        };
        Ok(Self {
            name: flags.name.or(file.name),
            descriptors,
            service: service.to_owned(),
            method: method.to_owned(),
            host: flags.host.or(file.host).context("host: which server? (host:port)")?,
            end,
            concurrency,
            connections,
            rps: flags.rps.or(file.rps).filter(|rps| *rps > 0), // ghz writes 0 for none.
            data,
            metadata,
            cacert: if insecure { None } else { cacert },
            timeout: duration("timeout", flags.timeout.or(file.timeout))?
                .unwrap_or(Duration::from_secs(20)),
            stream_call_duration: duration(
                "stream-call-duration",
                flags.stream_call_duration.or(file.stream_call_duration),
            )?,
            stream_call_count: flags
                .stream_call_count
                .or(file.stream_call_count)
                .filter(|count| *count > 0),
            count_errors: flags.count_errors || file.count_errors,
        })
    }
}

/// Reads a JSON file that the key `name` names.
fn read<T: serde::de::DeserializeOwned>(name: &str, path: &Path) -> Result<T> {
    let place = || format!("{name}: {}", path.display());
    let text = std::fs::read_to_string(path).with_context(place)?;
    serde_json::from_str(&text).with_context(place)
}

/// A duration as Go writes it: `1m30s`, `250ms`. Zero and nothing mean "not set".
fn duration(name: &str, text: Option<String>) -> Result<Option<Duration>> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || format!("{name}: {text:?} is no duration such as 1m30s or 250ms");
    let (mut sum, mut rest) = (0.0, text.as_str());
    while !rest.is_empty() && rest != "0" {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(wrong)?;
        let (number, after) = rest.split_at(digits);
        let length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => bail!(wrong()),
        };
        sum += number.parse::<f64>().ok().with_context(wrong)? * seconds;
        rest = after;
    }
    let duration = Duration::try_from_secs_f64(sum).ok().with_context(wrong)?;
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, more: &[&str]) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        std::fs::write(&path, file).unwrap();
        let arguments = ["postern-load", "--config", path.to_str().unwrap()];
        Config::load(Flags::try_parse_from(arguments.into_iter().chain(more.iter().copied()))?)
    }

    const FILE: &str = r#"{"call": "a.b.Service.Method", "host": "h:1", "insecure": true,
        "total": 10, "concurrency": 4, "timeout": "1m0.5s", "rps": 0, "data": [{"n": 1}, {"n": 2}]}"#;

    #[test]
    fn flags_win_over_the_file_and_what_neither_says_is_as_with_ghz() {
        let config = load(FILE, &["-n", "20", "-m", r#"{"k": "v"}"#, "other:2"]).unwrap();
        assert_eq!((config.service.as_str(), config.method.as_str()), ("a.b.Service", "Method"));
        assert_eq!((config.end, config.concurrency, config.connections), (End::Total(20), 4, 1));
        assert_eq!((config.host.as_str(), config.rps), ("other:2", None));
        assert_eq!(config.timeout, Duration::from_millis(60_500));
        assert_eq!((config.data.len(), config.metadata["k"].as_str()), (2, "v"));
        assert_eq!(config.descriptors, Descriptors::Reflection);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (file, more, named) in [
            (r#"{"host": "h:1"}"#, &[][..], "call"),
            (FILE, &["--connections", "5"][..], "connections"),
            (FILE, &["-z", "5 minutes"][..], "duration"),
            (FILE, &["-d", "{"][..], "data"),
            (r#"{"call": "S/M", "load-schedule": "step"}"#, &[][..], "load-schedule"),
            (r#"{"call": "S/M", "host": "h:1"}"#, &[][..], "cacert"),
        ] {
            let error = format!("{:#}", load(file, more).unwrap_err());
            assert!(error.contains(named), "{named} not in {error}");
        }
    }
}
