//! The targets: how they are observed and written.

pub mod redis;
pub mod secret;
