//! The operator's keys, and where they are stored.

use std::sync::Arc;

use parameter_mirror_format::crypto::keys::KeyRing;

use crate::mirror::target::TargetIssue;

/// Where the operator's keys are stored.
#[derive(Clone, Debug)]
pub struct KeySecret {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Name of the Lease in the same namespace. An annotation of it remembers that the operator has had keys.
    pub lease: String,
}

impl KeySecret {
    /// Returns the name of the Secret if the Secret is in this namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&str> {
        (self.namespace == namespace).then_some(&self.name)
    }
}

/// The operator's keys as last observed.
#[derive(Clone, Default)]
pub struct KeyState {
    /// Resource version of the key Secret; `None` while the Secret does not exist.
    pub resource_version: Option<String>,
    /// Grows with each change, so that verdicts made with earlier keys can be recognized.
    pub version: u64,
    /// The keys; `None` while they are lost.
    pub ring: Option<Arc<KeyRing>>,
    /// Why the keys are lost and what to do; `None` while the operator has them.
    pub issue: Option<TargetIssue>,
}
