//! The Redis target: one hash per mirror, written by one guarded script.

pub mod copy;
pub mod token;

mod hashes;
mod store;
mod target;

pub use hashes::{Check, Guard, HashStore, Heartbeat, ObservedHash, ScriptOutcome};
pub use parameter_mirror_redis::eviction::Eviction;
pub use store::RedisStore;
pub use target::RedisBackend;
pub(crate) use target::RedisKind;
