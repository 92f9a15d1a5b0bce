//! The edges towards the targets: what is found there, and how it is written.

pub mod redis;
pub mod secret;
