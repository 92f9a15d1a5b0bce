//! Tests of the reader as a process. The operator's own code writes the mirrors into a real Redis.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    clippy::significant_drop_tightening,
    clippy::significant_drop_in_scrutinee,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod bad_input;
mod commands;
mod connections;
mod credentials;
mod forged;
mod formats;
mod hardening;
mod lambda;
mod network;
mod order;
mod recipes;
mod rotation;
mod serve;
mod silence;
mod size;
mod steering;
mod torn;
#[path = "../values.rs"]
mod values;
mod verify;
mod world;
