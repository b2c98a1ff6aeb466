//! Writes replies (RFC 1035, 4.1).

use super::query::{DATAGRAM_MAX, HEADER, IN, OPT, Query};
use crate::metrics::Ending;
use crate::zones::{Answer, Outcome, RecordType, TTL_SECONDS, Zones};

pub(super) const NOERROR: u16 = 0;
pub(super) const FORMERR: u16 = 1;
pub(super) const SERVFAIL: u16 = 2;
pub(super) const NXDOMAIN: u16 = 3;
pub(super) const NOTIMP: u16 = 4;
pub(super) const REFUSED: u16 = 5;
/// A version of EDNS that isn't known: the upper bits stand in the OPT record.
pub(super) const BADVERS: u16 = 16;

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RA: u16 = 0x0080;
/// Of a query's flags, those that a reply to an unread query repeats: the operation, RD.
const REPEATED_UNREAD: u16 = 0x7900;

/// A reply to a query that can't be read further than its header.
pub(super) fn header_only(packet: &[u8], code: u16, recursion: bool, out: &mut Vec<u8>) {
    let Some(&[id_high, id_low, flags_high, flags_low]) = packet.first_chunk() else { return };
    let repeated = u16::from_be_bytes([flags_high, flags_low]) & REPEATED_UNREAD;
    let flags = QR | repeated | code | if recursion { RA } else { 0 };
    out.extend_from_slice(&[id_high, id_low]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; HEADER - 4]);
}

/// What every reply to a query has round its records.
pub(super) struct Frame<'q, 'p> {
    pub(super) query: &'q Query<'p>,
    /// How long the reply may be, in bytes.
    pub(super) limit: usize,
    pub(super) recursion: bool,
}

impl Frame<'_, '_> {
    /// A reply without records.
    pub(super) fn failure(&self, code: u16, out: &mut Vec<u8>) {
        let start = out.len();
        self.open(out);
        self.close(start, 0, code, [0, 0], out);
    }

    /// A reply from the zones. The outcome must not be `NotOurs`.
    pub(super) fn answer(&self, zones: &Zones, answer: &Answer<'_>, out: &mut Vec<u8>) -> Ending {
        let start = out.len();
        self.open(out);
        let question_end = out.len();
        // The name that the next record is about, and where it stands in the reply.
        let (mut name, mut at) = (self.query.name(), HEADER);
        let (mut answers, mut authorities, mut code) = (0, 0, NOERROR);
        for alias in answer.aliases() {
            record(at, RecordType::CNAME, alias.ttl(), alias.target().as_wire(), out);
            name = alias.target().as_wire();
            at = out.len() - start - name.len();
            answers += 1;
        }
        // The apex is an end of the name.
        let apex_at = |apex: &[u8]| at + name.len().saturating_sub(apex.len());
        let ending = match answer.outcome {
            Outcome::Addresses(addresses) => {
                for address in addresses.rotated() {
                    record(at, RecordType::A, addresses.ttl(), &address.octets(), out);
                    answers += 1;
                }
                Ending::Answered
            }
            Outcome::Alias => Ending::Answered,
            Outcome::Authority(_) => {
                record(at, RecordType::SOA, TTL_SECONDS, zones.soa(), out);
                answers += 1;
                Ending::Answered
            }
            Outcome::NameServers(_) => {
                record(at, RecordType::NS, TTL_SECONDS, zones.ns(), out);
                answers += 1;
                Ending::Answered
            }
            // The SOA says for how long the absence may be remembered (RFC 2308).
            Outcome::NoData(zone) => {
                let apex = apex_at(zone.apex().as_wire());
                record(apex, RecordType::SOA, TTL_SECONDS, zones.soa(), out);
                authorities += 1;
                Ending::NoData
            }
            Outcome::NoSuchName(zone) => {
                let apex = apex_at(zone.apex().as_wire());
                record(apex, RecordType::SOA, TTL_SECONDS, zones.soa(), out);
                authorities += 1;
                code = NXDOMAIN;
                Ending::NoSuchName
            }
            Outcome::NotOurs | Outcome::Loop => {
                out.truncate(question_end);
                self.close(start, 0, SERVFAIL, [0, 0], out);
                return Ending::Failed;
            }
        };
        self.close(start, AA, code, [answers, authorities], out);
        ending
    }

    /// The header, to be filled in at the end, and the question.
    fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(self.query.question);
    }

    /// The OPT record and the header. What is too long is cut down to the question: the client asks
    /// again over TCP.
    fn close(&self, start: usize, flags: u16, code: u16, records: [u16; 2], out: &mut Vec<u8>) {
        let opt = self.query.edns.map(|edns| {
            let mut opt = [0; 11];
            opt[2] = OPT as u8;
            opt[3..5].copy_from_slice(&(DATAGRAM_MAX as u16).to_be_bytes());
            opt[5] = (code >> 4) as u8;
            opt[7] = u8::from(edns.dnssec_ok) << 7;
            opt
        });
        let opt = opt.as_ref().map_or(&[][..], |opt| &opt[..]);
        let fits = out.len() - start + opt.len() <= self.limit;
        let ([answers, authorities], cut) = if fits { (records, 0) } else { ([0, 0], TC) };
        if !fits {
            out.truncate(start + HEADER + self.query.question.len());
        }
        out.extend_from_slice(opt);
        let flags = QR | flags | cut | self.query.repeated_flags() | (code & 0xf);
        let flags = flags | if self.recursion { RA } else { 0 };
        let additional = u16::from(!opt.is_empty());
        let words = [self.query.id, flags, 1, answers, authorities, additional];
        for (place, word) in out[start..start + HEADER].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// A record whose owner's name stands at `owner` in the reply already.
fn record(owner: usize, record_type: RecordType, ttl: u32, data: &[u8], out: &mut Vec<u8>) {
    // The names of questions and aliases all stand within the first 16 KiB, which a pointer reaches.
    out.extend_from_slice(&(0xc000 | owner as u16).to_be_bytes());
    out.extend_from_slice(&record_type.0.to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}
