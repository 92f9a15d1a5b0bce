//! The pure middle: values in, values out. Nothing here knows a clock, a network or a cluster.

pub mod content;
pub mod copies;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod plan;
pub mod resolve;
pub mod schedule;
pub mod secret_keys;
pub mod selection;
pub mod snapshot;
pub mod status;
pub mod target;
