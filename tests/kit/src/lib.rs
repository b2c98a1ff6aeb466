//! The test kit: a world of real parts, fakes for its far side, network namespaces.

pub mod deployment;
pub mod leash;
pub mod netns;
pub mod otlp;
pub mod postgres;
pub mod rabbitmq;
pub mod receiver;
pub mod smtp;
pub mod tls;
