//! Third-party programs on one mirror: `make sdk-test` installs them (`hack/sdks`) and runs this.
//!
//! | module | what it shows |
//! |---|---|
//! | [`endpoint`] | unmodified SDKs get the same from `serve` as from moto, which is not ours |
//! | [`formats`] | the programs that a format of `export` is for read every value as it is |
//! | [`hashes`] | docs/readers read a hash without our code, and refuse a damaged one |
//! | [`mirror`] | helper: the mirror in Redis that both use |
//! | [`programs`] | helper: runs one program |
//! | [`values`] | helper: values that formats get wrong |
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod endpoint;
mod formats;
mod hashes;
mod mirror;
mod programs;
#[path = "../values.rs"]
mod values;
