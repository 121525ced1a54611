//! The parsers of foreign bytes, as fuzzing reaches them: a function for each target.

pub mod targets;

// A binary has no library: what reads its configuration is taken in here.
#[path = "../../../crates/everfresh/src/config/mod.rs"]
mod config;
#[path = "../../../crates/everfresh/src/config/fuzzing.rs"]
mod fuzzing;

/// A configuration file.
pub fn configuration(bytes: &[u8]) {
    fuzzing::configuration(bytes);
}
