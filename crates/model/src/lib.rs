//! The domain of Postern, pure: ids, states, rules, names.
//!
//! Nothing here does I/O, is asynchronous or has a clock: time and randomness are handed in. What a
//! value may be is decided once, where it is parsed; whoever holds the type need not check again.

pub mod account;
pub mod arn;
pub mod decimal;
pub mod desired;
pub mod dns;
pub mod endpoint;
pub mod event;
pub mod field;
pub mod filter;
pub mod id;
mod json;
pub mod net;
pub mod policy;
pub mod principal;
pub mod refusal;
pub mod security;
pub mod service;
pub mod zone;

pub use account::AccountId;
pub use field::InvalidField;
pub use refusal::{Class, Code, Refusal};
