//! What is remembered of the targets of one mirror.

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

/// How long after an own write the watch may still show the version before it.
pub const WATCH_LAG: Duration = Duration::from_secs(5);

/// The targets of one mirror as last observed or written. A step that observes or writes a target keeps its state; nobody else does.
#[derive(Default)]
pub struct Targets {
    /// The Secret.
    pub secret: SecretState,
    /// The Redis hash.
    pub redis: RedisState,
    /// Which version of the operator's keys the verdicts were made with.
    pub keys_version: u64,
}

/// How often others had changed each target when a read began; `None` for one that was not observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The Secret.
    pub secret: Option<u64>,
    /// The hash.
    pub redis: Option<u64>,
}

impl Targets {
    /// Drops what was observed if the plan names another Secret or hash, or if the keys have changed.
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

    /// What is known of the targets now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            secret: self.secret.observed.is_some().then_some(self.secret.external_changes),
            redis: self.redis.observed.is_some().then_some(self.redis.external_changes),
        }
    }

    /// What was found in the Secret and in the hash.
    #[must_use]
    pub fn found(&self) -> [Option<&Found>; 2] {
        [
            self.secret.observed.as_ref().and_then(|observed| observed.found.as_ref()),
            self.redis.observed.as_ref().map(|observed| &observed.found),
        ]
    }

    /// Makes copies of the last known good set share its content: most of the time all copies are the same.
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

    /// Whether anything is wrong with one of them.
    #[must_use]
    pub fn has_issue(&self) -> bool {
        self.secret.issue.is_some() || self.redis.issue.is_some()
    }
}

/// The Secret as last observed or written.
#[derive(Default)]
pub struct SecretState {
    /// The Secret this is about.
    pub name: String,
    /// What was found or written last.
    pub observed: Option<ObservedSecret>,
    /// Whether the API server was asked for it.
    pub existence: Existence,
    /// The version before our own last write, and when that was, if there is a watch, which may lag behind us.
    pub before_write: Option<(Option<String>, Duration)>,
    /// How often it was found changed by somebody else.
    pub external_changes: u64,
    /// What is wrong with it.
    pub issue: Option<TargetIssue>,
    /// Its heals.
    pub heals: HealLimiter,
}

/// How it is known whether the Secret of a new mirror exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existence {
    /// It is not known, or no longer believed: the next observation asks.
    #[default]
    Unknown,
    /// The watch shows none. It shows labelled Secrets only, so a create may still meet one.
    Assumed,
    /// The API server was asked, or a create has been tried.
    Asked,
}

impl SecretState {
    /// Notes that the watch shows our last write: from now on whatever it shows instead is news.
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

    /// When the watch has had its time to show our last write; `None` if it already has.
    #[must_use]
    pub fn lag_ends(&self) -> Option<Duration> {
        self.before_write.as_ref().map(|(_, at)| *at + WATCH_LAG)
    }

    /// Whether this version is not that of what we last read or wrote.
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
    /// The key this is about.
    pub key: String,
    /// What was found or written last.
    pub observed: Option<HashFound>,
    /// How often it was found changed by somebody else.
    pub external_changes: u64,
    /// The highest fence that a write may have given it, whatever became of that write; 0 if none was tried.
    pub tried: i64,
    /// What is wrong with it.
    pub issue: Option<TargetIssue>,
    /// Its heals.
    pub heals: HealLimiter,
}

impl RedisState {
    /// The least fence for a write now over a hash with this one, and notes what the write comes to. Redis may lose a write that a
    /// reader has seen, and the clock may be set back: no number is used twice.
    pub fn least_fence(&mut self, over: &Fence, now: i64) -> i64 {
        let least = now.max(self.tried.saturating_add(1));
        self.tried = least.max(over.number().map_or(least, |fence| fence.saturating_add(1)));
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock is set back, Redis forgets writes and somebody writes nonsense: what was tried once is never tried again.
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
