//! parameter-mirror mirrors AWS SSM parameters into Kubernetes Secrets and Redis, and keeps serving the last
//! known good values when SSM is down.
//!
//! Readers depend neither on SSM nor on this program being alive. Each reconcile does the same two things: it refreshes
//! the last known good set from SSM, which may fail, and it converges every target on that set.
//!
//! | layer | module | what |
//! |---|---|---|
//! | 1 | [`process`] | from the command line to a running operator, endpoints, watchdog |
//! | 1 | [`commands`] | the other subcommands: `verify`, `convert`, `iam`, `source`, `keygen`, `key`, `crd` |
//! | 2 | [`cli`] | the command line |
//! | 3 | [`controller`] | the reconcile loop, one file for each step, and its state |
//! | 4 | `metrics` | counters and gauges |
//! | 5 | [`ssm`] | reading: whole sets, and what reads share: rate limits, breaker, equal requests |
//! | 5 | [`targets`] | writing: one Secret, one Redis hash |
//! | 5 | [`kubernetes`] | watches, work queue, events, leadership |
//! | 6 | [`mirror`] | the decisions, pure: plan, guard, resolve, schedule, status |
//! | 7 | [`api`] | `ParameterMirror` and `ParameterSource`: serde, schema, CEL |
//! | 8 | `fair_queue` | what everything above may use |
//!
//! A module uses modules of its own layer and of the layers below, never one above. Stored layouts are in a crate of
//! their own, `parameter-mirror-format`, and so are the clocks, `parameter-mirror-clock`.
#![cfg_attr(
    test,
    allow(
        clippy::significant_drop_tightening,
        clippy::disallowed_methods,
        reason = "a test may inspect and hold anything"
    )
)]

pub mod api;
pub mod cli;
pub mod commands;
pub mod controller;
pub(crate) mod fair_queue;
pub mod kubernetes;
pub(crate) mod metrics;
pub mod mirror;
pub mod process;
pub mod ssm;
pub mod targets;
