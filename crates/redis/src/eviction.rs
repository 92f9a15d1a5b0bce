//! Redis's behaviour when its memory is full.

use std::fmt;

/// Whether Redis may evict a key that has no TTL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// Never: Redis refuses writes, or evicts keys with a TTL. No key that is served has a TTL.
    SparesOurs,
    /// Redis may evict any key, including those that are served.
    TakesAny {
        /// Redis's `maxmemory-policy`.
        policy: String,
    },
}

impl Eviction {
    /// Parses the answer to `INFO memory`. `CONFIG` reports it too, but managed services do not permit
    /// `CONFIG`.
    #[must_use]
    pub fn from_info(info: &str) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        // Without a limit Redis evicts nothing, whatever the policy.
        let limited = field("maxmemory").is_some_and(|limit| limit != "0");
        match field("maxmemory_policy") {
            Some(policy) if limited && policy.starts_with("allkeys-") => {
                Self::TakesAny { policy: policy.to_owned() }
            }
            _ => Self::SparesOurs,
        }
    }
}

/// The text for people.
impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SparesOurs => f.write_str("Redis does not evict what has no end of life"),
            Self::TakesAny { policy } => write!(
                f,
                "Redis evicts any key when its memory is full ({policy}): set maxmemory-policy to noeviction or a volatile one"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_policies_for_all_keys_under_a_limit_take_ours() {
        let with = |limit: &str, policy: &str| {
            Eviction::from_info(&format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{limit}\r\nmaxmemory_human:1M\r\nmaxmemory_policy:{policy}\r\n"
            ))
        };
        for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
            assert_eq!(with("1048576", policy), Eviction::TakesAny { policy: policy.to_owned() });
            assert_eq!(with("0", policy), Eviction::SparesOurs);
        }
        for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
            assert_eq!(with("1048576", policy), Eviction::SparesOurs);
        }
        assert_eq!(Eviction::from_info("# Memory\r\nused_memory:1\r\n"), Eviction::SparesOurs);
    }
}
