//! The `postern` command line: a verb for every call of the API, `postern dev` to run everything in
//! one process, and `postern demo` to see it work.

// Nobody outside sees the modules of a program: `pub` says what others in it may use.
#![allow(unreachable_pub)]

mod args;
mod connect;
mod demo;
mod dev;
mod exit;
mod output;
mod profile;
mod verbs;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Args, Command};
use crate::connect::Connection;
use crate::exit::Failure;
use crate::output::Printer;

fn main() -> ExitCode {
    postern_runtime::tls::install_provider();
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Other(error.into()).report(),
    };
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let printer = Printer::new(args.globals.output);
    match args.command {
        Command::Dev(options) => dev::run(options).await,
        Command::Demo(options) => demo::run(options, &args.globals, &printer).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "postern", &mut std::io::stdout());
            Ok(())
        }
        Command::Profiles => profile::list(&args.globals, &printer),
        Command::Verb(verb) => {
            let connection = Connection::open(&args.globals)?;
            verbs::run(verb, &connection, &printer).await
        }
    }
}
