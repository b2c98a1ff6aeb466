//! A DNS client: one question over UDP to one resolver, and what it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;

/// How long a resolver may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub code: ResponseCode,
    /// The addresses, in the order of the answer.
    pub addresses: Vec<Ipv4Addr>,
    /// The names that the name stands for.
    pub aliases: Vec<String>,
}

/// Asks `resolver` for the IPv4 addresses of `name`.
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
    let length = tokio::time::timeout(TIMEOUT, socket.recv(&mut buffer))
        .await
        .with_context(|| format!("the resolver {resolver} does not answer"))?
        .with_context(|| format!("asking the resolver {resolver}"))?;
    let message = Message::from_vec(&buffer[..length])?;
    if message.metadata.id != id {
        bail!("the resolver {resolver} answered another question");
    }
    let mut answer =
        Answer { code: message.metadata.response_code, addresses: Vec::new(), aliases: Vec::new() };
    for record in &message.answers {
        match &record.data {
            RData::A(address) => answer.addresses.push(address.0),
            RData::CNAME(alias) => {
                answer.aliases.push(alias.0.to_utf8().trim_end_matches('.').to_owned());
            }
            _ => {}
        }
    }
    Ok(answer)
}
