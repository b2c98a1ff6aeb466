//! The Standard Webhooks headers (<https://www.standardwebhooks.com>, specification 1.0): HMAC-SHA-256 of
//! id, time and body with the subscription's own secret, beside SNS's signature in the body.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chrono::{DateTime, Utc};
use ring::hmac;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The three headers of a message, names and values.
pub fn headers(
    id: &str,
    now: DateTime<Utc>,
    body: &[u8],
    secrets: &[&str],
) -> Option<[(&'static str, String); 3]> {
    let timestamp = now.timestamp().to_string();
    // One for each secret, so that a receiver who knows either believes it.
    let signatures: Vec<String> =
        secrets.iter().filter_map(|secret| signature(id, &timestamp, body, secret)).collect();
    (!signatures.is_empty()).then(|| {
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signatures.join(" ")),
        ]
    })
}

fn signature(id: &str, timestamp: &str, body: &[u8], secret: &str) -> Option<String> {
    let encoded = secret.strip_prefix(PREFIX).unwrap_or(secret);
    let key = STANDARD
        .decode(encoded)
        .or_else(|_| STANDARD_NO_PAD.decode(encoded))
        .ok()
        .filter(|key| !key.is_empty())?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification_s_example() {
        // From the specification's own test vectors.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let now = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let headers = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", now, body, &[secret]).unwrap();
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures_and_none_makes_no_headers() {
        let now = DateTime::from_timestamp(1, 0).unwrap();
        let two = headers("m", now, b"x", &["whsec_AAAA", "whsec_BBBB"]).unwrap();
        assert_eq!(two[2].1.split(' ').count(), 2);
        assert!(headers("m", now, b"x", &[]).is_none());
        assert!(headers("m", now, b"x", &["whsec_"]).is_none());
    }
}
