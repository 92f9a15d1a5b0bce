//! The steps of one reconcile, in order: plan and confirm, observe, read, resolve, permit, publish, report; and what ends a mirror.

pub mod bootstrap;
pub mod confirm;
pub mod evict;
pub mod finalize;
pub mod observe;
pub mod permit;
pub mod publish;
pub mod read;
pub mod report;
