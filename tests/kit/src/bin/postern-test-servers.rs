//! The servers that a whole run of the tests shares.
//!
//! Starts a PostgreSQL and a RabbitMQ, prints the variables by which tests find them as lines for a shell
//! (`export NAME='value'`), then `ready`, and stops both when its input ends or it is told to terminate.
//!
//!     postern-test-servers <fifo >variables

use anyhow::Result;
use postern_testkit::postgres::{self, PrivatePostgres};
use postern_testkit::rabbitmq::{self, Node};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

/// Each test that needs the bus takes one. Making another later costs such a test three seconds.
const VHOSTS: usize = 48;

#[tokio::main]
async fn main() -> Result<()> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let servers = async { tokio::try_join!(PrivatePostgres::start(), Node::start_new(VHOSTS)) };
    let (postgres, rabbitmq) = tokio::select! {
        servers = servers => servers?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!("export {}='{}'", postgres::URL_VARIABLE, postgres.url("postgres"));
    println!("export {}='{}'", rabbitmq::HOME_VARIABLE, rabbitmq.home().display());
    println!("ready");
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            read = input.read(&mut ignored) => if read? == 0 { break },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // Their leashes stop them and wait; what this process does not get to, they do after it.
    drop((postgres, rabbitmq));
    // A read of standard input cannot be cancelled, and the runtime would wait for it.
    std::process::exit(0);
}
