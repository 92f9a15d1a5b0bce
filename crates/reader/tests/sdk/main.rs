//! Programs of other people on one mirror: `make sdk-test` installs them (`hack/sdks`) and runs this.
//!
//! | module | what it shows |
//! |---|---|
//! | [`endpoint`] | unmodified SDKs get from `serve` what they get from moto, which is not ours |
//! | [`hashes`] | docs/readers read a hash without our code, and refuse a damaged one |
//! | [`mirror`] | nothing by itself: the mirror in Redis that both stand on |
//! | [`programs`] | nothing by itself: running one program |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod endpoint;
mod hashes;
mod mirror;
mod programs;
