//! Wildcards: `*` is any text, `?` any one character.

/// Whether `pattern` matches the whole of `text`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when a comparison fails: after the last star, one character further on. Going
    // back to the last star alone is enough, so the time is bounded by the product of the lengths.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                back = Some((p, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = back else { return false };
                p = after;
                t = from + 1;
                back = Some((after, t));
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The same without regard to ASCII case.
pub(super) fn matches_any_case(pattern: &str, text: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Whether the six parts of an ARN match those of `pattern` one by one: a star does not reach over
/// a colon, except in the resource.
pub(super) fn matches_arn(pattern: &str, text: &str) -> bool {
    let (patterns, parts) = (pattern.splitn(6, ':'), text.splitn(6, ':'));
    patterns.clone().count() == 6
        && parts.clone().count() == 6
        && patterns.zip(parts).all(|(pattern, part)| matches(pattern, part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_match_as_written() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything:at/all", true),
            ("?", "", false),
            ("?", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a*b*c", "a-b-b-c", true),
            ("*a", "aaaab", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "ABC", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(matches_any_case("sns:pub*", "SNS:Publish"));
    }

    #[test]
    fn a_star_in_an_arn_stays_in_its_part() {
        let arn = "arn:aws:ec2:us-east-1:111122223333:vpc-endpoint/vpce-1";
        assert!(matches_arn("arn:aws:ec2:*:111122223333:vpc-endpoint/*", arn));
        assert!(!matches_arn("arn:aws:*:vpc-endpoint/*", arn));
        assert!(!matches_arn("*", arn));
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_itself_alone(a in "[a-z:]{0,8}", b in "[a-z:]{0,8}") {
            prop_assert!(matches(&a, &a));
            prop_assert_eq!(matches(&a, &b), a == b);
        }

        #[test]
        fn a_star_stands_for_any_middle(a in "[a-z]{0,4}", middle in "[a-z*?]{0,6}", b in "[a-z]{0,4}") {
            let (pattern, text) = (format!("{a}*{b}"), format!("{a}{middle}{b}"));
            prop_assert!(matches(&pattern, &text));
        }
    }
}
