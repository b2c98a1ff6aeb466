//! Security groups as the data plane sees them (spec 4.2): rules that allow, and nothing else.
//!
//! A control plane resolves group references into prefixes; what is left here is an [`IngressRule`]:
//! a source prefix, a protocol, a range of ports. [`allows`] is the reference evaluation, which the
//! kernel filters of the data plane are tested against. Whether a flow is known already (groups are
//! stateful) is no matter of the rules: only the first packet of a connection is put to them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::field::InvalidField;
use crate::net::Cidr;

/// What a rule says of the IP protocol; in text as in AWS's `IpProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `-1`: every protocol, and every port whatever the range of the rule says (spec 4.2).
    All,
    /// `tcp`, number 6: the one protocol that endpoints carry.
    Tcp,
    /// Any other protocol, by its IANA number. Never 6: that is [`Protocol::Tcp`].
    Number(u8),
}

const TCP: u8 = 6;
/// The protocols that have a name besides their number, as on AWS.
const NAMES: [(&str, u8); 4] = [("tcp", TCP), ("udp", 17), ("icmp", 1), ("icmpv6", 58)];

impl Protocol {
    /// The protocol with an IANA number.
    pub fn from_number(number: u8) -> Self {
        if number == TCP { Self::Tcp } else { Self::Number(number) }
    }

    /// Whether a rule for this protocol covers packets of `other`.
    pub fn covers(self, other: Self) -> bool {
        self == Self::All || self == other
    }

    /// Whether the port range of a rule for this protocol means ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Number(17))
    }
}

/// The text is neither `-1`, nor a protocol's name, nor its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a protocol is -1 for all, tcp, udp, icmp, icmpv6, or a number from 0 to 255")]
pub struct MalformedProtocol;

impl FromStr for Protocol {
    type Err = MalformedProtocol;

    fn from_str(text: &str) -> Result<Self, MalformedProtocol> {
        if text == "-1" {
            return Ok(Self::All);
        }
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
            return Ok(Self::from_number(*number));
        }
        // `u8::from_str` takes a plus sign, which no AWS tool writes or understands.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MalformedProtocol);
        }
        text.parse().map(Self::from_number).map_err(|_| MalformedProtocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self {
            Self::All => return f.write_str("-1"),
            Self::Tcp => TCP,
            Self::Number(number) => *number,
        };
        match NAMES.iter().find(|(_, named)| *named == number) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{number}"),
        }
    }
}

impl serde::Serialize for Protocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Protocol {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A range of ports, both ends included. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct PortRange {
    from: u16,
    to: u16,
}

impl PortRange {
    /// Every port there is.
    pub const ALL: Self = Self { from: 0, to: u16::MAX };

    /// The ports from `from` to `to`; refused where `to` is below `from`.
    pub fn new(from: u16, to: u16) -> Result<Self, EmptyPortRange> {
        if from > to {
            return Err(EmptyPortRange { from, to });
        }
        Ok(Self { from, to })
    }

    /// One port alone.
    pub fn single(port: u16) -> Self {
        Self { from: port, to: port }
    }

    /// The lowest port of the range.
    pub fn first(self) -> u16 {
        self.from
    }

    /// The highest port of the range.
    pub fn last(self) -> u16 {
        self.to
    }

    /// Whether the range has `port` in it.
    pub fn contains(self, port: u16) -> bool {
        (self.from..=self.to).contains(&port)
    }
}

/// The range ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range of ports {from} to {to} is empty: it ends before it begins")]
pub struct EmptyPortRange {
    from: u16,
    to: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, "{}", self.from),
            false => write!(f, "{}-{}", self.from, self.to),
        }
    }
}

impl<'de> serde::Deserialize<'de> for PortRange {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Ends {
            from: u16,
            to: u16,
        }
        let Ends { from, to } = Ends::deserialize(deserializer)?;
        Self::new(from, to).map_err(serde::de::Error::custom)
    }
}

/// One thing that a group lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct IngressRule {
    /// Where the packet must come from.
    pub source: Cidr,
    /// The protocol that it must be of.
    pub protocol: Protocol,
    /// The port that it must be sent to; says nothing where the protocol is [`Protocol::All`].
    pub ports: PortRange,
}

