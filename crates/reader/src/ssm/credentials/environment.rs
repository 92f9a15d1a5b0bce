//! The environment as a value, so that a test need not change the environment of its process.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_credential_types::Credentials;

use super::handed::usable;

/// Looks up environment variables. It can hold secret keys, so it has no `Debug`.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// Wraps a lookup, for example `|name| std::env::var(name).ok()`.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// Returns a variable. An empty one counts as unset, as with the SDKs.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// Returns the access keys from the environment, if both are set.
    pub(super) fn keys(&self) -> Option<Result<Credentials, String>> {
        let (id, secret) = (self.get("AWS_ACCESS_KEY_ID")?, self.get("AWS_SECRET_ACCESS_KEY")?);
        let token = self.get("AWS_SESSION_TOKEN");
        Some(usable(id, secret, token, None).map_err(|what| format!("those in the environment: {what}")))
    }

    /// Returns the STS endpoint of a Region.
    pub(super) fn sts(&self, region: &str) -> String {
        self.get("AWS_ENDPOINT_URL_STS")
            .or_else(|| self.get("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| crate::ssm::regional("sts", region))
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        Self::new(move |name| variables.get(name).cloned())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}
