//! Condition operators: how conditions compare, and what a missing key means to each (spec 8.6).

use std::fmt;
use std::str::FromStr;

/// A comparison with its modifiers, such as `ForAnyValue:StringNotLikeIfExists`.
///
/// A key that the request has not: with `IfExists` the condition holds; without, `ForAnyValue` does
/// not hold, `ForAllValues` does, and else negated comparisons hold and the others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// How several values of the request count.
    pub quantifier: Option<Quantifier>,
    /// The comparison.
    pub comparison: Comparison,
    /// Whether the condition holds when the request has not the key.
    pub if_exists: bool,
}

/// How several values of the request count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantifier {
    /// One value that matches is enough.
    ForAnyValue,
    /// All must match; none at all is all.
    ForAllValues,
}

macro_rules! comparisons {
    ($($name:ident $kind:ident $negated:literal,)*) => {
        /// How one value of a request is compared with one of a policy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Comparison {
            $(#[doc = concat!("`", stringify!($name), "`.")] $name,)*
        }

        impl Comparison {
            /// All comparisons.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The comparison as documents spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What its values are.
            pub(super) fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            /// Whether it holds when no value matches, and so when there is none.
            pub fn is_negated(self) -> bool {
                match self { $(Self::$name => $negated,)* }
            }
        }
    };
}

/// What the values of a comparison are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Arn,
    Number,
    Date,
    Bool,
    Binary,
    Network,
}

comparisons! {
    StringEquals Text false,
    StringNotEquals Text true,
    StringEqualsIgnoreCase Text false,
    StringNotEqualsIgnoreCase Text true,
    StringLike Text false,
    StringNotLike Text true,
    NumericEquals Number false,
    NumericNotEquals Number true,
    NumericLessThan Number false,
    NumericLessThanEquals Number false,
    NumericGreaterThan Number false,
    NumericGreaterThanEquals Number false,
    DateEquals Date false,
    DateNotEquals Date true,
    DateLessThan Date false,
    DateLessThanEquals Date false,
    DateGreaterThan Date false,
    DateGreaterThanEquals Date false,
    Bool Bool false,
    BinaryEquals Binary false,
    IpAddress Network false,
    NotIpAddress Network true,
    ArnEquals Arn false,
    ArnLike Arn false,
    ArnNotEquals Arn true,
    ArnNotLike Arn true,
    Null Bool false,
}

/// The text is no operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownOperator {
    /// Nothing of that name.
    #[error("there is no operator {0:?}; operators are {names}, all but Null with IfExists after and ForAnyValue: or ForAllValues: before", names = Comparison::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "))]
    Name(String),
    /// `Null` asks whether there is a key, so modifiers about missing keys and values mean nothing.
    #[error("Null takes neither IfExists nor ForAnyValue: or ForAllValues:")]
    Null,
}

impl FromStr for Operator {
    type Err = UnknownOperator;

    fn from_str(text: &str) -> Result<Self, UnknownOperator> {
        let (quantifier, rest) = match text.split_once(':') {
            Some(("ForAnyValue", rest)) => (Some(Quantifier::ForAnyValue), rest),
            Some(("ForAllValues", rest)) => (Some(Quantifier::ForAllValues), rest),
            _ => (None, text),
        };
        let (if_exists, name) = match rest.strip_suffix("IfExists") {
            Some(name) => (true, name),
            None => (false, rest),
        };
        let comparison = Comparison::ALL
            .iter()
            .copied()
            .find(|comparison| comparison.as_str() == name)
            .ok_or_else(|| UnknownOperator::Name(crate::json::shown(text)))?;
        if comparison == Comparison::Null && (if_exists || quantifier.is_some()) {
            return Err(UnknownOperator::Null);
        }
        Ok(Self { quantifier, comparison, if_exists })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quantifier {
            Some(Quantifier::ForAnyValue) => f.write_str("ForAnyValue:")?,
            Some(Quantifier::ForAllValues) => f.write_str("ForAllValues:")?,
            None => {}
        }
        f.write_str(self.comparison.as_str())?;
        if self.if_exists { f.write_str("IfExists") } else { Ok(()) }
    }
}
