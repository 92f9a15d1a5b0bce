//! The Redis target: one hash per mirror, written by one guarded script.

mod store;

pub use store::{Beat, Check, Guard, HashStore, Observed, ScriptOutcome};
