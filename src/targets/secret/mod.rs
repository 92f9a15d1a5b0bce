//! The Secret target: one Kubernetes Secret per mirror, written whole and only against what was observed.

mod render;
mod store;

pub use render::{ObservedSecret, Owner, fits, is_in_sync, observe, render};
pub use store::SecretStore;
