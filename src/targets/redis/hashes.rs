//! The seam to Redis: what can be done with the hashes of mirrors.

use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_format::hash::Fence;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_redis::ConnectionError;

use parameter_mirror_redis::eviction::Eviction;

/// The hashes of all mirrors in one Redis.
///
/// Every method has a deadline and gives up within it. A write that failed with an error may have happened all
/// the same: observe again before anything else.
#[async_trait]
pub trait HashStore: Send + Sync {
    /// Looks at many hashes in one round trip; the answers are in the order of the keys.
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError>;

    /// Reads a whole hash.
    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError>;

    /// Replaces the whole hash by `fields`, at once for every reader and without an end of life. With `consent`
    /// it may take over a hash whose `@adoptBy` names us.
    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError>;

    /// Tells readers that the content was checked, or that it could not be. Bumps the fence, so that a writer
    /// that observed earlier comes too late. `checked_mac` is by what readers know that the time of a good one is ours.
    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError>;

    /// Deletes the hash.
    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError>;

    /// Asks what Redis does when its memory is full; of the servers of a cluster, the one that spares least.
    async fn eviction(&self, within: Duration) -> Result<Eviction, ConnectionError>;
}

/// What a write has to meet in Redis, or else nothing is written.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The key of the hash.
    pub key: &'a str,
    /// Our owner text.
    pub owner: &'a str,
    /// The fence of the observation that this write follows from.
    pub fence: &'a Fence,
    /// The MAC of the observation, which a heartbeat compares too: it shows readers that the content was checked, so it must be the
    /// content that was seen. `None`: not compared.
    pub mac: Option<&'a str>,
    /// The wall clock, Unix milliseconds.
    pub now: i64,
    /// The least fence that the write may give the hash. A reader that slept over a write which Redis lost must not take the next one
    /// for it, so this is the wall clock, and above all that the writer tried before.
    pub least: i64,
}

/// What a read brought, as told by a write that changes no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// It was good.
    Good {
        /// When it began, Unix milliseconds.
        checked_at: i64,
    },
    /// It failed, so the age of the content goes on growing.
    Failed,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptOutcome {
    /// It happened.
    Done {
        /// The fence to expect next; [`Fence::ABSENT`] after a drop.
        fence: Fence,
        /// The fence of the last content write, if the hash has one.
        generation: Option<i64>,
    },
    /// Somebody else wrote or edited it since the observation.
    Stale,
    /// The hash belongs to another owner, or to nobody known, and there is no consent to use.
    Owned {
        /// The owner it names, if any.
        by: Option<String>,
    },
    /// A newer operator wrote the hash.
    NewerLayout,
    /// The key holds something else than a hash.
    WrongType,
    /// There is no hash to beat or drop.
    Gone,
    /// The staging key lost fields, as under an eviction policy.
    Torn,
}

/// The few fields that show whether anybody touched a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// What stands in the hash; all of it empty if there is none.
    Hash {
        /// The owner.
        owner: Option<String>,
        /// The fence.
        fence: Fence,
        /// The MAC.
        mac: Option<String>,
    },
    /// The key holds something else than a hash.
    WrongType,
}

/// A whole key as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedHash {
    /// All fields; none if the key does not exist.
    Fields(Fields),
    /// The key holds something else than a hash.
    WrongType,
}
