//! System tests: API, Postgres, RabbitMQ.

// Tests are the only users: what fails here fails the test that asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod cp;
pub mod schema;
