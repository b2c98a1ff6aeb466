//! Decimal numbers that are compared exactly, as policies and filters need them: 0.1 is 0.1.

use std::fmt;

/// Digits after the point that are kept.
const PLACES: i64 = 9;
/// One, in units of the last place that is kept.
const ONE: i128 = 1_000_000_000;
/// Magnitudes from here on, in the same unit, are all the same: more than any limit anywhere.
const CAP: i128 = ONE * 1_000_000_000_000_000_000_000;

/// A number. What has more than nine digits after the point stays apart from every number that has
/// not: it lies between its two neighbours, so comparing with a number of nine digits is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(
    // Twice the number of units, and one further from zero if anything was cut off.
    i128,
);

impl Decimal {
    /// Reads `-12`, `0.25` or `1e3`; `None` for what is no such number.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !is_digits(whole) {
            return None;
        }
        // The power of ten of the digit at hand.
        let mut power = i64::try_from(whole.len()).ok()?.saturating_add(exponent);
        let (mut units, mut cut) = (0_i128, false);
        for digit in whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0')) {
            power = power.saturating_sub(1);
            if power >= -PLACES {
                units = (units * 10 + digit).min(CAP);
            } else {
                cut |= digit != 0;
            }
        }
        while power > -PLACES && units > 0 && units < CAP {
            units = (units * 10).min(CAP);
            power -= 1;
        }
        cut |= units >= CAP;
        let magnitude = units.min(CAP) * 2 + i128::from(cut);
        Some(Self(if negative { -magnitude } else { magnitude }))
    }

    /// Whether every digit was kept.
    pub fn is_exact(self) -> bool {
        self.0 % 2 == 0
    }

    /// Whether it is within plus or minus `limit` and has at most `places` (0 to 9) digits after the
    /// point.
    pub fn fits(self, limit: u32, places: u32) -> bool {
        let step = 2 * ONE / 10_i128.pow(places.min(9));
        self.0 % step == 0 && self.0.abs() <= 2 * ONE * i128::from(limit)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self(2 * ONE * i128::from(number))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.abs() / 2;
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", units / ONE)?;
        if units % ONE != 0 {
            let fraction = format!("{:09}", units % ONE);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent; one that is far beyond all limits is as good as the limit.
fn exponent_of(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !is_digits(digits) {
        return None;
    }
    // More than any document has digits, so a mantissa cannot make up for it.
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn one_number_in_several_spellings_is_one_number() {
        for (one, other) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0.25", "25E-2"),
            ("-0", "0"),
            ("0e99999999999999999999", "0"),
            ("007", "7"),
            ("12.5", "1.25e+1"),
        ] {
            assert_eq!(decimal(one), decimal(other), "{one} {other}");
        }
    }

    #[test]
    fn numbers_are_ordered_by_value_however_long_they_are() {
        let ordered = [
            "-1e400",
            "-1e9",
            "-2",
            "-1.0000000001",
            "-1",
            "-1e-400",
            "0",
            "1e-400",
            "1e-9",
            "0.1",
            "0.10000000000000001",
            "0.100000001",
            "1",
            "9",
            "10",
            "1e20",
            "1e400",
        ];
        for pair in ordered.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
        assert!(decimal("0.123456789").is_exact() && !decimal("0.1234567891").is_exact());
        assert!(!decimal("1e400").is_exact());
    }

    #[test]
    fn limits_and_places_are_checked() {
        assert!(decimal("1000000000").fits(1_000_000_000, 5));
        assert!(decimal("-0.12345").fits(1_000_000_000, 5));
        assert!(!decimal("1000000000.00001").fits(1_000_000_000, 5));
        assert!(!decimal("0.123456").fits(1_000_000_000, 5));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "-", "+1", ".5", "5.", "1e", "1e+", "0x10", "NaN", "inf", " 1", "1 ", "1_0"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(number in -1_000_000_000_000_i64..1_000_000_000_000, places in 0_i32..9) {
            let one = decimal(&format!("{number}e-{places}"));
            prop_assert_eq!(decimal(&one.to_string()), one);
        }

        #[test]
        fn order_agrees_with_floats(a in -1e6_f64..1e6, b in -1e6_f64..1e6) {
            prop_assume!((a - b).abs() > 1e-6);
            prop_assert_eq!(decimal(&a.to_string()) < decimal(&b.to_string()), a < b);
        }
    }
}
