//! The name of a mirror as people write it.

use std::fmt;
use std::str::FromStr;

use crate::hash::redis_key;

/// `namespace/name` of a `ParameterMirror`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MirrorName {
    namespace: String,
    name: String,
}

/// A text that is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as namespace/name, like shop/checkout")]
pub struct MirrorNameError;

impl MirrorName {
    /// Returns the namespace of the mirror.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name of the mirror in its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the Redis key of the mirror's hash.
    #[must_use]
    pub fn redis_key(&self, prefix: &str) -> String {
        redis_key(prefix, &self.namespace, &self.name)
    }
}

impl FromStr for MirrorName {
    type Err = MirrorNameError;

    fn from_str(text: &str) -> Result<Self, MirrorNameError> {
        // Kubernetes names contain no character with a meaning in a Redis key.
        let legal = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        };
        match text.split_once('/') {
            Some((namespace, name)) if legal(namespace) && legal(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(MirrorNameError),
        }
    }
}

impl fmt::Display for MirrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_named_as_kubectl_does() {
        let mirror: MirrorName = "shop/checkout".parse().unwrap();
        assert_eq!(mirror.redis_key("pm:"), "pm:{shop/checkout}");
        assert_eq!([mirror.namespace(), mirror.name()], ["shop", "checkout"]);
        for wrong in ["", "checkout", "shop/", "/checkout", "shop/check/out", "shop/{x}"] {
            assert!(wrong.parse::<MirrorName>().is_err(), "{wrong}");
        }
    }
}
