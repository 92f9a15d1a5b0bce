//! The API server: watches, the work queue they feed, events, and leadership.

pub(crate) mod changes;
pub mod client;
pub mod election;
pub mod events;
pub mod leadership;
pub mod queue;
pub mod watches;
