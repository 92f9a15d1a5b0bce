//! The layouts parameter-mirror stores.
//!
//! Everything a copy of a mirror consists of, in a Kubernetes Secret and in a Redis hash, is encoded and
//! decoded here and nowhere else: other programs depend on these bytes. All of it is pure.
//! Times are Unix milliseconds.
#![cfg_attr(test, allow(clippy::significant_drop_tightening, reason = "a test may hold what it looks at"))]

pub mod content;
pub mod crypto;
pub mod hash;
pub mod humanize;
pub mod secret;
pub mod value;
pub mod verdict;

mod encoding;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod vectors;

/// The number of the layout this crate writes. A copy with a higher one is never written.
pub const FORMAT: u32 = 1;
