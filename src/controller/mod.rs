//! The reconcile loop, one file for each step.
//!
//! [`reconcile`] is one reconcile of one mirror and reads as the product does. Everything else here serves it.

pub mod context;
pub(crate) mod dispatch;
pub(crate) mod drill;
pub(crate) mod fencing;
pub(crate) mod fold;
pub(crate) mod invalid_object;
pub(crate) mod reconcile;
pub(crate) mod requeue;
pub(crate) mod signing_keys;
pub(crate) mod state;
pub(crate) mod steps;
