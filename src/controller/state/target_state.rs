//! What the operator remembers of the targets of one mirror.

use std::sync::Arc;
use std::time::Duration;

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::hash::{Fence, HashFound};
use parameter_mirror_format::verdict::{Found, Verdict};

use crate::kubernetes::watches::CachedVersion;
use crate::mirror::plan::Plan;
use crate::mirror::schedule::HealLimiter;
use crate::mirror::target::TargetIssue;
use crate::targets::secret::ObservedSecret;

/// How long after the operator's own write the watch may still show the version before it.
pub const WATCH_LAG: Duration = Duration::from_secs(5);

/// The targets of one mirror as last observed or written. Only the steps that observe or write a target change its state.
#[derive(Default)]
pub struct Targets {
    /// The Secret.
    pub secret: SecretState,
    /// The Redis hash.
    pub redis: RedisState,
    /// Version of the operator's keys that the verdicts were made with.
    pub keys_version: u64,
}

/// How often others had changed each target when a read began; `None` for a target that was not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Changes of the Secret by others.
    pub secret: Option<u64>,
    /// Changes of the hash by others.
    pub redis: Option<u64>,
}

impl Targets {
    /// Drops the observations if the plan names another Secret or hash, or if the keys have changed.
    pub fn reset_if_retargeted(&mut self, plan: &Plan, keys_version: u64) {
        let secret = plan.secret.as_ref().map(|secret| secret.name.clone()).unwrap_or_default();
        if self.secret.name != secret {
            self.secret = SecretState { name: secret, ..SecretState::default() };
        }
        let key = plan.redis.as_ref().map(|redis| redis.key.clone()).unwrap_or_default();
        if self.redis.key != key {
            self.redis = RedisState { key, ..RedisState::default() };
        }
        if self.keys_version != keys_version {
            self.keys_version = keys_version;
            self.secret.observed = None;
            self.redis.observed = None;
        }
    }

    /// Returns how often others have changed each target so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            secret: self.secret.observed.is_some().then_some(self.secret.external_changes),
            redis: self.redis.observed.is_some().then_some(self.redis.external_changes),
        }
    }

    /// Returns what was found in the Secret and in the hash.
    #[must_use]
    pub fn found(&self) -> [Option<&Found>; 2] {
        [
            self.secret.observed.as_ref().and_then(|observed| observed.found.as_ref()),
            self.redis.observed.as_ref().map(|observed| &observed.found),
        ]
    }

    /// Makes the copies of the last known good set share its content, because most of the time all copies are equal.
    pub fn share_content(&mut self, good: &Signed) {
        let secret = self.secret.observed.as_mut().and_then(|observed| observed.found.as_mut());
        let redis = self.redis.observed.as_mut().map(|observed| &mut observed.found);
        for found in secret.into_iter().chain(redis) {
            if let Found::Ours(Verdict::Verified(copy)) = found
                && copy.content == good.content
            {
                copy.content = Arc::clone(&good.content);
            }
        }
    }

    /// Whether one of the targets has an issue.
    #[must_use]
    pub fn has_issue(&self) -> bool {
        self.secret.issue.is_some() || self.redis.issue.is_some()
    }
}

/// The Secret as last observed or written.
#[derive(Default)]
pub struct SecretState {
    /// Name of the Secret; empty if the plan has no Secret.
    pub name: String,
    /// What was last found or written; `None` if the Secret has to be read again.
    pub observed: Option<ObservedSecret>,
    /// Whether the API server was asked for the Secret.
    pub existence: Existence,
    /// The version before the operator's own last write, and the uptime of that write; `None` without a watch, or once the watch
    /// shows the write.
    pub before_write: Option<(Option<String>, Duration)>,
    /// How often the operator found the Secret changed by somebody else.
    pub external_changes: u64,
    /// What is wrong with the Secret; `None` if nothing is.
    pub issue: Option<TargetIssue>,
    /// The recent heals, for the limit on heals.
    pub heals: HealLimiter,
}

/// How the operator knows whether the Secret of a new mirror exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existence {
    /// It does not know, or no longer trusts its assumption: the next observation asks the API server.
    #[default]
    Unknown,
    /// The watch shows no such Secret. It shows labelled Secrets only, so a create may still meet one.
    Assumed,
    /// The API server was asked, or a create has been tried.
    Asked,
}

impl SecretState {
    /// Notes that the watch shows the operator's last write. From now on, any other version that it shows is a change.
    pub fn ack_watch(&mut self, shown: &CachedVersion) {
        let CachedVersion::Known(watched) = shown else { return };
        let known = self.observed.as_ref().map(ObservedSecret::resource_version);
        if known.is_some_and(|known| known == watched.as_deref()) {
            self.before_write = None;
        }
    }

    /// Ends the assumption that there is no such Secret: the next observation asks the API server.
    pub fn doubt_existence(&mut self) {
        if self.existence == Existence::Assumed {
            self.existence = Existence::Unknown;
        }
    }

    /// Returns the uptime until which the watch may lag behind the last write; `None` if it already shows that write.
    #[must_use]
    pub fn lag_ends(&self) -> Option<Duration> {
        self.before_write.as_ref().map(|(_, at)| *at + WATCH_LAG)
    }

    /// Whether this version differs from the one that the operator last read or wrote.
    #[must_use]
    pub fn differs_from_observed(&self, version: Option<&str>, now: Duration) -> bool {
        let Some(observed) = self.observed.as_ref().filter(|_| self.existence != Existence::Unknown) else {
            return true;
        };
        let lags = self
            .before_write
            .as_ref()
            .is_some_and(|(before, at)| before.as_deref() == version && now < *at + WATCH_LAG);
        observed.resource_version() != version && !lags
    }
}

/// The Redis hash as last observed or written.
#[derive(Default)]
pub struct RedisState {
    /// Key of the hash; empty if the plan has no hash.
    pub key: String,
    /// What was last found or written; `None` if the hash has to be read again.
    pub observed: Option<HashFound>,
    /// How often the operator found the hash changed by somebody else.
    pub external_changes: u64,
    /// The highest fence that a write may have given the hash, whether or not that write happened; 0 if no write was tried.
    pub tried: i64,
    /// What is wrong with the hash; `None` if nothing is.
    pub issue: Option<TargetIssue>,
    /// The recent heals, for the limit on heals.
    pub heals: HealLimiter,
}

impl RedisState {
    /// Returns the least fence for a write over a hash with the fence `over`, and records the fence that the write results in. No
    /// number is used twice, because Redis may lose a write that a reader has seen, and the clock may be set back.
    pub fn least_fence(&mut self, over: &Fence, now: i64) -> i64 {
        let least = now.max(self.tried.saturating_add(1));
        self.tried = least.max(over.number().map_or(least, |fence| fence.saturating_add(1)));
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is set back, Redis loses writes and somebody writes nonsense: no fence is tried twice.
    #[test]
    fn no_fence_is_tried_twice() {
        let mut state = RedisState::default();
        let mut tried = std::collections::BTreeSet::new();
        for (over, now) in
            [("", 100), ("100", 90), ("100", 90), ("7", 50), ("500", 60), ("500", 61), ("x", 61)]
        {
            let over = Fence::new(over.as_bytes().to_vec());
            let least = state.least_fence(&over, now);
            let written = over.number().map_or(least, |fence| least.max(fence + 1));
            assert!(tried.insert(written), "{written} over {over:?} at {now}");
            assert!(least >= now && written == state.tried);
        }
    }
}
