//! Reads a query: strictly, because everything that is let through here is echoed or acted upon.

use crate::metrics::Ending;
use crate::name::{LABEL_MAX, WIRE_MAX};
use crate::packet::Transport;
use crate::zones::RecordType;

/// The class of the internet, the only one served.
pub(super) const IN: u16 = 1;
/// The pseudo record of EDNS (RFC 6891).
pub(super) const OPT: u16 = 41;
/// How long a datagram may be for clients that don't say (RFC 1035, 4.2.1).
const PLAIN_MAX: usize = 512;
/// How long a datagram gets at most: longer ones are cut to pieces on the way, and lost.
pub(super) const DATAGRAM_MAX: usize = 1_232;
/// The length of a header.
pub(super) const HEADER: usize = 12;

const QR: u16 = 0x8000;
const RD: u16 = 0x0100;
const CD: u16 = 0x0010;

/// One query that was read without fault.
pub(super) struct Query<'p> {
    pub(super) id: u16,
    flags: u16,
    /// The question as it came, with the spelling of the client: name, type, class.
    pub(super) question: &'p [u8],
    lower: [u8; WIRE_MAX],
    pub(super) record_type: RecordType,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// What a client says in its OPT record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edns {
    payload: u16,
    pub(super) version: u8,
    pub(super) dnssec_ok: bool,
}

/// Why a packet is no query.
pub(super) enum Unreadable {
    /// Not to be answered.
    Silent(Ending),
    /// FORMERR.
    Malformed,
    /// Another operation than a query.
    Operation,
}

impl<'p> Query<'p> {
    pub(super) fn read(packet: &'p [u8]) -> Result<Self, Unreadable> {
        let header: &[u8; HEADER] =
            packet.first_chunk().ok_or(Unreadable::Silent(Ending::Malformed))?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (id, flags) = (word(0), word(2));
        if flags & QR != 0 {
            return Err(Unreadable::Silent(Ending::Dropped));
        }
        if flags & 0x7800 != 0 {
            return Err(Unreadable::Operation);
        }
        // More than one question was never given a meaning (RFC 9619).
        if word(4) != 1 {
            return Err(Unreadable::Malformed);
        }
        let mut rest = Reader(&packet[HEADER..]);
        let mut lower = [0; WIRE_MAX];
        let length = rest.question_name(&mut lower).ok_or(Unreadable::Malformed)?;
        let record_type = RecordType(rest.word().ok_or(Unreadable::Malformed)?);
        let class = rest.word().ok_or(Unreadable::Malformed)?;
        let question = &packet[HEADER..HEADER + length + 4];
        let edns = rest.records([word(6), word(8), word(10)]).ok_or(Unreadable::Malformed)?;
        // What follows belongs to nothing that was counted.
        if !rest.0.is_empty() {
            return Err(Unreadable::Malformed);
        }
        Ok(Self { id, flags, question, lower, record_type, class, edns })
    }

    /// The name asked for, in lower case.
    pub(super) fn name(&self) -> &[u8] {
        &self.lower[..self.question.len() - 4]
    }

    /// The name asked for, as the client spells it.
    pub(super) fn name_as_spelt(&self) -> &'p [u8] {
        &self.question[..self.question.len() - 4]
    }

    pub(super) fn recursion_desired(&self) -> bool {
        self.flags & RD != 0
    }

    /// The flags that a reply repeats.
    pub(super) fn repeated_flags(&self) -> u16 {
        self.flags & (RD | CD)
    }

    /// How long the reply may be, in bytes.
    pub(super) fn limit(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => PLAIN_MAX,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.payload).clamp(PLAIN_MAX, DATAGRAM_MAX)
            }
        }
    }

    /// Types that are no data: zone transfers, keys, signatures of transactions (RFC 6895, 3.1).
    pub(super) fn is_transfer_or_meta(&self) -> bool {
        let RecordType(number) = self.record_type;
        number == 0 || number == OPT || (128..255).contains(&number)
    }
}

/// The rest of a packet.
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn take(&mut self, length: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    /// Reads a name that nothing stands before that it could point to, so that pointers are faults.
    /// Gives its length.
    fn question_name(&mut self, lower: &mut [u8; WIRE_MAX]) -> Option<usize> {
        let bytes = self.0;
        let mut at = 0;
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length > LABEL_MAX {
                return None;
            }
            at += 1 + length;
            if at > WIRE_MAX {
                return None;
            }
            if length == 0 {
                break;
            }
        }
        let name = self.take(at)?;
        lower[..at].copy_from_slice(name);
        // Lengths are below 64 and so no letters.
        lower[..at].make_ascii_lowercase();
        Some(at)
    }

    /// Passes over the records behind the question, and reads the OPT among the last of them.
    fn records(&mut self, counts: [u16; 3]) -> Option<Option<Edns>> {
        let mut edns = None;
        for (section, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let root = self.0.first() == Some(&0);
                self.pass_name()?;
                let record_type = self.word()?;
                let payload = self.word()?;
                let ttl = self.take(4)?;
                let length = self.word()?;
                let data = self.take(usize::from(length))?;
                if record_type != OPT {
                    continue;
                }
                // One, at the root, in the additional section, with whole options (RFC 6891, 6.1).
                if section != 2 || !root || edns.is_some() || !are_options(data) {
                    return None;
                }
                let dnssec_ok = ttl[2] & 0x80 != 0;
                edns = Some(Edns { payload, version: ttl[1], dnssec_ok });
            }
        }
        Some(edns)
    }

    fn pass_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Some(()),
                length @ 1..=63 => self.take(usize::from(length))?,
                // A pointer is not followed: nobody needs to know where it leads.
                0xc0..=0xff => return self.take(1).map(|_| ()),
                _ => return None,
            };
        }
    }
}

fn are_options(data: &[u8]) -> bool {
    let mut rest = Reader(data);
    while !rest.0.is_empty() {
        let whole =
            rest.word().and_then(|_| rest.word()).and_then(|length| rest.take(usize::from(length)));
        if whole.is_none() {
            return false;
        }
    }
    true
}
