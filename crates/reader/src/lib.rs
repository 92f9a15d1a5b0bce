//! What starts tasks and Lambdas without SSM: it reads mirrors from Redis, and gives them to a program.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`settings`] | from the command line to what the others need |
//! | [`mirrors`] | reads mirrors from Redis, each in one round trip |
//! | [`fallback`] | the mirror or SSM: which one counts |
//! | [`variables`] | which variable holds which parameter |
//! | [`exec`], [`export`], [`watch`], [`verify`] | one subcommand each |
//! | [`serve`] | an SSM on the loopback, for unmodified AWS SDKs |
//! | [`lambda`] | serving inside a Lambda function |
//! | [`ssm`] | SSM itself, without an SDK |
//! | [`failure`] | what can go wrong, and the exit codes |
//! | [`hardening`] | nobody looks into the memory, and a panic repeats nothing |
//!
//! Nothing here writes to Redis, and no address or password ever comes from SSM: what is needed in an outage
//! must not wait for it.
#![cfg_attr(test, allow(clippy::significant_drop_tightening, reason = "a test may hold what it looks at"))]

pub mod cli;
pub mod exec;
pub mod export;
pub mod failure;
pub mod fallback;
pub mod hardening;
pub mod lambda;
pub mod mirrors;
pub mod serve;
pub mod settings;
pub mod ssm;
pub mod variables;
pub mod verify;
pub mod watch;
