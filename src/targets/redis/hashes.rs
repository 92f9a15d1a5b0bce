//! The interface to Redis: what can be done with the hashes of mirrors.

use std::time::Duration;

use async_trait::async_trait;
use parameter_mirror_format::hash::Fence;
use parameter_mirror_format::hash::fields::Fields;
use parameter_mirror_redis::ConnectionError;

use parameter_mirror_redis::eviction::Eviction;

/// The hashes of all mirrors in one Redis.
///
/// Every method has a deadline and returns within it. A write that failed with an error may have happened all the same:
/// observe again before anything else.
#[async_trait]
pub trait HashStore: Send + Sync {
    /// Checks many hashes in one round trip; the answers are in the order of the keys.
    async fn check(&self, keys: &[&str], within: Duration) -> Result<Vec<Check>, ConnectionError>;

    /// Reads a whole hash.
    async fn observe(&self, key: &str, within: Duration) -> Result<ObservedHash, ConnectionError>;

    /// Replaces the whole hash with `fields`, at once for every reader and without expiry. With `consent` it may take
    /// over a hash whose `@adoptBy` names us.
    async fn swap(
        &self,
        guard: Guard<'_>,
        fields: &Fields,
        consent: bool,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError>;

    /// Writes a heartbeat: it shows readers that the content was checked, or that it could not be. It raises the fence,
    /// so that a writer that observed earlier comes too late. `checked_mac` proves to readers that the time of a good
    /// heartbeat is ours.
    async fn heartbeat(
        &self,
        guard: Guard<'_>,
        heartbeat: Heartbeat,
        checked_mac: Option<&str>,
        within: Duration,
    ) -> Result<ScriptOutcome, ConnectionError>;

    /// Deletes the hash.
    async fn remove(&self, guard: Guard<'_>, within: Duration) -> Result<ScriptOutcome, ConnectionError>;

    /// Asks what Redis evicts when its memory is full; of the servers of a cluster, the worst answer counts.
    async fn eviction(&self, within: Duration) -> Result<Eviction, ConnectionError>;
}

/// The preconditions of a write. If one is not met, nothing is written.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The key of the hash.
    pub key: &'a str,
    /// Our owner string.
    pub owner: &'a str,
    /// The fence of the observation that this write is based on.
    pub fence: &'a Fence,
    /// The MAC of the observation, which a heartbeat compares too: it shows readers that the content was checked, so it
    /// must be the content that was observed. `None`: not compared.
    pub mac: Option<&'a str>,
    /// The wall clock, Unix milliseconds.
    pub now: i64,
    /// The minimum fence that the write may give the hash: the wall clock, and above all that the writer tried before.
    /// If Redis loses a write that a reader has seen, the reader must not take the next write for that one.
    pub least: i64,
}

/// The outcome of a read, as a write that changes no content reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// The read was good.
    Good {
        /// When it began, Unix milliseconds.
        checked_at: i64,
    },
    /// The read failed, so the age of the content keeps growing.
    Failed,
}

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptOutcome {
    /// The write happened.
    Done {
        /// The fence to expect next; [`Fence::ABSENT`] after a removal.
        fence: Fence,
        /// The fence of the last content write, if the hash has one.
        generation: Option<i64>,
    },
    /// Somebody changed the hash since the observation.
    Stale,
    /// The hash belongs to another owner, or to no known one, and there is no consent to use.
    Owned {
        /// The owner it names, if any.
        by: Option<String>,
    },
    /// A newer operator wrote the hash.
    NewerLayout,
    /// The key holds something other than a hash.
    WrongType,
    /// There is no hash for the heartbeat or the removal.
    Gone,
    /// The staging key lost fields, as under an eviction policy, or another attempt has replaced it.
    Torn,
}

/// The few fields that show whether anybody changed a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The fields of the hash; all of them empty if there is none.
    Hash {
        /// The owner.
        owner: Option<String>,
        /// The fence.
        fence: Fence,
        /// The MAC.
        mac: Option<String>,
    },
    /// The key holds something other than a hash.
    WrongType,
}

/// A whole key as it was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedHash {
    /// All fields; none if the key does not exist.
    Fields(Fields),
    /// The key holds something other than a hash.
    WrongType,
}
