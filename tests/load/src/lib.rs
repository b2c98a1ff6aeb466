//! The load driver: reads ghz configuration files.
//!
//! It is for machines where `ghz` cannot be had. The files in `tests/load` are ghz's (`ghz --config
//! tests/load/get.json`), the flags carry ghz's names and win over the file, and the report has ghz's
//! figures. A key that this driver does not honour is refused, never ignored.
//!
//! Without a rate, `concurrency` workers each send their next request when the last has been answered: the
//! figures say what the server can take, and the latency is that of a server kept busy. With a rate,
//! requests have appointed times and the latency counts from those, so that a server which stalls is
//! charged for the requests that had to wait (what is left out otherwise is called coordinated omission).

pub mod call;
pub mod config;
pub mod drive;
pub mod report;
pub mod template;
