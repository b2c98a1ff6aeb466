//! What every Postern process needs: configuration, telemetry, TLS identity, shutdown, backoff, admin port.
//!
//! Nothing here knows what Postern does: no ids of the domain, no generated API type, no SQL. A
//! process reads its settings with [`config`], starts [`telemetry`], opens its [`admin`] port, serves
//! gRPC with [`grpc`] over [`tls`] and ends by [`shutdown`]. [`bus`] is how events travel from the
//! control plane to the dispatcher; the transport over AMQP lives in the services. Time ([`clock`])
//! and randomness ([`backoff`]) are passed in, so that tests need not sleep.

pub mod admin;
pub mod backoff;
pub mod bus;
pub mod clock;
pub mod config;
pub mod grpc;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
