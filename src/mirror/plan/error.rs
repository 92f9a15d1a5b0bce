//! Why a spec has no plan.

/// Why a mirror has no plan. The text names field and remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The spec is invalid.
    #[error("{0}")]
    InvalidSpec(String),
    /// A selection is not granted to the namespace.
    #[error("{0}")]
    NotGranted(String),
}

pub(super) fn invalid(message: impl Into<String>) -> PlanError {
    PlanError::InvalidSpec(message.into())
}
