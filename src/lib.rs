//! parameter-mirror mirrors AWS SSM parameters into Kubernetes Secrets and Redis, and keeps serving the last
//! known good values when SSM is down.
//!
//! Readers never depend on SSM, nor on this program being alive. Each cycle does the same two things: refresh the
//! last known good set from SSM, which may fail, and converge every target on it.
//!
//! | module | what |
//! |---|---|
//! | [`api`] | `ParameterMirror` and `ParameterSource`: serde, schema, CEL |
//! | [`mirror`] | the decisions, pure: plan, guard, resolve, schedule, status |
//! | [`ssm`] | reading: pages, batches, error classes, budget, clients |
//! | [`targets`] | writing: one Secret, one Redis hash |
//! | [`operator`] | one pass over one mirror, the work queues |
//! | [`fair_queue`] | what is next, among namespaces that take turns |
//! | [`process`] | the process around it: the watchdog |
//! | [`hand_out`] | what a reader of encrypted values is handed |
//! | [`verify`] | whether mirrors can be relied on, checked from outside |
//! | [`convert`] | from objects of External Secrets Operator to ours |
//!
//! Arrows point one way: `operator -> ssm, targets -> mirror -> api`. Stored layouts are a crate of their own,
//! `parameter-mirror-format`.
#![cfg_attr(test, allow(clippy::significant_drop_tightening, reason = "a test may hold what it looks at"))]

pub mod api;
pub mod cli;
pub mod clock;
pub mod convert;
pub mod fair_queue;
pub mod hand_out;
pub mod hardening;
pub mod iam;
pub mod mirror;
pub mod operator;
pub mod print;
pub mod process;
pub mod ssm;
pub mod targets;
pub mod telemetry;
pub mod verify;
