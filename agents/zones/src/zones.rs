//! What one VPC knows about names, and what it answers: a pure function over a value that never
//! changes.
//!
//! The value has *zones*, each with an apex: that of all endpoint names (the suffix), the base name of
//! each service with an endpoint here, and the hidden zones of private names. A name belongs to the
//! zone with the longest apex. Within a zone a name has addresses, is an alias, or only has names
//! below it. Whatever lies in no zone is somebody else's to answer.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::name::{Name, WIRE_MAX, parents};

mod build;
#[cfg(test)]
mod tests;

pub use build::{Builder, Refused};

/// For how long resolvers may remember that there is no such name or record, and the time to live of
/// the zones' own records, in seconds (spec 3.3).
pub const TTL_SECONDS: u32 = 60;

/// How many aliases are followed before they are taken for a loop. An endpoint's private name takes
/// one.
const ALIASES_MAX: usize = 8;

/// The type that a question asks for, by its number (RFC 1035, 3.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordType(pub u16);

impl RecordType {
    /// An IPv4 address.
    pub const A: Self = Self(1);
    /// A name server of a zone.
    pub const NS: Self = Self(2);
    /// The canonical name of an alias.
    pub const CNAME: Self = Self(5);
    /// The start of a zone.
    pub const SOA: Self = Self(6);
    /// An IPv6 address.
    pub const AAAA: Self = Self(28);
    /// Any type: one is enough as an answer (RFC 8482).
    pub const ANY: Self = Self(255);
}

/// Everything that one VPC knows about names.
#[derive(Debug)]
pub struct Zones {
    zones: Vec<Zone>,
    // Invariant: with a name, all names above it up to the apex of its zone are here too.
    names: HashMap<Box<[u8]>, Entry>,
    // The same for all zones.
    soa: Box<[u8]>,
    ns: Box<[u8]>,
}

#[derive(Debug)]
struct Entry {
    /// Where in `Zones::zones` the name's zone is.
    zone: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// The name is there because of names below it, or as the apex of a zone.
    Nothing,
    Addresses(Addresses),
    Alias(Alias),
}

/// A zone: what is at its apex and below.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
}

impl Zone {
    /// The name that all others of the zone end in.
    pub fn apex(&self) -> &Name {
        &self.apex
    }
}

/// The addresses of a name.
pub struct Addresses {
    list: Box<[Ipv4Addr]>,
    ttl: u32,
    // Which address is named first: it moves on with each answer, and nothing else depends on it.
    turn: AtomicUsize,
}

impl Addresses {
    /// The time to live of the records, in seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The addresses in the order they were given in.
    pub fn list(&self) -> &[Ipv4Addr] {
        &self.list
    }

    /// The addresses, beginning with another one each time: clients take the first (spec 3.3).
    pub fn rotated(&self) -> impl Iterator<Item = Ipv4Addr> {
        let first = match self.list.len() {
            0 | 1 => 0,
            // Per name: with one turn for all, two names asked for in step would always come out the
            // same.
            length => self.turn.fetch_add(1, Ordering::Relaxed) % length,
        };
        self.list[first..].iter().chain(&self.list[..first]).copied()
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("list", &self.list).field("ttl", &self.ttl).finish()
    }
}

/// Another name for a name.
#[derive(Debug)]
pub struct Alias {
    target: Name,
    ttl: u32,
}

impl Alias {
    /// The name meant.
    pub fn target(&self) -> &Name {
        &self.target
    }

    /// The time to live of the record, in seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }
}

/// What the zones answer to a question: the aliases on the way, and what is at their end.
#[derive(Debug)]
pub struct Answer<'z> {
    aliases: [Option<&'z Alias>; ALIASES_MAX],
    /// What is at the end.
    pub outcome: Outcome<'z>,
}

impl<'z> Answer<'z> {
    /// The aliases from the name asked for to the name that the outcome is about, in order.
    pub fn aliases(&self) -> impl Iterator<Item = &'z Alias> + '_ {
        self.aliases.iter().map_while(|alias| *alias)
    }
}

