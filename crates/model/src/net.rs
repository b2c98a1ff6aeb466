//! IPv4 prefixes, and which addresses of a subnet may be given out.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

/// An IPv4 prefix in canonical form: host bits are cleared when it is read, as AWS does (spec 1.16).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(Ipv4Net);

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 prefix such as 10.0.0.0/16")]
pub struct MalformedCidr(String);

/// The address range of a VPC or subnet is larger than /16 or smaller than /28 (spec 1.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is outside the range /16 to /28")]
pub struct SizeOutOfRange(Cidr);

impl Cidr {
    /// The prefix that `net` lies in, its host bits cleared.
    pub fn new(net: Ipv4Net) -> Self {
        Self(net.trunc())
    }

    /// The prefix of one address.
    pub fn host(address: Ipv4Addr) -> Self {
        Self(Ipv4Net::from(address))
    }

    /// The prefix as the network library has it.
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// Whether `address` lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` lies in it.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether any address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Checks that a VPC or subnet may have this range.
    pub fn sized_for_a_network(self) -> Result<Self, SizeOutOfRange> {
        if (16..=28).contains(&self.0.prefix_len()) { Ok(self) } else { Err(SizeOutOfRange(self)) }
    }

    /// The first address that an interface may have: the first four of a subnet are for the network,
    /// its router, its resolver and the future (spec 4.1).
    pub fn first_usable(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.network()) + 4)
    }

    /// The last address that an interface may have: the last of a subnet is its broadcast address.
    pub fn last_usable(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.broadcast()) - 1)
    }

    /// How many addresses of a subnet of this range may be given out.
    pub fn usable(self) -> u32 {
        u32::from(self.last_usable()) - u32::from(self.first_usable()) + 1
    }

    /// The address of a VPC's resolver: the base plus two (spec 3.4).
    pub fn resolver(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0.network()) + 2)
    }
}

impl FromStr for Cidr {
    type Err = MalformedCidr;

    fn from_str(text: &str) -> Result<Self, MalformedCidr> {
        text.parse().map(Self::new).map_err(|_| MalformedCidr(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl serde::Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(cidr("10.1.2.3/16").to_string(), "10.1.0.0/16");
    }

    #[test]
    fn a_28_has_eleven_usable_addresses() {
        let subnet = cidr("10.0.0.16/28");
        assert_eq!(subnet.usable(), 11);
        assert_eq!(subnet.first_usable(), Ipv4Addr::new(10, 0, 0, 20));
        assert_eq!(subnet.last_usable(), Ipv4Addr::new(10, 0, 0, 30));
        assert_eq!(subnet.resolver(), Ipv4Addr::new(10, 0, 0, 18));
    }

    #[test]
    fn only_16_to_28_is_a_networks_size() {
        for (text, fits) in [
            ("10.0.0.0/15", false),
            ("10.0.0.0/16", true),
            ("10.0.0.0/28", true),
            ("10.0.0.0/29", false),
        ] {
            assert_eq!(cidr(text).sized_for_a_network().is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn prefixes_overlap_when_one_covers_the_other() {
        assert!(cidr("10.0.0.0/16").overlaps(cidr("10.0.4.0/24")));
        assert!(cidr("10.0.4.0/24").overlaps(cidr("10.0.0.0/16")));
        assert!(!cidr("10.0.4.0/24").overlaps(cidr("10.0.5.0/24")));
    }
}
