//! Networks that one test has to itself.

use std::net::{Ipv4Addr, UdpSocket};

/// The port that a claim is staked at; nothing else of the tests listens there.
const STAKE: u16 = 65_530;

/// A /16. One in 127.0.0.0/8 nobody else gets as long as this is held: a socket says so, which goes with
/// the process that holds it.
#[derive(Debug)]
pub struct Block {
    octets: [u8; 2],
    _stake: Option<UdpSocket>,
}

impl Block {
    /// The network that begins with these octets, somewhere where nobody else is: between network
    /// namespaces.
    pub fn of(first: u8, second: u8) -> Self {
        Self { octets: [first, second], _stake: None }
    }

    /// One in 127.0.0.0/8 that nobody has.
    pub fn claim() -> Self {
        // Below and above what `postern dev` and `postern demo` take, and people by hand.
        let all: Vec<u8> = (26..=60).chain(180..=250).collect();
        let start: usize = rand::random_range(0..all.len());
        for second in all.iter().cycle().skip(start).take(all.len()).copied() {
            if let Ok(stake) = UdpSocket::bind((Ipv4Addr::new(127, second, 255, 250), STAKE)) {
                return Self { octets: [127, second], _stake: Some(stake) };
            }
        }
        panic!("everything in 127.0.0.0/8 is taken")
    }

    /// Its CIDR.
    pub fn cidr(&self) -> String {
        format!("{}/16", self.at(0))
    }

    /// The CIDR of its `index`th /24.
    pub fn subnet(&self, index: u8) -> String {
        format!("{}/24", self.at(u16::from(index) << 8))
    }

    /// The address with this offset.
    pub fn at(&self, offset: u16) -> Ipv4Addr {
        let [third, fourth] = offset.to_be_bytes();
        let [first, second] = self.octets;
        Ipv4Addr::new(first, second, third, fourth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_are_two_networks() {
        let (one, two) = (Block::claim(), Block::claim());
        assert_ne!(one.cidr(), two.cidr());
        assert_eq!(one.at(0x0102).octets()[2..], [1, 2]);
        let other = Block::of(10, 3);
        assert_eq!((other.cidr(), other.subnet(7)), ("10.3.0.0/16".into(), "10.3.7.0/24".into()));
    }
}
