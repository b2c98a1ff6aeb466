//! Times on the wire.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// A time as protobuf has it.
pub fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}

/// A time from protobuf; `None` when it is out of range.
pub fn datetime(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}
