//! The Redis target: one hash per mirror, written by one guarded script.

pub mod copy;
mod eviction;
mod hashes;
mod store;

pub use eviction::Eviction;
pub use hashes::{Beat, Check, Guard, Hashes, Observed, ScriptOutcome};
pub use store::HashStore;
