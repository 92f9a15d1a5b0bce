//! Integration tests against real parts: one binary, because each further one links the AWS and Kubernetes crates again.
//!
//! | module | what it shows |
//! |---|---|
//! | [`world`] | nothing by itself: the parts that a test stands on |
//! | [`main_job`] | the story of the product in one test |
//! | [`redis_store`] | the Redis script and its store, without an operator |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail wherever it stands, in its own functions too"
)]

mod main_job;
mod redis_store;
mod world;
