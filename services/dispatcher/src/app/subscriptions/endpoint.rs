//! Where messages go, and how.

use std::fmt;

use lettre::Address;
use postern_model::InvalidField;
use url::{Host, Url};

use crate::deliver::outbound::OutboundPolicy;

/// The longest endpoint, in bytes.
const MAX_ENDPOINT: usize = 2048;
/// Whom the load of mails falls on.
const MAIL_TARGET: &str = "smtp";

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionProtocol {
    /// Posted to an `http://` address.
    Http,
    /// Posted to an `https://` address.
    Https,
    /// Mailed as text.
    Email,
    /// Mailed as JSON.
    EmailJson,
}

impl SubscriptionProtocol {
    /// The protocol as SNS spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Email => "email",
            Self::EmailJson => "email-json",
        }
    }

    /// The protocol of a subscription that is kept.
    pub(super) fn of(kept: &str) -> Self {
        match kept {
            "http" => Self::Http,
            "https" => Self::Https,
            "email-json" => Self::EmailJson,
            _ => Self::Email,
        }
    }

    pub(super) fn is_mail(self) -> bool {
        matches!(self, Self::Email | Self::EmailJson)
    }
}

impl fmt::Display for SubscriptionProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Checks where messages are to go; returns the endpoint as it is kept and whom its load falls on.
pub(super) fn check_endpoint(
    protocol: SubscriptionProtocol,
    endpoint: &str,
    outbound: &OutboundPolicy,
) -> Result<(String, String), InvalidField> {
    let bad = |why: String| InvalidField::new("endpoint", why);
    if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT {
        return Err(bad(format!("must have 1 to {MAX_ENDPOINT} bytes")));
    }
    if protocol.is_mail() {
        let address: Address =
            endpoint.parse().map_err(|error| bad(format!("is no mail address: {error}")))?;
        return Ok((address.to_string(), MAIL_TARGET.to_owned()));
    }
    let url = Url::parse(endpoint).map_err(|error| bad(format!("is no web address: {error}")))?;
    if url.scheme() != protocol.as_str() {
        return Err(bad(format!("must start with {protocol}:// for this protocol")));
    }
    if protocol == SubscriptionProtocol::Http
        && !(url.username().is_empty() && url.password().is_none())
    {
        return Err(bad("may carry credentials in an https:// address only".to_owned()));
    }
    let host = url.host().ok_or_else(|| bad("names no host".to_owned()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    outbound.check_port(port).map_err(|error| bad(error.to_string()))?;
    let literal = match host {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    };
    if let Some(address) = literal {
        outbound.check_address(address).map_err(|error| bad(error.to_string()))?;
    }
    Ok((endpoint.to_owned(), format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: SubscriptionProtocol, endpoint: &str) -> Result<String, String> {
        check_endpoint(protocol, endpoint, &OutboundPolicy::default())
            .map(|(_, target)| target)
            .map_err(|field| field.reason)
    }

    #[test]
    fn endpoints_are_checked_by_their_protocol() {
        use SubscriptionProtocol::{Email, Http, Https};
        assert_eq!(check(Http, "http://Example.com/a?b").unwrap(), "example.com:80");
        assert_eq!(check(Https, "https://u:p@example.com:8443/").unwrap(), "example.com:8443");
        assert_eq!(check(Email, "someone@example.com").unwrap(), "smtp");
        for (protocol, endpoint) in [
            (Http, ""),
            (Http, "example.com"),
            (Http, "https://example.com/"),
            (Http, "http://u:p@example.com/"),
            (Http, "http://example.com:22/"),
            (Http, "http://127.0.0.1:8080/"),
            (Http, "http://2130706433:8080/"),
            (Http, "http://[::ffff:169.254.169.254]/"),
            (Https, "http://example.com/"),
            (Email, "someone"),
            (Email, "http://example.com/"),
        ] {
            assert!(check(protocol, endpoint).is_err(), "{endpoint}");
        }
    }
}
