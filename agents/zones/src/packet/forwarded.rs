//! A question that somebody else answers: what has to be kept of it in the meantime, and the reply
//! when the answer is there.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{self, RData, Record, rdata};

use super::Transport;
use super::query::{DATAGRAM_MAX, Query};
use crate::zones::Answer;

/// A question on its way to other resolvers.
#[derive(Debug)]
pub struct Forwarded {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    dnssec_ok: Option<bool>,
    limit: usize,
    question: hickory_proto::op::Query,
    /// Aliases of ours that lead there.
    aliases: Vec<Record>,
    /// The name that others know.
    name: rr::Name,
}

impl Forwarded {
    pub(super) fn new(query: &Query<'_>, answer: &Answer<'_>, transport: Transport) -> Self {
        let record_type = rr::RecordType::from(query.record_type.0);
        let asked = name(query.name_as_spelt());
        let mut last = asked.clone();
        let mut aliases = Vec::new();
        for alias in answer.aliases() {
            let target = name(alias.target().as_wire());
            let data = RData::CNAME(rdata::CNAME(target.clone()));
            aliases.push(Record::from_rdata(last, alias.ttl(), data));
            last = target;
        }
        Self {
            id: query.id,
            recursion_desired: query.recursion_desired(),
            checking_disabled: query.repeated_flags() & 0x10 != 0,
            dnssec_ok: query.edns.map(|edns| edns.dnssec_ok),
            limit: query.limit(transport),
            question: hickory_proto::op::Query::query(asked, record_type),
            aliases,
            name: last,
        }
    }

    /// The name that others are to be asked about.
    pub(crate) fn name(&self) -> &rr::Name {
        &self.name
    }

    /// The type that they are to be asked for.
    pub(crate) fn record_type(&self) -> rr::RecordType {
        self.question.query_type()
    }

    /// The reply, cut down to the question when it is longer than the client can take.
    pub(crate) fn reply(
        self,
        code: ResponseCode,
        answers: Vec<Record>,
        authorities: Vec<Record>,
    ) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.question);
        message.add_answers(self.aliases);
        message.add_answers(answers);
        message.add_authorities(authorities);
        if let Some(dnssec_ok) = self.dnssec_ok {
            let mut edns = Edns::new();
            edns.set_max_payload(DATAGRAM_MAX as u16).set_dnssec_ok(dnssec_ok);
            message.set_edns(edns);
        }
        match message.to_vec() {
            Ok(whole) if whole.len() <= self.limit => whole,
            outcome => {
                message.answers.clear();
                message.authorities.clear();
                match outcome {
                    Ok(_) => message.metadata.truncation = true,
                    // Longer than any packet, or data that can't be written.
                    Err(_) => message.metadata.response_code = ResponseCode::ServFail,
                }
                // A question that was read can be written.
                message.to_vec().unwrap_or_default()
            }
        }
    }
}

/// The name in hickory's form. `wire` is well formed, and then so is the name.
fn name(wire: &[u8]) -> rr::Name {
    let ends = std::iter::once(wire).chain(crate::name::parents(wire));
    let labels = ends.take_while(|end| end[0] != 0).map(|end| &end[1..=usize::from(end[0])]);
    let mut name = rr::Name::from_labels(labels).unwrap_or_else(|_| rr::Name::root());
    name.set_fqdn(true);
    name
}
