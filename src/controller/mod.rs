//! The reconcile loop, one file for each step.
//!
//! [`reconcile`] reconciles one mirror and lists the steps in order. The other modules serve it.

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
pub(crate) mod transitions;
