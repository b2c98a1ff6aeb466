//! The control plane as a process: `postern-control-plane` serves, `postern-control-plane migrate`
//! brings the database's schema up to date and ends.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use postern_control_plane::config::{Config, Database};
use postern_control_plane::run::{Parts, run};
use postern_control_plane::store::Store;
use postern_runtime::config::{Faults, Vars};
use postern_runtime::shutdown::Stop;
use postern_runtime::{telemetry, tls};

const HELP: &str = "\
The control plane of Postern.

Usage: postern-control-plane [serve]   serves until it gets SIGTERM or SIGINT
       postern-control-plane migrate   brings the database's schema up to date
       postern-control-plane help      shows this

Both are configured by the environment. To serve:
  POSTERN_DATABASE_URL                 postgres://user:password@host/database
  POSTERN_AMQP_URL                     amqp://user:password@host:5672/vhost
  POSTERN_OPERATOR_KEY                 the operator's key, 16 characters or more
  POSTERN_JOIN_TOKEN                   what hosts and services join with, 16 characters or more
  POSTERN_DISPATCHER_INTERNAL_ADDRESS  host:port of the dispatcher's internal port
Any of them may be given as a file by NAME_FILE. To migrate, POSTERN_DATABASE_URL is enough.";

fn main() -> ExitCode {
    tls::install_provider();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments[..] {
        [] | ["serve"] => runtime.block_on(serve()),
        ["migrate"] => runtime.block_on(migrate()),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => bail!("{arguments:?} is not understood\n\n{HELP}"),
    }
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::load(&Vars::env())?;
    let telemetry = telemetry::init("postern-control-plane")?;
    let ran = run(config, Parts::default(), Stop::new()).await;
    telemetry.shutdown().await;
    ran
}

async fn migrate() -> anyhow::Result<()> {
    let mut faults = Faults::new();
    let database = Database::load(&Vars::env(), &mut faults);
    faults.check()?;
    let Some(database) = database else { bail!("POSTERN_DATABASE_URL is not given") };
    let telemetry = telemetry::init("postern-control-plane")?;
    let store = Store::open(database.url.expose(), 2)
        // The error of the parser repeats the URL, which has a password in it.
        .map_err(|_| anyhow::anyhow!("POSTERN_DATABASE_URL is not a PostgreSQL URL"))?;
    store.migrate().await.context("bringing the schema up to date")?;
    tracing::info!("the schema is up to date");
    telemetry.shutdown().await;
    Ok(())
}
