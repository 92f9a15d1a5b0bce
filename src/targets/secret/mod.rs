//! The Secret target: one Kubernetes Secret per mirror, written whole and only against what was observed.

mod render;
mod store;
mod target;

pub use render::{ObservedSecret, Owner, observe};
pub use store::SecretStore;
pub(crate) use target::SecretKind;
