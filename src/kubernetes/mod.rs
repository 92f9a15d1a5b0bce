//! The API server: watches, the work queue they feed, events, and leadership.

pub(crate) mod changes;
pub mod client;
pub mod election;
pub(crate) mod event_recorder;
pub(crate) mod events;
pub mod leadership;
pub(crate) mod queue;
pub(crate) mod watches;
