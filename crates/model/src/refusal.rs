//! Why a request is not done: AWS's error code, a sentence for the caller, and the faulty field.
//!
//! A refusal knows no transport. The wire decides from its [`Class`] what a gRPC or HTTP client sees.

use std::fmt;

use crate::field::InvalidField;

/// What kind of refusal a code is; each transport maps the classes to its own statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request can never succeed as it stands.
    Invalid,
    /// The thing does not exist, or not for this caller.
    NotFound,
    /// Something of that name or place exists already.
    AlreadyExists,
    /// The thing is in a state that does not allow it, or others depend on it.
    WrongState,
    /// A quota, or a range of addresses, is used up.
    Exhausted,
    /// Nobody, or not the right one, is asking.
    Unauthenticated,
    /// The caller is known and may not do this.
    Denied,
    /// Too many requests; later ones may succeed.
    Throttled,
    /// A part of Postern is away; the same request may succeed later.
    Unavailable,
    /// Permitted, and not done because the caller asked for a dry run.
    DryRun,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)*) => {
        /// AWS's error codes (spec 0.3, 1, 8.1 and 9), each with its class.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Code {
            /// Every code that there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as AWS spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What kind of refusal this is.
            pub fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

codes! {
    AuthFailure = "AuthFailure", Unauthenticated;
    AuthorizationError = "AuthorizationError", Denied;
    CannotDelete = "CannotDelete", WrongState;
    DependencyViolation = "DependencyViolation", WrongState;
    DryRunOperation = "DryRunOperation", DryRun;
    DuplicateSubnetsInSameZone = "DuplicateSubnetsInSameZone", Invalid;
    ExistingVpcEndpointConnections = "ExistingVpcEndpointConnections", WrongState;
    FilterPolicyLimitExceeded = "FilterPolicyLimitExceeded", Exhausted;
    IdempotentParameterMismatch = "IdempotentParameterMismatch", Invalid;
    InsufficientFreeAddressesInSubnet = "InsufficientFreeAddressesInSubnet", Exhausted;
    InvalidAccountDuplicate = "InvalidAccount.Duplicate", AlreadyExists;
    InvalidAccountNotFound = "InvalidAccountID.NotFound", NotFound;
    InvalidApiKeyNotFound = "InvalidApiKeyID.NotFound", NotFound;
    InvalidAttachmentConflict = "InvalidAttachment.Conflict", AlreadyExists;
    InvalidAttachmentNotFound = "InvalidAttachmentID.NotFound", NotFound;
    InvalidClientToken = "InvalidClientToken", Invalid;
    InvalidConnectionNotification = "InvalidConnectionNotification", NotFound;
    InvalidFilter = "InvalidFilter", Invalid;
    InvalidGroupDuplicate = "InvalidGroup.Duplicate", AlreadyExists;
    InvalidGroupReserved = "InvalidGroup.Reserved", Invalid;
    InvalidHostDuplicate = "InvalidHost.Duplicate", AlreadyExists;
    InvalidHostNotFound = "InvalidHostID.NotFound", NotFound;
    InvalidIpAddressInUse = "InvalidIPAddress.InUse", AlreadyExists;
    InvalidNextToken = "InvalidNextToken", Invalid;
    InvalidNetworkInterfaceNotFound = "InvalidNetworkInterfaceID.NotFound", NotFound;
    InvalidParameter = "InvalidParameter", Invalid;
    InvalidParameterCombination = "InvalidParameterCombination", Invalid;
    InvalidParameterValue = "InvalidParameterValue", Invalid;
    InvalidPermissionDuplicate = "InvalidPermission.Duplicate", AlreadyExists;
    InvalidPermissionMalformed = "InvalidPermission.Malformed", Invalid;
    InvalidPermissionNotFound = "InvalidPermission.NotFound", NotFound;
    InvalidPolicyDocument = "InvalidPolicyDocument", Invalid;
    InvalidSecurityGroupNotFound = "InvalidSecurityGroupID.NotFound", NotFound;
    InvalidServiceName = "InvalidServiceName", NotFound;
    InvalidState = "InvalidState", WrongState;
    InvalidSubnetConflict = "InvalidSubnet.Conflict", AlreadyExists;
    InvalidSubnetNotFound = "InvalidSubnetID.NotFound", NotFound;
    InvalidSubnetRange = "InvalidSubnet.Range", Invalid;
    InvalidVpcEndpointNotFound = "InvalidVpcEndpoint.NotFound", NotFound;
    InvalidVpcEndpointIdNotFound = "InvalidVpcEndpointId.NotFound", NotFound;
    InvalidVpcEndpointServiceIdNotFound = "InvalidVpcEndpointServiceId.NotFound", NotFound;
    InvalidVpcEndpointServiceNotFound = "InvalidVpcEndpointService.NotFound", NotFound;
    InvalidVpcNotFound = "InvalidVpcID.NotFound", NotFound;
    InvalidVpcRange = "InvalidVpc.Range", Invalid;
    InvalidZoneNotFound = "InvalidZone.NotFound", Invalid;
    MissingParameter = "MissingParameter", Invalid;
    NotFound = "NotFound", NotFound;
    NetworkInterfaceLimitExceeded = "NetworkInterfaceLimitExceeded", Exhausted;
    OperationNotPermitted = "OperationNotPermitted", WrongState;
    RequestLimitExceeded = "RequestLimitExceeded", Throttled;
    ResourceLimitExceeded = "ResourceLimitExceeded", Exhausted;
    RulesPerSecurityGroupLimitExceeded = "RulesPerSecurityGroupLimitExceeded", Exhausted;
    SecurityGroupLimitExceeded = "SecurityGroupLimitExceeded", Exhausted;
    SecurityGroupsPerInterfaceLimitExceeded = "SecurityGroupsPerInterfaceLimitExceeded", Invalid;
    ServiceUnavailable = "ServiceUnavailable", Unavailable;
    SubnetLimitExceeded = "SubnetLimitExceeded", Exhausted;
    SubscriptionLimitExceeded = "SubscriptionLimitExceeded", Exhausted;
    TopicLimitExceeded = "TopicLimitExceeded", Exhausted;
    UnauthorizedOperation = "UnauthorizedOperation", Denied;
    UnsupportedOperation = "UnsupportedOperation", Invalid;
    VpcEndpointLimitExceeded = "VpcEndpointLimitExceeded", Exhausted;
    VpcLimitExceeded = "VpcLimitExceeded", Exhausted;
}

/// A request that is not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// AWS's code for it.
    pub code: Code,
    /// A sentence for the caller. It names what was sent, never what belongs to somebody else.
    pub message: String,
    /// The field that is at fault, where there is one.
    pub field: Option<InvalidField>,
}

impl Refusal {
    /// A refusal that no single field is to blame for.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// A refusal for what one field says.
    pub fn of_field(code: Code, field: impl Into<String>, reason: impl Into<String>) -> Self {
        let field = InvalidField::new(field, reason);
        Self { code, message: field.to_string(), field: Some(field) }
    }
}

impl From<InvalidField> for Refusal {
    /// A field that is not well formed, whatever the request means.
    fn from(field: InvalidField) -> Self {
        Self { code: Code::InvalidParameterValue, message: field.to_string(), field: Some(field) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_codes_are_spelt_the_same() {
        let spelt: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(spelt.len(), Code::ALL.len());
    }
}
