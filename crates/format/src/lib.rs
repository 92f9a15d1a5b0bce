//! The layouts parameter-mirror stores.
//!
//! Everything a copy of a mirror consists of, in a Kubernetes Secret and in a Redis hash, is encoded and
//! decoded here and nowhere else: other programs depend on these bytes. All of it is pure.
//! Times are Unix milliseconds.
#![cfg_attr(test, allow(clippy::significant_drop_tightening, reason = "a test may hold what it looks at"))]

pub mod content;
pub mod coverage;
pub mod entry;
pub mod envelope;
pub mod fields;
pub mod hash;
pub mod keys;
pub mod manifest;
pub mod mirror_name;
pub mod revision;
pub mod secret;
pub mod source;
pub mod steering;
pub mod subkey;
pub mod value;
pub mod verdict;
pub mod words;

mod encoding;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod vectors;

/// The number of the layout this crate writes. A copy with a higher one is never written.
pub const FORMAT: u32 = 1;
