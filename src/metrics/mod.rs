//! The metrics of the operator: counters that are incremented where things happen, and gauges that are computed at a scrape.

pub(crate) mod exposition;
pub(crate) mod gauges;
pub(crate) mod latency;
pub(crate) mod measured;
pub(crate) mod mirror_series;
mod process;
mod register;
pub(crate) mod registry;
