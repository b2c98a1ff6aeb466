//! Principals: who may ask for a connection to a service (spec section 6).

use std::fmt;
use std::str::FromStr;

use crate::account::AccountId;

/// A pattern in a service's permissions: everyone, an account, or one user or role of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PrincipalPattern {
    /// `*`.
    All,
    /// `arn:aws:iam::<account>:root`, or the bare account number.
    Account(AccountId),
    /// `arn:aws:iam::<account>:user/<name>`.
    User(AccountId, String),
    /// `arn:aws:iam::<account>:role/<name>`.
    Role(AccountId, String),
}

/// Why a text is no principal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedPrincipal {
    /// It has not the form of one.
    #[error(
        "{0:?} is no principal: expected *, an account number or arn:aws:iam::<account>:root, :user/<name> or :role/<name>"
    )]
    Form(String),
    /// A path is part of the name, which permissions don't support (spec 6).
    #[error("{0:?} has a path, which is not supported")]
    Path(String),
}

impl PrincipalPattern {
    /// AWS's word for this kind of principal.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Account(_) => "Account",
            Self::User(..) => "User",
            Self::Role(..) => "Role",
        }
    }

    /// Whether `principal` (an ARN) of `account` is meant.
    pub fn covers(&self, account: AccountId, principal: &str) -> bool {
        match self {
            Self::All => true,
            Self::Account(allowed) => *allowed == account,
            Self::User(..) | Self::Role(..) => self.to_string() == principal,
        }
    }
}

impl FromStr for PrincipalPattern {
    type Err = MalformedPrincipal;

    fn from_str(text: &str) -> Result<Self, MalformedPrincipal> {
        let shown = || text.chars().take(128).collect::<String>();
        let form = || MalformedPrincipal::Form(shown());
        if text == "*" {
            return Ok(Self::All);
        }
        if let Ok(account) = text.parse() {
            return Ok(Self::Account(account));
        }
        let rest = text.strip_prefix("arn:aws:iam::").ok_or_else(form)?;
        let (account, resource) = rest.split_once(':').ok_or_else(form)?;
        let account = account.parse().map_err(|_| form())?;
        if resource == "root" {
            return Ok(Self::Account(account));
        }
        let (kind, name) = resource.split_once('/').ok_or_else(form)?;
        if name.contains('/') {
            return Err(MalformedPrincipal::Path(shown()));
        }
        // IAM's names: letters, digits and these signs, at most 64.
        let named = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
        match kind {
            "user" if named => Ok(Self::User(account, name.to_owned())),
            "role" if named => Ok(Self::Role(account, name.to_owned())),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for PrincipalPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Account(account) => f.write_str(&account.root_arn()),
            Self::User(account, name) => write!(f, "arn:aws:iam::{account}:user/{name}"),
            Self::Role(account, name) => write!(f, "arn:aws:iam::{account}:role/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_read_back_in_canonical_form() {
        for (text, canonical) in [
            ("*", "*"),
            ("111122223333", "arn:aws:iam::111122223333:root"),
            ("arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"),
            ("arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/bob"),
            ("arn:aws:iam::111122223333:role/ci", "arn:aws:iam::111122223333:role/ci"),
        ] {
            assert_eq!(text.parse::<PrincipalPattern>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn what_is_no_principal_is_refused() {
        for text in [
            "",
            "**",
            "bob",
            "arn:aws:iam::1:root",
            "arn:aws:iam::111122223333:group/g",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:user/a/b",
            "arn:aws:sts::111122223333:assumed-role/r/s",
        ] {
            assert!(text.parse::<PrincipalPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_account_covers_all_its_principals_and_a_user_only_itself() {
        let account: AccountId = "111122223333".parse().unwrap();
        let bob = "arn:aws:iam::111122223333:user/bob";
        let covers =
            |pattern: &str| pattern.parse::<PrincipalPattern>().unwrap().covers(account, bob);
        assert!(covers("*") && covers("111122223333") && covers(bob));
        assert!(!covers("arn:aws:iam::111122223333:user/alice") && !covers("444455556666"));
    }
}
