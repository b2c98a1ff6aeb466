//! A DNS client: one question to one resolver.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// The addresses, sorted.
    pub addresses: Vec<Ipv4Addr>,
}

/// Asks `resolver` over UDP for the IPv4 addresses of `name`.
///
/// # Errors
/// When no answer comes in two seconds, or it is no answer to this.
pub async fn resolve(resolver: SocketAddr, name: &str) -> anyhow::Result<Answer> {
    let asked = Name::from_str(&format!("{}.", name.trim_end_matches('.')))?;
    let id = rand::random::<u16>();
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(asked, RecordType::A));
    let packet = question.to_vec()?;

    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&packet).await?;
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(2), socket.recv(&mut buffer))
        .await
        .with_context(|| format!("the resolver {resolver} does not answer"))??;
    let message = Message::from_vec(buffer.get(..length).context("a long answer")?)?;
    ensure!(message.metadata.id == id, "the answer to another question");
    let mut addresses: Vec<Ipv4Addr> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .collect();
    addresses.sort_unstable();
    Ok(Answer { code: message.metadata.response_code, addresses })
}
