//! The dispatcher whole: its API, Postgres, the bus, a receiver of webhooks and one of mails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]

#[path = "dispatcher/amqp.rs"]
mod amqp;
#[path = "dispatcher/events.rs"]
mod events;
#[path = "dispatcher/mail.rs"]
mod mail;
#[path = "dispatcher/statements.rs"]
mod statements;
#[path = "dispatcher/tls.rs"]
mod tls;
#[path = "dispatcher/topics.rs"]
mod topics;
#[path = "dispatcher/webhooks.rs"]
mod webhooks;
#[path = "dispatcher/world.rs"]
mod world;
