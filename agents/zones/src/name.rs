//! Names in the form that they have in packets.

use std::fmt;
use std::str::FromStr;

/// How long a name may be in a packet, in bytes (RFC 1035, 2.3.4).
pub(crate) const WIRE_MAX: usize = 255;
/// How long a label may be, in bytes.
pub(crate) const LABEL_MAX: usize = 63;

/// A name as in a packet, in lower case and without compression: each label behind its length, and a
/// zero. Two spellings of a name are equal bytes, and each of its ends is a slice of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(
    // Invariant: well-formed labels up to and including the root, at most `WIRE_MAX` bytes.
    Box<[u8]>,
);

/// The text can't be a name in DNS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a DNS name: labels have 1 to 63 bytes, the whole at most 253")]
pub struct MalformedName(String);

impl Name {
    /// The bytes, as in a packet.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.len() == 1
    }
}

/// The names above `wire`, the nearest first and the root last. `wire` is a name's bytes.
pub(crate) fn parents(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(wire), |above| parent(above))
}

fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(&length) => wire.get(usize::from(length) + 1..),
    }
}

impl FromStr for Name {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let labels = text.strip_suffix('.').unwrap_or(text);
        for label in labels.split('.').filter(|_| !labels.is_empty()) {
            let odd = |byte: u8| !byte.is_ascii_graphic();
            if label.is_empty() || label.len() > LABEL_MAX || label.bytes().any(odd) {
                return Err(MalformedName(text.chars().take(WIRE_MAX).collect()));
            }
            wire.push(label.len() as u8);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        if wire.len() > WIRE_MAX {
            return Err(MalformedName(text.chars().take(WIRE_MAX).collect()));
        }
        Ok(Self(wire.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        let ends = std::iter::once(&*self.0).chain(parents(&self.0));
        for (at, end) in ends.take_while(|end| end[0] != 0).enumerate() {
            let label = &end[1..=usize::from(end[0])];
            write!(f, "{}{}", if at == 0 { "" } else { "." }, label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_equal() {
        let name: Name = "API.Example.com.".parse().unwrap();
        assert_eq!(name, "api.example.com".parse().unwrap());
        assert_eq!(name.as_wire(), b"\x03api\x07example\x03com\0");
        assert_eq!(name.to_string(), "api.example.com");
        assert_eq!(".".parse::<Name>().unwrap().to_string(), ".");
    }

    #[test]
    fn what_fits_into_no_packet_is_no_name() {
        let long = "abcdefg.".repeat(32);
        for text in ["a..b", ".a", "a b", "é", &"a".repeat(64), &long] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert!(long[..253].parse::<Name>().is_ok());
    }

    #[test]
    fn the_names_above_end_with_the_root() {
        let name: Name = "a.b.c".parse().unwrap();
        let above: Vec<_> = parents(name.as_wire()).collect();
        assert_eq!(above, [&b"\x01b\x01c\0"[..], b"\x01c\0", b"\0"]);
    }
}
