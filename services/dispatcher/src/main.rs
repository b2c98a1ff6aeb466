//! The dispatcher's program: `postern-dispatcher` serves, `postern-dispatcher migrate` brings the
//! schema up to date, `postern-dispatcher rotate-signing-key` makes a new key that signs messages, which
//! running ones take over within seconds. Settings come from the environment; see `postern_dispatcher::config`.

use postern_dispatcher::config::{MigrateConfig, ProcessConfig};
use postern_dispatcher::process;
use postern_runtime::config::Vars;
use postern_runtime::telemetry;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let vars = Vars::env();
    match arguments[..] {
        [] => {
            let config = ProcessConfig::load(&vars)?;
            let telemetry = telemetry::init("postern-dispatcher")?;
            let ran = process::run(config).await;
            telemetry.shutdown().await;
            ran
        }
        ["migrate"] => {
            let config = MigrateConfig::load(&vars)?;
            let telemetry = telemetry::init("postern-dispatcher")?;
            let migrated = process::migrate(config).await;
            telemetry.shutdown().await;
            migrated
        }
        ["rotate-signing-key"] => {
            let config = MigrateConfig::load(&vars)?;
            let telemetry = telemetry::init("postern-dispatcher")?;
            let rotated = process::rotate_signing_key(config).await;
            telemetry.shutdown().await;
            rotated
        }
        _ => anyhow::bail!("usage: postern-dispatcher [migrate | rotate-signing-key]"),
    }
}
