//! Where the demo plays: two networks, the addresses in them, and how hosts reach them.

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use postern_model::net::Cidr;
use rand::Rng;

use super::DemoOptions;

/// A host, with the addresses of its interfaces in the two networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedHost {
    /// The host's name.
    pub name: String,
    /// Its address in the consumer's network.
    pub consumer: Ipv4Addr,
    /// Its address in the provider's network.
    pub provider: Ipv4Addr,
}

impl FromStr for AttachedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (name, addresses) = text.split_once('=')?;
            let (consumer, provider) = addresses.split_once(',')?;
            let (consumer, provider) = (consumer.parse().ok()?, provider.parse().ok()?);
            Some(Self { name: name.to_owned(), consumer, provider })
        };
        parse().ok_or_else(|| "expected HOST=ADDRESS,ADDRESS".to_owned())
    }
}

/// Two networks and the addresses in them.
#[derive(Clone, Debug)]
pub struct Networks {
    /// The consumer's VPC.
    pub consumer: Cidr,
    /// The consumer's subnets, one for each of two zones.
    pub subnets: [Cidr; 2],
    /// The provider's VPC.
    pub provider: Cidr,
    /// Where the consumer's client connects from; the group lets it in.
    pub source: Ipv4Addr,
    /// Where a client connects from that the group does not let in, where there is such an address.
    pub stranger: Option<Ipv4Addr>,
    /// Where the provider's servers listen.
    pub target: Ipv4Addr,
}

impl Networks {
    /// The networks that the options name; what they leave open lies in 127.0.0.0/8, somewhere at
    /// random, so that two demos don't meet.
    pub fn choose(options: &DemoOptions, random: &mut impl Rng) -> Self {
        let mut offsets = [random.random_range(0..48u8), random.random_range(0..48u8)].into_iter();
        let mut next = |from: u8| {
            let second = from + offsets.next().unwrap_or_default();
            Cidr::new(Ipv4Net::new_assert(Ipv4Addr::new(127, second, 0, 0), 16))
        };
        let consumer = options.consumer_cidr.unwrap_or_else(|| next(64));
        let provider = options.provider_cidr.unwrap_or_else(|| next(128));
        let subnets = [subnet(consumer, 1), subnet(consumer, 2)];
        let own = |cidr: Cidr, last: u32| Ipv4Addr::from(u32::from(cidr.net().network()) + last);
        Self {
            consumer,
            subnets,
            provider,
            source: options.source.unwrap_or_else(|| own(consumer, 50)),
            // On loopback a process may connect from any address; elsewhere from its own alone.
            stranger: options.source.is_none().then(|| own(consumer, 0x6363)),
            target: options.target_address.unwrap_or_else(|| own(provider, 10)),
        }
    }
}

/// The `index`th /24 of a network, or what fits in its place where the network is small.
fn subnet(cidr: Cidr, index: u32) -> Cidr {
    let prefix = cidr.net().prefix_len().max(14) + 2;
    let prefix = prefix.clamp(24, 28);
    let size = 1u32 << (32 - u32::from(prefix));
    let base = u32::from(cidr.net().network()) + index * size;
    Cidr::new(Ipv4Net::new_assert(Ipv4Addr::from(base), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_two_addresses() {
        let host: AttachedHost = "agent-a=10.77.0.11,10.88.0.11".parse().unwrap();
        assert_eq!((host.name.as_str(), host.consumer.octets()[3]), ("agent-a", 11));
        for text in ["", "a", "a=1", "a=10.0.0.1", "a=10.0.0.1,x"] {
            assert!(text.parse::<AttachedHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn subnets_lie_in_their_network_and_apart() {
        for network in ["127.70.0.0/16", "10.0.0.0/20", "10.0.0.0/24", "10.0.0.0/26"] {
            let network: Cidr = network.parse().unwrap();
            let (one, two) = (subnet(network, 1), subnet(network, 2));
            assert!(network.covers(one) && network.covers(two) && !one.overlaps(two), "{network}");
            assert!(one.sized_for_a_network().is_ok());
        }
    }
}