impl IngressRule {
    /// Reads a rule as a request gives it: `field` is the path of the rule in the request, and ends up
    /// in the error, as in `ip_permissions[2].to_port`.
    ///
    /// Ports are optional where the protocol is `-1` (they are ignored there) and for protocols
    /// without ports. For TCP and UDP both ends must be given, from 0 to 65535.
    pub fn parse(
        field: &str,
        source: &str,
        protocol: &str,
        from_port: Option<i64>,
        to_port: Option<i64>,
    ) -> Result<Self, InvalidField> {
        let source = crate::field::parse(&format!("{field}.cidr_ipv4"), source)?;
        let protocol: Protocol = crate::field::parse(&format!("{field}.ip_protocol"), protocol)?;
        if !protocol.has_ports() {
            return Ok(Self { source, protocol, ports: PortRange::ALL });
        }
        let port = |end: &str, value: Option<i64>| {
            let field = format!("{field}.{end}");
            let Some(value) = value else {
                let reason = format!("a rule for {protocol} needs a port from 0 to 65535");
                return Err(InvalidField::new(field, reason));
            };
            u16::try_from(value).map_err(|_| {
                InvalidField::new(field, format!("{value} is not a port: expected 0 to 65535"))
            })
        };
        let ports = PortRange::new(port("from_port", from_port)?, port("to_port", to_port)?)
            .map_err(|empty| InvalidField::new(format!("{field}.to_port"), empty.to_string()))?;
        Ok(Self { source, protocol, ports })
    }

    /// Whether this rule speaks of `protocol` and `port`, wherever the packet comes from.
    pub fn admits(&self, protocol: Protocol, port: u16) -> bool {
        match self.protocol {
            Protocol::All => true,
            own => own == protocol && self.ports.contains(port),
        }
    }
}

impl fmt::Display for IngressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.protocol, self.source, self.ports)
    }
}

/// Whether any of the rules lets in a first packet of `protocol` from `source` to `port`. No rule at
/// all lets nothing in (spec 4.2).
pub fn allows(rules: &[IngressRule], source: Ipv4Addr, protocol: Protocol, port: u16) -> bool {
    rules.iter().any(|rule| rule.admits(protocol, port) && rule.source.contains(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(source: &str, protocol: &str, from: i64, to: i64) -> IngressRule {
        IngressRule::parse("rules[0]", source, protocol, Some(from), Some(to)).unwrap()
    }

    fn tcp(rules: &[IngressRule], source: [u8; 4], port: u16) -> bool {
        allows(rules, source.into(), Protocol::Tcp, port)
    }

    #[test]
    fn without_a_rule_nothing_is_let_in() {
        assert!(!tcp(&[], [10, 0, 0, 1], 443));
    }

    #[test]
    fn a_rule_lets_in_its_prefix_and_ports_and_no_more() {
        let rules = [rule("10.1.0.0/16", "tcp", 443, 445)];
        assert!(tcp(&rules, [10, 1, 0, 0], 443) && tcp(&rules, [10, 1, 255, 255], 445));
        assert!(!tcp(&rules, [10, 2, 0, 0], 443), "another source");
        assert!(!tcp(&rules, [10, 1, 0, 1], 442) && !tcp(&rules, [10, 1, 0, 1], 446));
        assert!(!allows(&rules, [10, 1, 0, 1].into(), Protocol::Number(17), 443), "udp");
    }

    #[test]
    fn a_rule_for_all_protocols_ignores_its_ports() {
        let rules = [IngressRule {
            source: "0.0.0.0/0".parse().unwrap(),
            protocol: Protocol::All,
            ports: PortRange::single(22),
        }];
        assert!(tcp(&rules, [203, 0, 113, 9], 443));
    }

    #[test]
    fn protocols_are_read_by_name_and_number_and_written_by_name() {
        for (text, protocol, written) in [
            ("-1", Protocol::All, "-1"),
            ("TCP", Protocol::Tcp, "tcp"),
            ("6", Protocol::Tcp, "tcp"),
            ("17", Protocol::Number(17), "udp"),
            ("47", Protocol::Number(47), "47"),
        ] {
            assert_eq!(text.parse(), Ok(protocol), "{text}");
            assert_eq!(protocol.to_string(), written);
        }
        for text in ["", "all", "256", "+6", "-2", "6 "] {
            assert_eq!(text.parse::<Protocol>(), Err(MalformedProtocol), "{text}");
        }
    }

    #[test]
    fn a_fault_names_the_field_of_the_request() {
        let fault = |source, protocol, from, to| {
            IngressRule::parse("rules[3]", source, protocol, from, to).unwrap_err().field
        };
        assert_eq!(fault("10.0.0.0/33", "tcp", Some(1), Some(2)), "rules[3].cidr_ipv4");
        assert_eq!(fault("10.0.0.0/8", "tpc", Some(1), Some(2)), "rules[3].ip_protocol");
        assert_eq!(fault("10.0.0.0/8", "tcp", None, Some(2)), "rules[3].from_port");
        assert_eq!(fault("10.0.0.0/8", "tcp", Some(1), Some(65536)), "rules[3].to_port");
        assert_eq!(fault("10.0.0.0/8", "tcp", Some(3), Some(2)), "rules[3].to_port");
    }

    #[test]
    fn a_rule_reads_back_from_its_json_and_an_empty_range_does_not() {
        let rule = rule("10.1.0.0/16", "tcp", 443, 443);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<IngressRule>(&json).unwrap(), rule, "{json}");
        let backwards = json.replace("\"to\":443", "\"to\":1");
        assert!(serde_json::from_str::<IngressRule>(&backwards).is_err(), "{backwards}");
    }
}
