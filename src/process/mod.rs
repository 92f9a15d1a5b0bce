//! The process around the operator.

pub mod listener;
pub mod watchdog;
