//! The dispatcher whole: its API, Postgres, the bus, a receiver of webhooks and one of mails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]

#[path = "dispatcher/amqp.rs"]
mod amqp;
#[path = "dispatcher/engine.rs"]
mod engine;
#[path = "dispatcher/events.rs"]
mod events;
#[path = "dispatcher/mail.rs"]
mod mail;
#[path = "dispatcher/outbound.rs"]
mod outbound;
#[path = "dispatcher/outcomes.rs"]
mod outcomes;
#[path = "dispatcher/permissions.rs"]
mod permissions;
#[path = "dispatcher/statements.rs"]
mod statements;
#[path = "dispatcher/subscriptions.rs"]
mod subscriptions;
#[path = "dispatcher/tls.rs"]
mod tls;
#[path = "dispatcher/topics.rs"]
mod topics;
#[path = "dispatcher/validators.rs"]
mod validators;
#[path = "dispatcher/webhooks.rs"]
mod webhooks;
#[path = "dispatcher/world.rs"]
mod world;
