//! What may be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::demo::DemoOptions;
use crate::dev::DevOptions;
use crate::verbs::Verb;

/// A self-hosted PrivateLink: publish a TCP service, and open a private door to it in a VPC.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    max_term_width = 100,
    after_help = "Examples:
  postern dev                                   run everything on this machine
  postern demo                                  walk the whole story against it
  postern --profile consumer endpoint list      call the API as the consumer
  postern endpoint create --vpc vpc-… --service-name com.amazonaws.vpce.… --subnet subnet-… --wait

Exit status: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody answers, 4 waited too long."
)]
pub struct Args {
    /// Options that every verb knows.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every verb knows.
#[derive(Clone, Debug, clap::Args)]
pub struct Globals {
    /// The profile to take the address and the key from.
    #[arg(long, global = true, env = "POSTERN_PROFILE", help_heading = "Connection")]
    pub profile: Option<String>,
    /// The file with the profiles [default: ./.postern/profiles.toml, else
    /// ~/.config/postern/profiles.toml].
    #[arg(long, global = true, env = "POSTERN_PROFILES", help_heading = "Connection")]
    pub profiles: Option<PathBuf>,
    /// The control plane's address, such as http://127.0.0.1:50051.
    #[arg(long, global = true, env = "POSTERN_ADDRESS", help_heading = "Connection")]
    pub address: Option<String>,
    /// The dispatcher's address, which serves topics [default: the control plane's].
    #[arg(long, global = true, env = "POSTERN_TOPICS_ADDRESS", help_heading = "Connection")]
    pub topics_address: Option<String>,
    /// The API key.
    #[arg(
        long,
        global = true,
        env = "POSTERN_API_KEY",
        hide_env_values = true,
        help_heading = "Connection"
    )]
    pub api_key: Option<String>,
    /// How long one call may take, in seconds.
    #[arg(long, global = true, default_value = "15", value_parser = seconds, value_name = "SECONDS", help_heading = "Connection")]
    pub timeout: Duration,
    /// How answers are shown.
    #[arg(long, short, global = true, value_enum, default_value = "table")]
    pub output: Output,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table, for people.
    Table,
    /// JSON, for programs: the API's messages as protobuf's JSON mapping has them.
    Json,
}

/// Reads a positive number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds above 0 and at most 86400".to_owned()),
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run control plane, dispatcher and an agent in one process, with a Postgres of its own.
    Dev(DevOptions),
    /// Walk the whole story against a running deployment, with real parts, and check each step.
    Demo(DemoOptions),
    /// Print the completions for a shell.
    #[command(
        after_help = "Example:\n  postern completions bash > ~/.local/share/bash-completion/completions/postern"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// List the profiles, without their keys.
    Profiles,
    /// The calls of the API.
    #[command(flatten)]
    Verb(Verb),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Args::command().debug_assert();
    }

    #[test]
    fn seconds_are_positive_and_bounded() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "x", "NaN", "1e9"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
