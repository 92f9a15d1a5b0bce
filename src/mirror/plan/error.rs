//! Why a spec is not carried out.

/// Why a mirror is not carried out. The text names field and remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The spec cannot mean anything.
    #[error("{0}")]
    InvalidSpec(String),
    /// A selection is not granted to the namespace.
    #[error("{0}")]
    NotGranted(String),
}

pub(super) fn invalid(message: impl Into<String>) -> PlanError {
    PlanError::InvalidSpec(message.into())
}
