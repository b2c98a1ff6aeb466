//! Regions and availability zones. Zones have an id, the same for everyone, and a name that each
//! account has for itself (spec 5.2): only ids say whether two things stand in one zone.

use std::fmt;
use std::str::FromStr;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $malformed:ident, $noun:literal, $valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        #[doc = concat!("The text is not ", $noun, ".")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("{0:?} is not {noun}", noun = $noun)]
        pub struct $malformed(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $malformed;

            fn from_str(text: &str) -> Result<Self, $malformed> {
                if $valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($malformed(text.chars().take(64).collect()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text! {
    /// A region, such as `us-east-1`.
    Region, MalformedRegion, "a region such as us-east-1", is_region
}

text! {
    /// A zone's id, such as `use1-az1`.
    ZoneId, MalformedZoneId, "a zone id such as use1-az1", is_zone_id
}

text! {
    /// A zone's name in one account, such as `us-east-1a`.
    ZoneName, MalformedZoneName, "a zone name such as us-east-1a", is_zone_name
}

impl Region {
    /// How zone ids abbreviate the region: `us-east-1` is `use1`, `ap-northeast-2` is `apne2`
    /// (spec 5.2): the first part whole, the initials of the points of the compass, the number.
    pub fn abbreviation(&self) -> String {
        let mut parts = self.0.split('-');
        let mut short = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                short.push_str(part);
            } else {
                short.push_str(&initials(part));
            }
        }
        short
    }

    /// The id of the region's zone of this number, from 1.
    pub fn zone_id(&self, number: usize) -> ZoneId {
        ZoneId(format!("{}-az{number}", self.abbreviation()))
    }

    /// The zone name with this letter, from 0 for `a`.
    pub fn zone_name(&self, letter: u8) -> ZoneName {
        ZoneName(format!("{}{}", self.0, char::from(b'a' + letter % 26)))
    }
}

fn initials(part: &str) -> String {
    const COMPASS: [&str; 5] = ["north", "south", "east", "west", "central"];
    let mut rest = part;
    let mut short = String::new();
    while let Some(point) = COMPASS.iter().find(|point| rest.starts_with(**point)) {
        short.push_str(&point[..1]);
        rest = &rest[point.len()..];
    }
    if short.is_empty() { part.chars().take(1).collect() } else { short }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_region(text: &str) -> bool {
    is_word(text)
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.ends_with(|c: char| c.is_ascii_digit())
}

fn is_zone_id(text: &str) -> bool {
    is_word(text)
        && text.rsplit_once("-az").is_some_and(|(region, number)| {
            !region.is_empty()
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn is_zone_name(text: &str) -> bool {
    let mut chars = text.chars();
    let letter = chars.next_back().is_some_and(|last| last.is_ascii_lowercase());
    letter && is_region(chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_abbreviated_as_aws_does() {
        for (region, short) in [
            ("us-east-1", "use1"),
            ("ap-northeast-2", "apne2"),
            ("us-west-1", "usw1"),
            ("eu-central-1", "euc1"),
        ] {
            assert_eq!(region.parse::<Region>().unwrap().abbreviation(), short);
        }
    }

    #[test]
    fn zones_of_a_region_read_back() {
        let region: Region = "us-east-1".parse().unwrap();
        assert_eq!(region.zone_id(2).as_str().parse(), Ok(region.zone_id(2)));
        assert_eq!(region.zone_name(1).as_str(), "us-east-1b");
        assert_eq!("us-east-1b".parse(), Ok(region.zone_name(1)));
    }

    #[test]
    fn an_id_is_no_name_and_a_name_is_no_id() {
        assert!("use1-az1".parse::<ZoneName>().is_err());
        assert!("us-east-1a".parse::<ZoneId>().is_err());
        assert!("US-EAST-1".parse::<Region>().is_err());
    }
}
