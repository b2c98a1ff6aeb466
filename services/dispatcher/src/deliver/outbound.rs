//! Where webhooks may go (design 16). Pure.
//!
//! Whoever can subscribe could make the dispatcher talk to things that only it can reach: the
//! network inside, the machine itself, a cloud's metadata service. So an address must be public, or
//! in a range that the configuration names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// Which addresses and ports may be dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Ranges that may be dialled though they are not public.
    pub allow: Vec<IpNet>,
    /// The ports that may be dialled; when empty 80, 443 and everything from 1024.
    pub ports: Vec<u16>,
    /// Hosts that may be dialled where their names lead to a private network.
    pub names: Vec<NamePattern>,
}

/// A host's name, or all names under one: `hooks.corp.example`, `*.corp.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    name: String,
    under: bool,
}

/// The text is no host name, or `*.` and one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a host name, or *. and one")]
pub struct BadName;

impl FromStr for NamePattern {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (name, under) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        // An address is allowed by its range.
        if !name.split('.').all(label) || name.parse::<IpAddr>().is_ok() {
            return Err(BadName);
        }
        Ok(Self { name, under })
    }
}

impl NamePattern {
    fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if self.under {
            host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        }
    }
}

/// The address or port may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The address is not public, and in none of the allowed ranges.
    #[error("{0} is not a public address, and the outbound policy does not allow it")]
    Address(IpAddr),
    /// The port is not among those allowed.
    #[error("the outbound policy does not allow port {0}")]
    Port(u16),
}

impl OutboundPolicy {
    /// Whether this address may be dialled. An IPv4 address in IPv6's clothes is judged as itself.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        if is_public(address) || self.allow.iter().any(|range| range.contains(&address)) {
            Ok(())
        } else {
            Err(Forbidden::Address(address))
        }
    }

    /// Whether this address may be dialled for this host. A host that the policy names may lead to a
    /// private network, but never to this machine, this link, or a group.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), Forbidden> {
        let canonical = address.to_canonical();
        if is_private(canonical) && self.names.iter().any(|name| name.matches(host)) {
            return Ok(());
        }
        self.check_address(address)
    }

    /// Whether this port may be dialled.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_port(&self, port: u16) -> Result<(), Forbidden> {
        let allowed = if self.ports.is_empty() {
            matches!(port, 80 | 443 | 1024..)
        } else {
            self.ports.contains(&port)
        };
        if allowed { Ok(()) } else { Err(Forbidden::Port(port)) }
    }
}

/// Whether everybody can reach this address. It must be canonical: IPv4 in no clothes.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether this is an address of a private network (RFC 1918, RFC 4193) or of a carrier's (RFC 6598). A
/// cloud's metadata service is none, in whatever range it is.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            // Alibaba's metadata service is in the carriers' range.
            let metadata = address == Ipv4Addr::new(100, 100, 100, 200);
            (address.is_private() || (a == 100 && (64..128).contains(&b))) && !metadata
        }
        // AWS's metadata services are in fd00:ec2::/32.
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            (a & 0xfe00) == 0xfc00 && (a, b) != (0xfd00, 0x0ec2)
        }
    }
}

/// All but the special purpose ranges of RFC 6890 and its registry.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)              // this network, private, loopback
            | (100, 64..=127, _)        // carrier NAT
            | (169, 254, _)             // link-local, with the clouds' metadata services
            | (172, 16..=31, _)         // private
            | (192, 0, 0 | 2)           // protocol assignments, documentation
            | (192, 88, 99)             // 6to4 relays
            | (192, 168, _)             // private
            | (198, 18..=19, _)         // benchmarks
            | (198, 51, 100)            // documentation
            | (203, 0, 113)             // documentation
            | (224.., ..) // multicast, reserved, broadcast
    );
    !special
}

/// Only the unicast range that is given out, without those parts of it that lead elsewhere: tunnels
/// and translations carry an IPv4 address that nobody has checked.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let special = matches!(
        (a, b),
        (0x2001, 0..=0x1ff)             // protocol assignments, Teredo among them
            | (0x2001, 0xdb8)           // documentation
            | (0x2002, _)               // 6to4
            | (0x3fff, 0..=0xfff) // documentation
    );
    (0x2000..0x4000).contains(&a) && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_may_be_dialled() {
        let policy = OutboundPolicy::default();
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address = address.parse().unwrap();
            assert!(policy.check_address(address).is_err(), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            let address = address.parse().unwrap();
            assert!(policy.check_address(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_range_of_the_configuration_may_be_dialled_in_either_clothes() {
        let policy =
            OutboundPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
        for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(policy.check_address(address.parse().unwrap()).is_ok(), "{address}");
        }
        assert!(policy.check_address("10.0.0.1".parse().unwrap()).is_err());
        assert!(policy.check_address("::1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_named_host_may_lead_to_a_private_network_and_nowhere_else_inside() {
        let names = ["hooks.corp.example", "*.in.example"];
        let policy = OutboundPolicy {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..Default::default()
        };
        let check =
            |host: &str, address: &str| policy.check(host, address.parse().unwrap()).is_ok();
        assert!(check("hooks.corp.example", "10.1.2.3"));
        assert!(check("Hooks.Corp.Example.", "fd12::1"));
        assert!(check("a.b.in.example", "100.64.0.1"));
        for (host, address) in [
            ("in.example", "10.1.2.3"),
            ("evil-in.example", "10.1.2.3"),
            ("hooks.corp.example.evil", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("hooks.corp.example", "127.0.0.1"),
            ("hooks.corp.example", "::ffff:127.0.0.1"),
            ("hooks.corp.example", "169.254.169.254"),
            ("hooks.corp.example", "100.100.100.200"),
            ("hooks.corp.example", "fd00:ec2::254"),
            ("hooks.corp.example", "224.0.0.1"),
            ("hooks.corp.example", "0.0.0.0"),
        ] {
            assert!(!check(host, address), "{host} {address}");
        }
        for text in ["", "*", "*.", "10.0.0.1", "a b", "a..b", "*.*.x"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn well_known_ports_other_than_the_web_s_are_refused() {
        let policy = OutboundPolicy::default();
        assert!([80, 443, 1024, 8080].iter().all(|port| policy.check_port(*port).is_ok()));
        assert!([0, 22, 25, 1023].iter().all(|port| policy.check_port(*port).is_err()));
        let one = OutboundPolicy { ports: vec![443], ..Default::default() };
        assert!(one.check_port(443).is_ok() && one.check_port(8080).is_err());
    }
}
