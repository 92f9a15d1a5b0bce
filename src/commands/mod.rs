//! The subcommands other than `run`.

pub mod admission;
pub mod convert;
pub mod iam;
pub mod manifests;
pub mod sub_keys;
pub mod verify;
