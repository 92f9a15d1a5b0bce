//! The metrics of the operator: counters that are incremented where things happen, and gauges that are computed at a scrape.

pub(crate) mod exposition;
pub(crate) mod gauges;
pub(crate) mod per_mirror;
mod register;
pub(crate) mod registry;
