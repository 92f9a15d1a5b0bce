//! What the operator remembers of one mirror between two passes. Everything here can be lost: a restarted
//! operator learns it again from the targets and from the status.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::Signed;
use parameter_mirror_format::hash::{Fence, HashFound};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use tracing_mutex::parkinglot::Mutex;

use crate::api::{ParameterMirror, ParameterMirrorStatus};
use crate::controller::state::unpublished::FirstValues;
use crate::kubernetes::watches::CachedVersion;
use crate::mirror::plan::{Plan, PlanError};
use crate::mirror::resolve::SourceIssue;
use crate::mirror::schedule::{HealLimiter, MOST_CONFIRMATIONS, ReadSchedule};
use crate::mirror::snapshot::{ReadError, Snapshot};
use crate::mirror::target::TargetIssue;
use crate::targets::redis::copy::Trace;
use crate::targets::secret::ObservedSecret;

/// How long after an own write the watch may still show the version before it.
pub const WATCH_LAG: Duration = Duration::from_secs(5);

/// One mirror's memory. Only one pass of a mirror runs at a time, so the lock is never contended.
pub type Shared = Arc<tokio::sync::Mutex<MirrorState>>;

/// The states of all mirrors.
#[derive(Default)]
pub struct StateMap(Mutex<HashMap<ObjectRef<ParameterMirror>, Shared>>);

impl StateMap {
    /// The memory of one mirror, empty at first.
    pub fn of(&self, mirror: &ObjectRef<ParameterMirror>) -> Shared {
        Arc::clone(self.0.lock().entry(mirror.clone()).or_default())
    }

    /// The states of all mirrors.
    #[must_use]
    pub fn all(&self) -> Vec<Shared> {
        self.0.lock().values().cloned().collect()
    }

    /// Forgets everything, and ends the reads under way.
    pub fn forget_all(&self) {
        let forgotten = std::mem::take(&mut *self.0.lock());
        // Outside the lock: this ends tasks.
        drop(forgotten);
    }

    /// Forgets a mirror that is gone.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        let forgotten = self.0.lock().remove(mirror);
        drop(forgotten);
    }
}

/// What is remembered of one mirror.
#[derive(Default)]
pub struct MirrorState {
    /// UID of the object this is about: one that was deleted and applied again starts anew, from its targets.
    pub uid: Option<String>,
    /// The plan of the last pass and what asked for it, to see whether anything changed.
    pub settled: Option<LastReconcile>,
    /// The refusal that was confirmed against the API server, and when.
    pub refused: Option<(PlanError, Duration)>,
    /// The last known good set; `None` if there is none, or if its values are put down.
    pub good: Option<Signed>,
    /// The targets hold the last known good set, and memory does not.
    pub evicted: Option<Evicted>,
    /// Read time that the last good read of this process would stamp, Unix ms.
    pub confirmed_at: i64,
    /// Latest verified read time ever seen, Unix ms.
    pub latest_read_at: i64,
    /// When the last good read began.
    pub last_sync: Option<Timestamp>,
    /// When the last read began.
    pub last_attempt: Option<Timestamp>,
    /// The source's side.
    pub source: ReadState,
    /// The read that is under way.
    pub in_flight: Option<Box<InFlight>>,
    /// The Secret.
    pub secret: SecretState,
    /// The Redis hash.
    pub redis: RedisState,
    /// Since when the first status waits for more urgent writes.
    pub deferred_since: Option<Duration>,
    /// The status that was told to log and events and could not be written.
    pub unwritten_status: Option<Box<ParameterMirrorStatus>>,
    /// The status as last written by this process, and when.
    pub reported: Option<(ParameterMirrorStatus, Duration)>,
    /// The value of `sync-at` that asked for a read last.
    pub requested_sync_at: Option<String>,
    /// The value of `sync-at` whose read has ended, well or not.
    pub handled_sync_at: Option<String>,
    /// Generation of the object that was last reported as not decodable.
    pub undecodable: Option<i64>,
    /// Which version of the operator's keys the verdicts were made with.
    pub keys_version: u64,
}

/// What a pass was based on; while nothing of it changes and nothing is due, there is nothing to do.
#[derive(Clone, PartialEq, Eq)]
pub struct LastReconcile {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Value of `sync-at`.
    pub sync_at: Option<String>,
    /// Value of `accept-shrink`.
    pub accept_shrink: Option<String>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// When the targets are looked at next.
    pub next_check: Duration,
}

/// The source's side of one mirror.
#[derive(Default)]
pub struct ReadState {
    /// How many reads have begun: the cycle that log lines name.
    pub cycle: u64,
    /// When the last read began.
    pub last_began: Option<Duration>,
    /// When the first read of this process is due, once decided.
    pub first_due: Option<Duration>,
    /// A read is due at once, whatever the rhythm says.
    pub due_now: bool,
    /// Whether a read of this process has ended.
    pub has_read: bool,
    /// Failed reads in a row.
    pub failures: u32,
    /// How often SSM had come back when the last read began.
    pub recoveries_seen: u64,
    /// What is wrong, since when.
    pub issue: Option<(SourceIssue, Timestamp)>,
    /// One immediate retry after a target changed while SSM was read.
    pub retried_stale: bool,
    /// What the last complete read lacked.
    pub absences: Absences,
}

