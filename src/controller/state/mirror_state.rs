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
use crate::controller::state::target_state::{Targets, WATCH_LAG};
use crate::mirror::plan::{Plan, PlanError};
use crate::targets::redis::copy::Trace;

/// The state of one mirror. Only one reconcile of a mirror runs at a time; others look at it with `try_lock` alone.
pub type SharedState = Arc<tokio::sync::Mutex<MirrorState>>;

/// The states of all mirrors.
#[derive(Default)]
pub struct StateMap(Mutex<HashMap<ObjectRef<ParameterMirror>, SharedState>>);

impl StateMap {
    /// The state of one mirror, empty at first.
    pub fn of(&self, mirror: &ObjectRef<ParameterMirror>) -> SharedState {
        Arc::clone(self.0.lock().entry(mirror.clone()).or_default())
    }

    /// The states of all mirrors.
    #[must_use]
    pub fn all(&self) -> Vec<SharedState> {
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
    /// UID of the object this is about: one that was deleted and applied again begins with nothing, and learns from its targets.
    pub uid: Option<String>,
    /// What the last reconcile was based on, to see whether anything changed.
    pub last: Option<LastReconcile>,
    /// The error of the plan that was confirmed against the API server, and when.
    pub refused: Option<(PlanError, Duration)>,
    /// The last known good set; `None` if there is none, or if its values are evicted.
    pub good: Option<Signed>,
    /// The targets hold the last known good set, and this process does not.
    pub evicted: Option<Evicted>,
    /// Read time that the last good read of this process would stamp, Unix ms.
    pub confirmed_at: i64,
    /// Latest verified read time ever seen, Unix ms.
    pub latest_read_at: i64,
    /// When the last good read began.
    pub last_sync: Option<Timestamp>,
    /// The reads.
    pub source: ReadState,
    /// The targets.
    pub targets: Targets,
    /// The status.
    pub report: ReportState,
}

/// What a reconcile was based on; while nothing of it changes and nothing is due, there is nothing to do.
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
    /// When the targets are checked next.
    pub next_check: Duration,
}

/// How the targets were when the values were evicted.
pub struct Evicted {
    /// The version of the Secret.
    pub secret_version: Option<String>,
    /// What a check of the hash compares.
    pub redis: Trace,
}

impl Evicted {
    /// Whether this is the version that the Secret had.
    #[must_use]
    pub fn is_secret_version(&self, version: Option<&str>) -> bool {
        self.secret_version.as_deref() == version
    }
}

/// What was written to the status, and what was not.
#[derive(Default)]
pub struct ReportState {
    /// The status as last written by this process, and when.
    pub written: Option<(ParameterMirrorStatus, Duration)>,
    /// A status that log and events have reported, and that could not be written.
    pub unwritten: Option<Box<ParameterMirrorStatus>>,
    /// Since when the first status waits for more urgent writes.
    pub deferred_since: Option<Duration>,
    /// Generation of the object that was last reported as not decodable.
    pub invalid_generation: Option<i64>,
}

impl MirrorState {
    /// The status as it is: the watch may lag behind our own last write, so for a while that counts.
    #[must_use]
    pub fn previous_status(&self, mirror: &ParameterMirror, now: Duration) -> ParameterMirrorStatus {
        match &self.report.written {
            Some((status, at)) if now < *at + WATCH_LAG => status.clone(),
            _ => mirror.status.clone().unwrap_or_default(),
        }
    }

    /// Remembers a verified read time: the next stamp must be later.
    pub fn advance_read_at(&mut self, read_at: i64) {
        self.latest_read_at = self.latest_read_at.max(read_at);
    }
}
