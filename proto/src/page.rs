//! Pages of lists: their size, and the opaque token that asks for the next.

use postern_model::{Code, Refusal};

/// How many items a page has when the request doesn't say.
const DEFAULT: u32 = 100;
/// How many items a page has at most; a larger number is clamped, not refused (spec 0.3).
const MAX: u32 = 1000;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many items at most: 1 to 1000.
    pub size: u32,
    /// The id of the last item of the page before; `None` for the first page.
    pub after: Option<String>,
}

impl Page {
    /// Reads `page_size` and `page_token`.
    ///
    /// # Errors
    ///
    /// A negative size (`InvalidParameterValue`), or a token that no list gave out
    /// (`InvalidNextToken`).
    pub fn parse(size: i32, token: &str) -> Result<Self, Refusal> {
        let size = match u32::try_from(size) {
            Ok(0) => DEFAULT,
            Ok(size) => size.min(MAX),
            Err(_) => {
                let why = "must not be negative";
                return Err(Refusal::of_field(Code::InvalidParameterValue, "page_size", why));
            }
        };
        let bad = || {
            Refusal::of_field(Code::InvalidNextToken, "page_token", "no list gave out this token")
        };
        let after = if token.is_empty() { None } else { Some(decode(token).ok_or_else(bad)?) };
        Ok(Self { size, after })
    }

    /// How many rows to ask for: one more than the page has, to see whether another follows.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Cuts the rows down to the page, and says what asks for the next one: empty on the last.
    pub fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> String) -> String {
        let size = self.size as usize;
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|last| encode(&key(last))).unwrap_or_default()
    }
}

/// The token's first byte, so that a later form can be told from this one.
const VERSION: u8 = b'1';
/// No key of a list is longer.
const KEY_MAX: usize = 512;

fn encode(key: &str) -> String {
    use std::fmt::Write as _;
    let mut token = String::with_capacity(2 * key.len() + 2);
    for byte in std::iter::once(VERSION).chain(key.bytes()) {
        // Writing to memory can't fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

fn decode(token: &str) -> Option<String> {
    if !token.len().is_multiple_of(2) || token.len() > 2 * (KEY_MAX + 1) || !token.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&token[at..at + 2], 16).ok())
        .collect();
    let bytes = bytes?;
    let (version, key) = bytes.split_first()?;
    if *version != VERSION || key.contains(&0) {
        return None;
    }
    String::from_utf8(key.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_item_after_the_last_one() {
        let page = Page::parse(2, "").unwrap();
        let mut rows = vec!["a", "b", "c"];
        let token = page.cut(&mut rows, |row| (*row).to_owned());
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(Page::parse(2, &token).unwrap().after.as_deref(), Some("b"));
    }

    #[test]
    fn the_last_page_has_no_token() {
        let mut rows = vec!["a", "b"];
        assert_eq!(Page::parse(2, "").unwrap().cut(&mut rows, |row| (*row).to_owned()), "");
    }

    #[test]
    fn a_token_that_no_list_gave_out_is_refused() {
        for token in ["x", "zz", "00", "3", "é1", "31ff", "3100"] {
            let refusal = Page::parse(0, token).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidNextToken, "{token}");
        }
    }

    #[test]
    fn sizes_are_defaulted_and_clamped_and_never_negative() {
        assert_eq!(Page::parse(0, "").unwrap().size, 100);
        assert_eq!(Page::parse(5000, "").unwrap().size, 1000);
        assert!(Page::parse(-1, "").is_err());
    }
}
