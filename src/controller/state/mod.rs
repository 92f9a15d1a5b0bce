//! What the operator remembers between reconciles. All of it can be rebuilt from the targets, the statuses and SSM.

pub(crate) mod keys;
pub(crate) mod memory_shares;
pub(crate) mod mirror_state;
pub(crate) mod missing_sources;
pub(crate) mod read_groups;
pub(crate) mod read_state;
pub(crate) mod source_health;
pub(crate) mod status_dedup;
pub(crate) mod target_state;
pub(crate) mod unpublished;
pub(crate) mod values;