/// What is at the end of the aliases.
#[derive(Debug)]
pub enum Outcome<'z> {
    /// The name lies in no zone of this VPC.
    NotOurs,
    /// No such name. Resolvers remember it for every record type, so the two empty answers differ.
    NoSuchName(&'z Zone),
    /// The name is there, records of that type are not.
    NoData(&'z Zone),
    /// The addresses of the name: at least one.
    Addresses(&'z Addresses),
    /// The start of the zone was asked for, at its apex.
    Authority(&'z Zone),
    /// The name servers of the zone were asked for, at its apex.
    NameServers(&'z Zone),
    /// The last alias is the answer, because aliases were asked for.
    Alias,
    /// The aliases are more than are followed, or go round.
    Loop,
}

enum Step<'z> {
    Alias(&'z Alias),
    End(Outcome<'z>),
}

impl Zones {
    /// Begins the zones of a VPC in a deployment with this suffix of endpoint names, such as
    /// `vpce.amazonaws.com`. What ends in it and is not added is no such name.
    ///
    /// # Errors
    ///
    /// The suffix is no DNS name, or too long for a name server's name below it.
    pub fn builder(suffix: &str) -> Result<Builder, Refused> {
        Builder::new(suffix)
    }

    /// What the name of this type is. `name` is in lower case: a [`Name`] is, and packets are put into
    /// it when they are read.
    pub fn answer(&self, name: &Name, record_type: RecordType) -> Answer<'_> {
        self.answer_wire(name.as_wire(), record_type)
    }

    /// The same for the bytes of a name.
    pub(crate) fn answer_wire(&self, name: &[u8], record_type: RecordType) -> Answer<'_> {
        let mut answer = Answer { aliases: [None; ALIASES_MAX], outcome: Outcome::Loop };
        let mut name = name;
        for place in &mut answer.aliases {
            match self.step(name, record_type) {
                Step::End(outcome) => {
                    answer.outcome = outcome;
                    break;
                }
                Step::Alias(alias) => {
                    *place = Some(alias);
                    if matches!(record_type, RecordType::CNAME | RecordType::ANY) {
                        answer.outcome = Outcome::Alias;
                        break;
                    }
                    name = alias.target.as_wire();
                }
            }
        }
        answer
    }

    /// What one name is, aliases not followed (RFC 1034, 4.3.2; wildcards RFC 4592).
    fn step(&self, name: &[u8], record_type: RecordType) -> Step<'_> {
        if let Some(entry) = self.names.get(name) {
            return self.found(entry, name, record_type);
        }
        // All apexes are names, so the nearest name above lies in the zone that the name belongs to.
        let mut above = parents(name);
        let closest = above.find_map(|name| self.names.get(name).map(|entry| (name, entry)));
        let Some((closest, encloser)) = closest else {
            return Step::End(Outcome::NotOurs);
        };
        // A wildcard stands for what is missing right below the closest name that is there, and for
        // nothing deeper: where a name exists, wildcards above it end.
        let mut wildcard = [0; 2 + WIRE_MAX];
        wildcard[..2].copy_from_slice(b"\x01*");
        wildcard[2..2 + closest.len()].copy_from_slice(closest);
        match self.names.get(&wildcard[..2 + closest.len()]) {
            Some(entry) => self.found(entry, name, record_type),
            None => Step::End(Outcome::NoSuchName(&self.zones[encloser.zone])),
        }
    }

    fn found<'z>(&'z self, entry: &'z Entry, name: &[u8], record_type: RecordType) -> Step<'z> {
        let zone = &self.zones[entry.zone];
        let at_apex = zone.apex.as_wire() == name;
        let end = match (&entry.data, record_type) {
            (_, RecordType::SOA) if at_apex => Outcome::Authority(zone),
            (_, RecordType::NS) if at_apex => Outcome::NameServers(zone),
            (Data::Alias(alias), _) => return Step::Alias(alias),
            (Data::Addresses(addresses), RecordType::A | RecordType::ANY)
                if !addresses.list.is_empty() =>
            {
                Outcome::Addresses(addresses)
            }
            (_, RecordType::ANY) if at_apex => Outcome::Authority(zone),
            _ => Outcome::NoData(zone),
        };
        Step::End(end)
    }

    /// How many names there are, those counted that only have names below them.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The data of the zones' SOA record, as in a packet.
    pub(crate) fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// The data of the zones' NS record, as in a packet.
    pub(crate) fn ns(&self) -> &[u8] {
        &self.ns
    }
}
