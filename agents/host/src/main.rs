//! `postern-agent`: the agent of one host. Its settings are environment variables, which
//! [`postern_agent::AgentConfig`] lists.

use std::process::ExitCode;

use postern_agent::{AgentConfig, run};
use postern_runtime::config::Vars;
use postern_runtime::shutdown::{Stop, signal};
use postern_runtime::{admin, telemetry, tls};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    tls::install_provider();
    let telemetry = match telemetry::init("postern-agent") {
        Ok(telemetry) => telemetry,
        Err(faults) => return refuse(&faults.to_string()),
    };
    let config = match AgentConfig::load(&Vars::env()) {
        Ok(config) => config,
        Err(faults) => return refuse(&faults.to_string()),
    };
    let result = serve(config).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "the agent failed");
    }
    telemetry.shutdown().await;
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve(config: AgentConfig) -> anyhow::Result<()> {
    let stop = Stop::new();
    let admin = admin::Admin::new("postern-agent");
    let listener = TcpListener::bind(config.admin_listen).await?;
    let served = tokio::spawn(admin::serve(listener, admin.clone(), stop.kill.clone()));
    let asked = stop.clone();
    tokio::spawn(async move {
        signal().await;
        tracing::info!("asked to stop");
        asked.stop();
    });
    let result = run(config, &admin, stop.clone()).await;
    stop.kill();
    served.await??;
    result
}

fn refuse(why: &str) -> ExitCode {
    // Before the logs are set up, there is nothing else to say it with.
    eprintln!("postern-agent: {why}");
    ExitCode::from(2)
}
