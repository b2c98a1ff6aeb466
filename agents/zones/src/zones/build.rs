//! How the zones of a VPC come together: from the records that the control plane sends.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::atomic::AtomicUsize;

use postern_model::desired::{Names, Record, RecordData};

use super::{Addresses, Alias, Data, Entry, TTL_SECONDS, Zone, Zones};
use crate::name::{MalformedName, Name, parents};

/// The longest time to live, in seconds (RFC 2181, 8).
const TTL_MAX: u32 = i32::MAX as u32;
/// How many addresses a name may have: as many as fit into a packet over TCP, with room to spare.
const ADDRESSES_MAX: usize = 2_048;

/// Zones in the making. What is refused leaves the rest as it was, so that one bad record takes no
/// other name away.
#[derive(Debug)]
pub struct Builder {
    name_server: Name,
    contact: Name,
    // From apex to the place in `Zones::zones`.
    zones: HashMap<Box<[u8]>, usize>,
    apexes: Vec<Name>,
    records: HashMap<Name, Data>,
}

/// Why something is not made a part of the zones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name that can't be one.
    #[error(transparent)]
    Name(#[from] MalformedName),
    /// The apex would make a top-level domain ours, or everything.
    #[error("{0} can't be a zone: an apex has at least two labels and no wildcard")]
    Apex(Name),
    /// The name lies in none of the zones.
    #[error("{0} lies in no zone of this VPC")]
    OutsideZones(Name),
    /// The name has a record already.
    #[error("{0} is taken: a name is an alias or has one list of addresses")]
    Taken(Name),
    /// More addresses than a packet holds.
    #[error("{0} has {1} addresses, the most is {ADDRESSES_MAX}")]
    Addresses(Name, usize),
}

impl Builder {
    pub(super) fn new(suffix: &str) -> Result<Self, Refused> {
        let mut this = Self {
            name_server: format!("ns.{suffix}").parse()?,
            contact: format!("hostmaster.{suffix}").parse()?,
            zones: HashMap::new(),
            apexes: Vec::new(),
            records: HashMap::new(),
        };
        this.zone(suffix)?;
        Ok(this)
    }

    /// Adds a zone: the base name of a service, or the hidden zone of a private name. The same zone
    /// again changes nothing: services have many endpoints.
    ///
    /// # Errors
    ///
    /// No DNS name, or one that can't be an apex.
    pub fn zone(&mut self, apex: &str) -> Result<(), Refused> {
        let apex: Name = apex.parse()?;
        if parents(apex.as_wire()).count() < 2 || is_wildcard(&apex) {
            return Err(Refused::Apex(apex));
        }
        if let hash_map::Entry::Vacant(vacant) = self.zones.entry(apex.as_wire().into()) {
            vacant.insert(self.apexes.len());
            self.apexes.push(apex);
        }
        Ok(())
    }

    /// Adds a record to the zones that are there.
    ///
    /// # Errors
    ///
    /// A name that is malformed, lies in no zone or has a record already.
    pub fn record(&mut self, record: &Record) -> Result<(), Refused> {
        let name: Name = record.name.parse()?;
        let ttl = record.ttl_seconds.min(TTL_MAX);
        let data = match &record.data {
            RecordData::Addresses(list) if list.len() > ADDRESSES_MAX => {
                return Err(Refused::Addresses(name, list.len()));
            }
            RecordData::Addresses(list) => Data::Addresses(Addresses {
                list: list.as_slice().into(),
                ttl,
                turn: AtomicUsize::new(0),
            }),
            RecordData::Alias(target) => Data::Alias(Alias { target: target.parse()?, ttl }),
        };
        if self.zone_of(name.as_wire()).is_none() {
            return Err(Refused::OutsideZones(name));
        }
        match self.records.entry(name) {
            hash_map::Entry::Occupied(taken) => Err(Refused::Taken(taken.key().clone())),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(data);
                Ok(())
            }
        }
    }

    /// Adds the names of one endpoint with their zones, and gives back what was refused: the rest is
    /// in, so that one bad record makes no other name disappear.
    pub fn names(&mut self, names: &Names) -> Vec<Refused> {
        let Names { vpc: _, endpoint: _, records, base_name, private_zone } = names;
        let zones = std::iter::once(base_name).chain(private_zone);
        let mut refused: Vec<_> = zones.filter_map(|apex| self.zone(apex).err()).collect();
        refused.extend(records.iter().filter_map(|record| self.record(record).err()));
        refused
    }

    /// The zones.
    pub fn build(mut self) -> Zones {
        // The name server in the zones' own records is there, though it has no address: its only
        // clients reach it by the address that they are configured with.
        self.records.entry(self.name_server.clone()).or_insert(Data::Addresses(Addresses {
            list: [].into(),
            ttl: TTL_SECONDS,
            turn: AtomicUsize::new(0),
        }));
        let mut names = HashMap::with_capacity(self.records.len() + self.apexes.len());
        for (name, data) in std::mem::take(&mut self.records) {
            self.above(&name, &mut names);
            if let Some(zone) = self.zone_of(name.as_wire()) {
                names.insert(name.as_wire().into(), Entry { zone, data });
            }
        }
        for (zone, apex) in self.apexes.iter().enumerate() {
            self.above(apex, &mut names);
            let data = Data::Nothing;
            names.entry(apex.as_wire().into()).or_insert(Entry { zone, data });
        }
        let (soa, ns) = (self.soa(), self.name_server.as_wire().into());
        let zones = self.apexes.into_iter().map(|apex| Zone { apex }).collect();
        Zones { zones, names, soa, ns }
    }

    /// Makes the names above `name` known as far as they are ours: a name with others below it exists,
    /// and must not be denied (RFC 8020).
    fn above(&self, name: &Name, names: &mut HashMap<Box<[u8]>, Entry>) {
        for above in parents(name.as_wire()) {
            let Some(zone) = self.zone_of(above) else { break };
            if !names.contains_key(above) {
                names.insert(above.into(), Entry { zone, data: Data::Nothing });
            }
        }
    }

    /// The zone with the longest apex that the name is at or below.
    fn zone_of(&self, name: &[u8]) -> Option<usize> {
        std::iter::once(name).chain(parents(name)).find_map(|end| self.zones.get(end).copied())
    }

    /// The data of a SOA record (RFC 1035, 3.3.13).
    fn soa(&self) -> Box<[u8]> {
        // Nobody copies these zones: the serial and the times for that are never used.
        let numbers = [1, 7_200, 900, 1_209_600, TTL_SECONDS];
        let mut data = [self.name_server.as_wire(), self.contact.as_wire()].concat();
        data.extend(numbers.iter().flat_map(|number: &u32| number.to_be_bytes()));
        data.into()
    }
}

fn is_wildcard(name: &Name) -> bool {
    name.as_wire().starts_with(b"\x01*")
}
