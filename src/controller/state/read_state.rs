//! What is remembered of the reads of one mirror.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::controller::state::target_state::Seen;
use crate::controller::state::unpublished::FirstValues;
use crate::mirror::plan::Plan;
use crate::mirror::resolve::SourceIssue;
use crate::mirror::schedule::{MOST_CONFIRMATIONS, ReadSchedule};
use crate::mirror::snapshot::{ReadError, Snapshot};

/// The reads of one mirror: when they began and ended, and what is wrong with them.
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
    /// The read that is under way.
    pub in_flight: Option<Box<InFlight>>,
    /// When the last read began.
    pub last_attempt: Option<Timestamp>,
    /// The value of `sync-at` that asked for a read last.
    pub requested_sync_at: Option<String>,
    /// The value of `sync-at` whose read has ended, well or not.
    pub handled_sync_at: Option<String>,
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

    /// Whether a read under way has ended.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|read| read.has_ended())
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
    /// What was known of the targets then.
    pub seen: Seen,
}

impl InFlight {
    /// Whether there is an answer to take. It is sent before the mirror is woken, and only after that does the task end: one that
    /// looked at the task alone could come too early, and would not look again before the next check.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.answer.is_empty() || self.task.is_finished()
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
            seen: Seen::default(),
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
}
