//! The operator's keys, and where they are.

use std::sync::Arc;

use parameter_mirror_format::crypto::keys::KeyRing;

use crate::mirror::target::TargetIssue;

/// Where the keys are.
#[derive(Clone, Debug)]
pub struct KeySecret {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// Name of the Lease in the same namespace, on which it is remembered that there were keys.
    pub lease: String,
}

impl KeySecret {
    /// Its name, if it is in this namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<&str> {
        (self.namespace == namespace).then_some(&self.name)
    }
}

/// The operator's keys as they are now.
#[derive(Clone, Default)]
pub struct KeyState {
    /// Version of the key Secret as the API server counts; `None` while there is none.
    pub resource_version: Option<String>,
    /// Grows with each change, so that verdicts made with other keys can be told.
    pub version: u64,
    /// The keys; `None` while they are lost.
    pub ring: Option<Arc<KeyRing>>,
    /// Why they are lost and what to do.
    pub issue: Option<TargetIssue>,
}
