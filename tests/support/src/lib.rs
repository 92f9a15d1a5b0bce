//! Real parts under test control.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a part that does not start must fail the test loudly"
)]

pub mod ssm;
