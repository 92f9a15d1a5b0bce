//! The operator's own identity: one for everything that needs it, and the base of every role.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_config::Region;
use tokio::sync::watch;

use super::{CredentialsCache, Own};
use parameter_mirror_clock::Clock;

/// The identity of this process. Clones share it.
#[derive(Clone)]
pub struct OperatorIdentity(Arc<Inner>);

struct Inner {
    clock: Clock,
    recoveries: watch::Sender<u64>,
    principal: OnceLock<Arc<CredentialsCache>>,
}

impl OperatorIdentity {
    /// Starts without any credentials.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let recoveries = watch::Sender::new(0);
        Self(Arc::new(Inner { clock, recoveries, principal: OnceLock::new() }))
    }

    /// Returns the credentials cache, which the first call starts. Its STS is that of the environment; without one, that of `region`.
    #[must_use]
    pub fn principal(&self, region: &Region) -> Arc<CredentialsCache> {
        let start = || {
            let whose = "the operator itself".to_owned();
            let own = Own::new(region.clone());
            CredentialsCache::start(self.0.clock.clone(), whose, own, self.0.recoveries.clone())
        };
        Arc::clone(self.0.principal.get_or_init(start))
    }

    /// Returns the credentials cache, if anybody has requested it yet.
    #[must_use]
    pub fn started(&self) -> Option<&Arc<CredentialsCache>> {
        self.0.principal.get()
    }

    /// Returns the clock by which credentials expire.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Counts how often credentials became available again after callers had to do without: those of this identity, and
    /// of every other holder of the sender.
    #[must_use]
    pub fn recoveries(&self) -> watch::Sender<u64> {
        self.0.recoveries.clone()
    }
}

impl fmt::Debug for OperatorIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorIdentity").field("principal", &self.0.principal.get()).finish_non_exhaustive()
    }
}
