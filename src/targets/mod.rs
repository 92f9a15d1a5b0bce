//! Where a mirror's parameters are published.

pub mod redis;
