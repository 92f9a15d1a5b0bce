//! parameter-mirror.

pub mod targets;
