//! The process around the controller: command line to running operator, health and metrics endpoints, watchdog, hardening.

pub mod admin;
pub(crate) mod eviction_check;
pub mod hardening;
pub mod listener;
pub mod operator;
pub mod redis_auth;
pub mod run;
pub mod telemetry;
pub mod watchdog;
