//! What is remembered between reconciles. All of it can be rebuilt from the targets, the statuses and SSM.

pub mod keys;
pub(crate) mod memory_shares;
pub mod mirror_state;
pub mod missing_sources;
pub mod read_groups;
pub mod read_state;
pub mod source_health;
pub mod status_dedup;
pub mod target_state;
pub(crate) mod unpublished;
pub mod values;
