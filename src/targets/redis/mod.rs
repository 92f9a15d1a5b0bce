//! The Redis target: one hash per mirror, written by one guarded script.

pub mod copy;
mod store;

pub use store::{Beat, Check, Guard, HashStore, Observed, ScriptOutcome};
