//! Starts tasks and Lambdas without SSM: reads mirrors from Redis and gives them to a program.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`settings`] | converts the command line into the inputs of the other modules |
//! | [`mirrors`] | reads mirrors from Redis, each in one round trip |
//! | [`fallback`] | decides between the mirror and SSM |
//! | [`age_limit`] | reports mirrors that get too old while a program keeps running |
//! | [`variables`] | maps parameters to variables: `exec`, `watch` and `export` |
//! | [`serve`] | an SSM endpoint on the loopback, for unmodified AWS SDKs, also inside a Lambda function |
//! | [`verify`] | checks whether the mirrors can be relied on |
//! | [`ssm`] | SSM itself, for when the mirror cannot be used |
//! | [`failure`] | failures and their exit codes |
//! | [`hardening`] | keeps the memory private and panics silent |
//!
//! Nothing here writes to Redis, and no address or password ever comes from SSM: what is needed in an outage
//! must not depend on SSM.
#![cfg_attr(
    test,
    allow(
        clippy::significant_drop_tightening,
        clippy::disallowed_methods,
        reason = "a test may inspect and hold anything"
    )
)]

pub mod age_limit;
pub mod cli;
pub mod failure;
pub mod fallback;
pub mod hardening;
pub mod mirrors;
pub mod serve;
pub mod settings;
pub mod ssm;
pub mod variables;
pub mod verify;
