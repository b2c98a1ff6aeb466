//! `postern-load-echo`: a gRPC server that does nothing but answer, to measure another one against: what
//! it takes is what the transport, the driver and the machine take of themselves.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50061".to_owned());
    let address: SocketAddr = address.parse().context("the address to listen at")?;
    // Each request waits for an answer: none is held back to go with the next.
    let incoming = TcpIncoming::bind(address)?.with_nodelay(Some(true));
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    println!("answering grpc.health.v1.Health/Check at {address}");
    Server::builder()
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
