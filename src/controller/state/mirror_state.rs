//! What the operator remembers of one mirror between two reconciles. All of it can be lost: a restarted operator learns it again
//! from the targets and from the status.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::Signed;
use tracing_mutex::parkinglot::Mutex;

use crate::api::{ParameterMirror, ParameterMirrorStatus};
use crate::controller::state::read_state::ReadState;
use crate::controller::state::target_state::Targets;
use crate::mirror::plan::{Plan, PlanError};

/// How long after our own write the watch may still show the status before it.
const WATCH_LAG: Duration = Duration::from_secs(5);

/// The state of one mirror. Only one reconcile of a mirror runs at a time; reconciles of other mirrors use `try_lock` only.
pub type SharedState = Arc<tokio::sync::Mutex<MirrorState>>;

/// The states of all mirrors.
#[derive(Default)]
pub struct StateMap(Mutex<HashMap<ObjectRef<ParameterMirror>, SharedState>>);

impl StateMap {
    /// Returns the state of one mirror, which is empty at first.
    pub fn of(&self, mirror: &ObjectRef<ParameterMirror>) -> SharedState {
        Arc::clone(self.0.lock().entry(mirror.clone()).or_default())
    }

    /// Returns the states of all mirrors.
    #[must_use]
    pub fn all(&self) -> Vec<SharedState> {
        self.0.lock().values().cloned().collect()
    }

    /// Forgets all states, and aborts the reads under way.
    pub fn forget_all(&self) {
        let forgotten = std::mem::take(&mut *self.0.lock());
        // Outside the lock, because the drop aborts tasks.
        drop(forgotten);
    }

    /// Forgets a mirror that no longer exists.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        let forgotten = self.0.lock().remove(mirror);
        drop(forgotten);
    }
}

/// What the operator remembers of one mirror.
#[derive(Default)]
pub struct MirrorState {
    /// UID of the object. A mirror that is deleted and applied again begins with an empty state, and learns from its targets.
    pub uid: Option<String>,
    /// What the last reconcile was based on, to detect changes; `None` if the next reconcile has to run in full.
    pub last: Option<LastReconcile>,
    /// The refusal that the API server confirmed, and the uptime at which it did.
    pub refused: Option<(PlanError, Duration)>,
    /// The last known good set; `None` if there is no set, or if its values are evicted.
    pub good: Option<Signed>,
    /// Whether the values are evicted: the targets hold the last known good set, and this process does not.
    pub is_evicted: bool,
    /// Read time that the last good read of this process would stamp, Unix ms.
    pub confirmed_at: i64,
    /// Latest verified read time ever seen, Unix ms.
    pub latest_read_at: i64,
    /// Wall time at which the last good read began. In a new process it comes from the status, or from an adopted set.
    pub last_sync: Option<Timestamp>,
    /// The state of the reads.
    pub source: ReadState,
    /// The state of the targets.
    pub targets: Targets,
    /// The state of the status writes.
    pub report: ReportState,
}

/// What a reconcile was based on. While all of it stays the same and nothing is due, the next reconcile has nothing to do.
#[derive(Clone, PartialEq, Eq)]
pub struct LastReconcile {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Value of the annotation `sync-at`.
    pub sync_at: Option<String>,
    /// Value of the annotation `accept-shrink`.
    pub accept_shrink: Option<String>,
    /// `metadata.generation` of the mirror.
    pub generation: Option<i64>,
    /// Uptime at which the targets are checked next.
    pub next_check: Duration,
}

/// What was written to the status, and what was not.
#[derive(Default)]
pub struct ReportState {
    /// The status as last written by this process, and the uptime of that write.
    pub written: Option<(ParameterMirrorStatus, Duration)>,
    /// A status that could not be written, although log and events have reported it.
    pub unwritten: Option<Box<ParameterMirrorStatus>>,
    /// Uptime since when the first status has been deferred in favour of more urgent writes.
    pub deferred_since: Option<Duration>,
    /// Generation of the object that was last reported as not decodable.
    pub invalid_generation: Option<i64>,
}

impl MirrorState {
    /// Returns the current status. The watch may lag behind the operator's last write, so that write counts for [`WATCH_LAG`].
    #[must_use]
    pub fn previous_status(&self, mirror: &ParameterMirror, now: Duration) -> ParameterMirrorStatus {
        match &self.report.written {
            Some((status, at)) if now < *at + WATCH_LAG => status.clone(),
            _ => mirror.status.clone().unwrap_or_default(),
        }
    }

    /// Records a verified read time. The next stamp must be later.
    pub fn advance_read_at(&mut self, read_at: i64) {
        self.latest_read_at = self.latest_read_at.max(read_at);
    }
}
