//! Pure decisions: values in, values out. Nothing here uses a clock, a network or a cluster.

pub(crate) mod content;
pub(crate) mod copies;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod plan;
pub(crate) mod resolve;
pub(crate) mod schedule;
pub(crate) mod secret_keys;
pub mod selection;
pub mod snapshot;
pub(crate) mod status;
pub(crate) mod target;
