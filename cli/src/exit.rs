//! How the program ends when it did not do what it was asked to: one line for people on standard
//! error, and a status for scripts.

use std::process::ExitCode;

use postern_proto::status::reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Why it was not done.
#[derive(Debug)]
pub enum Failure {
    /// The server refused, or failed.
    Refused(Box<Status>),
    /// Some items of a bulk request were not done.
    Unsuccessful(usize),
    /// What was said on the command line, or in a profile, can't be meant.
    Usage(String),
    /// What was waited for did not happen in time.
    TimedOut(String),
    /// A step of the demo differs from what it should be.
    Demo(String),
    /// A policy that was asked does not allow it.
    NotAllowed(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    /// The status for scripts.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(status)
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) =>
            {
                3
            }
            Self::Refused(_)
            | Self::Unsuccessful(_)
            | Self::Demo(_)
            | Self::NotAllowed(_)
            | Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 4,
        }
    }

    /// Says it on standard error, and ends with the status.
    pub fn report(&self) -> ExitCode {
        eprintln!("postern: {}", self.sentence());
        ExitCode::from(self.code())
    }

    /// What happened, in one line.
    pub fn sentence(&self) -> String {
        match self {
            Self::Refused(status) => refused(status),
            Self::Unsuccessful(items) => format!("{items} not done, see above"),
            Self::Usage(text)
            | Self::TimedOut(text)
            | Self::Demo(text)
            | Self::NotAllowed(text) => text.clone(),
            Self::Other(error) => format!("{error:#}"),
        }
    }
}

/// A status in one line: AWS's code, the message, and the fields that are to blame where the message
/// does not name them.
fn refused(status: &Status) -> String {
    let code = reason(status).unwrap_or_else(|| format!("{:?}", status.code()));
    let mut text = format!("{code}: {}", status.message());
    // What a transport says of itself hides the cause a level down.
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    for violation in
        status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations)
    {
        if !text.contains(&violation.field) {
            text.push_str(&format!(" ({}: {})", violation.field, violation.description));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use postern_model::{Code as Reason, Refusal};

    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_awss_code_and_the_field() {
        let refusal = Refusal::of_field(Reason::InvalidSubnetRange, "cidr_block", "is too large");
        let failure = Failure::from(postern_proto::status::status(&refusal));
        assert_eq!(failure.sentence(), "InvalidSubnet.Range: cidr_block: is too large");
        assert_eq!(failure.code(), 1);
    }

    #[test]
    fn scripts_can_tell_nobody_there_from_refused() {
        assert_eq!(Failure::from(postern_proto::status::unavailable("the database")).code(), 3);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::TimedOut(String::new()).code(), 4);
    }
}
