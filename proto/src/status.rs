//! Refusals on the wire: `google.rpc.Status` with an `ErrorInfo` whose reason is AWS's code, and a
//! `BadRequest` that names the field (design 13).

use std::collections::HashMap;

use postern_model::{Class, Code as Reason, InvalidField, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "postern";

/// What a gRPC client sees of a refusal.
pub fn status(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::with_error_info(refusal.code.as_str(), DOMAIN, HashMap::new());
    if let Some(InvalidField { field, reason }) = &refusal.field {
        details.add_bad_request_violation(field, reason);
    }
    Status::with_error_details(code(refusal.code.class()), refusal.message.clone(), details)
}

/// The one place where a class of refusals becomes a gRPC code. It has no `_` arm: a new class does
/// not compile until someone has decided what clients see.
pub fn code(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::AlreadyExists => Code::AlreadyExists,
        Class::WrongState | Class::DryRun => Code::FailedPrecondition,
        Class::Exhausted | Class::Throttled => Code::ResourceExhausted,
        Class::Unauthenticated => Code::Unauthenticated,
        Class::Denied => Code::PermissionDenied,
        Class::Unavailable => Code::Unavailable,
    }
}

/// A part that is needed is away: the same request may succeed later. What exactly is away is for
/// the log, not for the caller.
pub fn unavailable(part: &str) -> Status {
    status(&Refusal::new(
        Reason::ServiceUnavailable,
        format!("{part} is unavailable, try again later"),
    ))
}

/// A fault of our own. The cause is for the log; a caller never sees it.
pub fn internal() -> Status {
    let details = ErrorDetails::with_error_info("InternalError", DOMAIN, HashMap::new());
    Status::with_error_details(Code::Internal, "internal error", details)
}

/// AWS's code in a status of ours; `None` in anybody else's.
pub fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_reason_and_names_the_field() {
        let refusal = Refusal::of_field(Reason::InvalidSubnetRange, "cidr_block", "too small");
        let status = status(&refusal);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status).as_deref(), Some("InvalidSubnet.Range"));
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "cidr_block");
    }
}
