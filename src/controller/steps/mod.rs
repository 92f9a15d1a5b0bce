//! The steps of one reconcile, in order: plan, observe, read, resolve, permit, publish, report; and what ends a mirror.

pub mod bootstrap;
pub mod evict;
pub mod finalize;
pub mod observe;
pub mod permit;
pub mod plan;
pub mod publish;
pub mod read;
pub mod report;
pub mod report_source;
pub mod resolve;