/// What the last complete read lacked of what is served. A restarted operator does not know, and asks twice again.
#[derive(Default)]
pub struct Absences {
    /// Names as selected.
    pub names: BTreeSet<String>,
    /// How many reads in a row have waited for the next one.
    pub waits: u32,
    /// When SSM is read to confirm them.
    pub confirm_at: Option<Duration>,
}

impl Absences {
    /// What the next complete read is compared with; `None` if enough of them have waited.
    #[must_use]
    pub fn before(&self) -> Option<&BTreeSet<String>> {
        (self.waits < MOST_CONFIRMATIONS).then_some(&self.names)
    }

    /// A complete read lacked these. It waits for the next one, which is due `confirm_at`, or it does not.
    pub fn note(&mut self, names: BTreeSet<String>, confirm_at: Option<Duration>) {
        self.waits = if confirm_at.is_some() { self.waits + 1 } else { 0 };
        self.names = names;
        self.confirm_at = confirm_at;
    }
}

impl ReadState {
    /// The rhythm of reads as it stands.
    #[must_use]
    pub fn schedule(&self, interval: Duration, now: Duration) -> ReadSchedule {
        ReadSchedule {
            interval,
            last_began: self.last_began,
            failures: self.failures,
            denied: matches!(&self.issue, Some((SourceIssue::Read(failure), _)) if failure.reason.is_denial()),
            first_due: self.first_due.unwrap_or(now),
        }
    }

    /// When the next read is due.
    #[must_use]
    pub fn next_read(&self, interval: Duration, now: Duration) -> Duration {
        let by_pace = if self.due_now { now } else { self.schedule(interval, now).next_read() };
        self.absences.confirm_at.map_or(by_pace, |at| by_pace.min(at))
    }
}

/// What a read has brought.
pub struct ReadResult {
    /// What SSM said.
    pub outcome: Result<Snapshot, ReadError>,
    /// Counts as long as nothing of it is published, if the mirror had nothing before.
    pub first: Option<FirstValues>,
}

/// A read of SSM that is under way, and the state of the targets when it began.
pub struct InFlight {
    /// Its answer, once there.
    pub answer: oneshot::Receiver<ReadResult>,
    /// Ends the read when dropped.
    pub task: AbortOnDropHandle<()>,
    /// The plan it reads for.
    pub plan: Arc<Plan>,
    /// Whether its first request has got through the budget.
    pub started: Arc<AtomicBool>,
    /// The value of `sync-at` that it answers.
    pub sync_at: Option<String>,
    /// When it became due.
    pub due: Duration,
    /// Changes of the Secret by others that were known then; `None` if it was not observed.
    pub secret_seen: Option<u64>,
    /// The same of the Redis hash.
    pub redis_seen: Option<u64>,
}

impl InFlight {
    /// Whether there is an answer to take. It is sent before the mirror is woken, and only after that does the task end: one that
    /// looked at the task alone could come too early, and would not look again before the next check.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.answer.is_empty() || self.task.is_finished()
    }
}

/// How the targets were when the values were put down.
pub struct Evicted {
    /// The version of the Secret.
    pub secret_version: Option<String>,
    /// What a look at the hash compares.
    pub redis: Trace,
}

impl Evicted {
    /// Whether this is the version that the Secret had.
    #[must_use]
    pub fn is_secret_version(&self, version: Option<&str>) -> bool {
        self.secret_version.as_deref() == version
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

impl MirrorState {
    /// The status as it is: the watch may lag behind our own last write, so for a while that counts.
    #[must_use]
    pub fn previous_status(&self, mirror: &ParameterMirror, now: Duration) -> ParameterMirrorStatus {
        match &self.reported {
            Some((status, at)) if now < *at + WATCH_LAG => status.clone(),
            _ => mirror.status.clone().unwrap_or_default(),
        }
    }

    /// Remembers a verified read time: the next stamp must be later.
    pub fn advance_read_at(&mut self, read_at: i64) {
        self.latest_read_at = self.latest_read_at.max(read_at);
    }

    /// Another Secret or hash than before is a target now: what was observed is of no use.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::fixtures::{path, plan, reading};

    /// A task sends the answer, wakes the mirror, and is not over by then.
    #[tokio::test]
    async fn a_read_has_ended_when_its_answer_is_there_or_its_task_is_over() {
        let (answered, answer) = oneshot::channel();
        let mut read = InFlight {
            answer,
            task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
            plan: Arc::new(plan(&[path("/app")])),
            started: Arc::default(),
            sync_at: None,
            due: Duration::ZERO,
            secret_seen: None,
            redis_seen: None,
        };
        assert!(!read.has_ended());
        let outcome = Ok(reading(&[("/app/a", "1")], 1));
        assert!(answered.send(ReadResult { outcome, first: None }).is_ok());
        assert!(read.has_ended());

        // One that died leaves no answer.
        (_, read.answer) = oneshot::channel();
        read.task.abort();
        assert!((&mut read.task).await.is_err());
        assert!(read.has_ended());
    }

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
