//! The pure middle: values in, values out. Nothing here knows a clock, a network or a cluster.

pub mod copies;
pub mod donor;
pub mod grants;
pub mod guard;
pub mod keys;
pub mod permission;
pub mod plan;
pub mod reading;
pub mod resolve;
#[cfg(test)]
pub(crate) mod samples;
pub mod schedule;
pub mod selection;
mod selections;
pub mod snapshot;
pub mod status;
pub mod target;
pub use parameter_mirror_format::words;
