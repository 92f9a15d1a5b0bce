//! The reconcile loop, one file for each step.
//!
//! [`reconcile`] is one reconcile of one mirror and reads as the product does. Everything else here serves it.

pub mod bootstrap;
pub mod confirm;
pub mod context;
pub mod dispatch;
pub mod drill;
pub mod fencing;
pub mod finalize;
pub mod invalid_object;
pub mod observe;
pub mod permit;
pub mod publish;
pub mod read;
pub mod reconcile;
pub mod report;
pub mod signing_keys;
pub mod state;
