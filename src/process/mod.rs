//! The process around the operator.

pub mod watchdog;
