//! `postern-load`: drives one method of a gRPC server and reports what it took.

use anyhow::Result;
use clap::Parser;
use postern_load::config::{Config, Flags, Format};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let flags = Flags::parse();
    let format = flags.format;
    let config = Config::load(flags)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.store(true, Ordering::Relaxed); // The report is about what was done until now.
        }
    });
    let report = postern_load::drive::run(&config, &stop).await?;
    match format {
        Format::Summary => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report.json())?),
    }
    Ok(if report.all_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
