//! The steps of one reconcile, in order: plan, observe, read, resolve, permit, publish, report. The other modules serve them.

pub(crate) mod bootstrap;
pub(crate) mod evict;
pub(crate) mod finalize;
pub(crate) mod observe;
pub(crate) mod permit;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod report;
pub(crate) mod report_source;
pub(crate) mod resolve;
