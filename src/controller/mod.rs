//! The reconcile loop, one file for each step.
//!
//! [`reconcile`] is one reconcile of one mirror and reads as the product does. Everything else here serves it.

pub mod context;
pub mod dispatch;
pub mod drill;
pub mod fencing;
pub mod fold;
pub mod invalid_object;
pub mod reconcile;
pub mod requeue;
pub mod signing_keys;
pub mod state;
pub mod steps;
