//! The stored layouts of parameter-mirror.
//!
//! Only this crate encodes and decodes the copies of a mirror, in a Kubernetes Secret and in a Redis hash,
//! because other programs depend on these bytes. Everything is pure. Times are Unix milliseconds.
#![cfg_attr(
    test,
    allow(
        clippy::significant_drop_tightening,
        clippy::disallowed_methods,
        reason = "a test may inspect and hold anything"
    )
)]

pub mod content;
pub mod crypto;
pub mod hash;
pub mod humanize;
pub mod level;
pub mod secret;
pub mod value;
pub mod verdict;

mod encoding;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod vectors;

/// The number of the layout that this crate writes. The operator never overwrites a copy with a higher
/// number.
pub const FORMAT: u32 = 1;
