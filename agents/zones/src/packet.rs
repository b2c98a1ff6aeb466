//! From a packet to a packet, without sockets: reads a query, asks the zones, writes the reply.
//!
//! This is the hot path. It allocates nothing but room in the caller's buffer, never panics whatever
//! comes in, and says what became of each packet. What the zones don't know is handed back as a
//! [`Forwarded`], to be finished when somebody else has answered.

mod forwarded;
mod query;
mod reply;
#[cfg(test)]
mod tests;

pub use forwarded::Forwarded;

use query::{Query, Unreadable};

use crate::metrics::Ending;
use crate::zones::{Outcome, RecordType, Zones};

/// What a packet came by: it decides how long the reply may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A datagram: 512 bytes, or what the client says that it can take, up to 1232.
    Udp,
    /// A stream: 65,535 bytes.
    Tcp,
}

/// What becomes of a packet.
#[derive(Debug)]
pub enum Verdict {
    /// No reply: what can't be a query must not be answered, lest two servers answer each other.
    Silent(Ending),
    /// The reply stands at the end of the buffer.
    Reply(Ending),
    /// Nothing was written: somebody else has to be asked.
    Forward(Box<Forwarded>),
}

/// Answers one packet from the zones. A reply is appended to `out`. `recursion` says whether there is
/// somebody to ask about what the zones don't know; with nobody, such questions are refused.
pub fn respond(
    zones: &Zones,
    packet: &[u8],
    transport: Transport,
    recursion: bool,
    out: &mut Vec<u8>,
) -> Verdict {
    let query = match Query::read(packet) {
        Ok(query) => query,
        Err(Unreadable::Silent(ending)) => return Verdict::Silent(ending),
        Err(Unreadable::Malformed) => {
            reply::header_only(packet, reply::FORMERR, recursion, out);
            return Verdict::Reply(Ending::Malformed);
        }
        Err(Unreadable::Operation) => {
            reply::header_only(packet, reply::NOTIMP, recursion, out);
            return Verdict::Reply(Ending::Unsupported);
        }
    };
    let frame = reply::Frame { query: &query, limit: query.limit(transport), recursion };
    if query.edns.is_some_and(|edns| edns.version != 0) {
        frame.failure(reply::BADVERS, out);
        return Verdict::Reply(Ending::Unsupported);
    }
    if query.class != query::IN || query.is_transfer_or_meta() {
        frame.failure(reply::REFUSED, out);
        return Verdict::Reply(Ending::Refused);
    }
    let answer = zones.answer_wire(query.name(), query.record_type);
    if !matches!(answer.outcome, Outcome::NotOurs) {
        return Verdict::Reply(frame.answer(zones, &answer, out));
    }
    if query.record_type == RecordType::ANY {
        // The answer would be long, so that it serves to flood others, and nobody needs it (RFC 8482).
        frame.failure(reply::NOTIMP, out);
        return Verdict::Reply(Ending::Unsupported);
    }
    if !recursion || !query.recursion_desired() {
        frame.failure(reply::REFUSED, out);
        return Verdict::Reply(Ending::NotForwarded);
    }
    Verdict::Forward(Box::new(Forwarded::new(&query, &answer, transport)))
}
