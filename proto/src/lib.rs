//! The wire of Postern: generated code, and conversions to and from the model.
//!
//! A generated type does not travel: a service turns it into a command of its own where it comes in,
//! and makes it from a value of the model where it goes out.

pub mod desired;
pub mod page;
pub mod status;
pub mod time;

/// The public API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("postern.v1");
}

/// What hosts and the control plane say to each other.
pub mod agent {
    /// The first version of it.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("postern.agent.v1");
    }
}

/// What the services say to each other.
pub mod internal {
    /// The first version of it.
    #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("postern.internal.v1");
    }
}

/// The descriptors of everything here, encoded: what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
