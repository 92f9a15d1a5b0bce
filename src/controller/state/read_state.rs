//! What the operator remembers of the reads of one mirror.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::state::target_state::Seen;
use crate::controller::state::unpublished::UnpublishedGuard;
use crate::mirror::plan::Plan;
use crate::mirror::resolve::{Incident, SourceIssue};
use crate::mirror::schedule::{MOST_CONFIRMATIONS, ReadSchedule};
use crate::mirror::snapshot::{ReadError, Snapshot};

/// From how many failed reads in a row on a mirror waits for the others of its namespace. One that can never succeed would
/// otherwise take the whole budget of its namespace: a mirror of too many parameters costs hundreds of requests a read.
const FAILING: u32 = 2;

/// The reads of one mirror: when they began and ended, and what is wrong with them.
#[derive(Default)]
pub struct ReadState {
    /// Number of reads that have begun: the cycle that log lines name.
    pub cycle: u64,
    /// Uptime at which the last read began.
    pub last_began: Option<Duration>,
    /// Uptime at which the first read of this process is due; `None` until that is decided.
    pub first_due: Option<Duration>,
    /// Whether a read is due at once, whatever the schedule says.
    pub due_now: bool,
    /// Whether a read of this process has ended.
    pub has_read: bool,
    /// Failed reads in a row.
    pub failures: u32,
    /// Reads in a row that left the mirror without its first set.
    pub without_set: u32,
    /// Value of `Context::recoveries` when the last read began.
    pub recoveries_seen: u64,
    /// What is wrong with the source or the set, and since when.
    pub issue: Option<Incident>,
    /// Whether a read was repeated because a target changed during it. It is repeated once.
    pub retried_stale: bool,
    /// Served parameters that the last complete read lacked.
    pub absences: Absences,
    /// The read that is under way.
    pub in_flight: Option<Box<InFlight>>,
    /// Wall time at which the last read began, for the status.
    pub last_attempt: Option<Timestamp>,
    /// The value of the annotation `sync-at` that last requested a read.
    pub requested_sync_at: Option<String>,
    /// The value of `sync-at` whose read has ended, successfully or not.
    pub handled_sync_at: Option<String>,
}

/// Served parameters that the last complete read lacked. A restarted operator does not know them, and asks SSM twice again.
#[derive(Default)]
pub struct Absences {
    /// Names as selected.
    pub names: BTreeSet<String>,
    /// How many reads in a row have waited for the next one to confirm them.
    pub waits: u32,
    /// Uptime at which SSM is read to confirm them; `None` if no read waits.
    pub confirm_at: Option<Duration>,
}

impl Absences {
    /// Returns what the next complete read is compared with; `None` if enough reads in a row have waited.
    #[must_use]
    pub fn before(&self) -> Option<&BTreeSet<String>> {
        (self.waits < MOST_CONFIRMATIONS).then_some(&self.names)
    }

    /// Records what a complete read lacked. `confirm_at` is when the next read, for which this one waits, is due; `None` if it does
    /// not wait.
    pub fn note(&mut self, names: BTreeSet<String>, confirm_at: Option<Duration>) {
        self.waits = if confirm_at.is_some() { self.waits + 1 } else { 0 };
        self.names = names;
        self.confirm_at = confirm_at;
    }
}

impl ReadState {
    /// Returns the current schedule of reads.
    #[must_use]
    pub fn schedule(&self, interval: Duration, now: Duration) -> ReadSchedule {
        ReadSchedule {
            interval,
            last_began: self.last_began,
            failures: self.failures,
            without_set: self.without_set,
            denied: self.last_error().is_some_and(|error| error.reason.is_denial()),
            first_due: self.first_due.unwrap_or(now),
        }
    }

    /// Whether reads have failed often enough in a row that the next one lets those of other mirrors go first. An outage does not
    /// count: after it, the mirrors that are read first would be due again before the last one is read.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let is_shared = self.last_error().is_some_and(|error| error.reason.is_shared());
        self.failures.max(self.without_set) >= FAILING && !is_shared
    }

    /// Returns why the last read failed, if it did.
    #[must_use]
    pub fn last_error(&self) -> Option<&ReadError> {
        match &self.issue {
            Some(Incident { issue: SourceIssue::Read(error), .. }) => Some(error),
            _ => None,
        }
    }

    /// Whether the read under way has ended.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|read| read.has_ended())
    }

    /// Returns the uptime at which the next read is due.
    #[must_use]
    pub fn next_read(&self, interval: Duration, now: Duration) -> Duration {
        let by_pace = if self.due_now { now } else { self.schedule(interval, now).next_read() };
        self.absences.confirm_at.map_or(by_pace, |at| by_pace.min(at))
    }
}

/// The result of a read.
pub struct ReadResult {
    /// The answer of SSM.
    pub outcome: Result<Snapshot, ReadError>,
    /// Held until the values are published, if the mirror had no set before.
    pub first: Option<UnpublishedGuard>,
}

/// A read of SSM that is under way, and the state of the targets when it began.
pub struct InFlight {
    /// Receives the result.
    pub answer: oneshot::Receiver<ReadResult>,
    /// Aborts the read when dropped.
    pub task: AbortOnDropHandle<()>,
    /// The plan that the read is for.
    pub plan: Arc<Plan>,
    /// Whether the request budget has admitted its first request.
    pub started: Arc<AtomicBool>,
    /// The value of the annotation `sync-at` that the read answers.
    pub sync_at: Option<String>,
    /// Uptime at which the read was begun.
    pub due: Duration,
    /// How often others had changed each target by then.
    pub seen: Seen,
}

impl InFlight {
    /// Whether there is an answer to take. The task sends the answer, then wakes the mirror, and only then ends. A reconcile that
    /// looked only at the task could come too early, and would not look again before the next check.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.answer.is_empty() || self.task.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::fixtures::{path, plan, reading};
    use crate::mirror::snapshot::ReadErrorKind;

    /// Otherwise the mirrors that are read first after an outage would be due again before the last one is read.
    #[test]
    fn an_outage_makes_no_mirror_give_way() {
        let failed = |reason| {
            let issue = SourceIssue::Read(ReadError::new(reason, "it failed"));
            let incident = Incident { issue, since: Timestamp::UNIX_EPOCH, failed_reads: 5 };
            ReadState { failures: 5, issue: Some(incident), ..ReadState::default() }
        };
        for shared in [ReadErrorKind::SourceUnavailable, ReadErrorKind::Timeout, ReadErrorKind::Throttled] {
            assert!(!failed(shared).is_failing(), "{shared}");
        }
        for own in
            [ReadErrorKind::AccessDenied, ReadErrorKind::TooManyParameters, ReadErrorKind::InvalidResponse]
        {
            assert!(failed(own).is_failing(), "{own}");
        }
    }

    /// The task sends the answer and wakes the mirror before it ends.
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
            seen: Seen::default(),
        };
        assert!(!read.has_ended());
        let outcome = Ok(reading(&[("/app/a", "1")], 1));
        assert!(answered.send(ReadResult { outcome, first: None }).is_ok());
        assert!(read.has_ended());

        // A task that was aborted leaves no answer.
        (_, read.answer) = oneshot::channel();
        read.task.abort();
        assert!((&mut read.task).await.is_err());
        assert!(read.has_ended());
    }
}
