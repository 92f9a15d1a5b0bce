//! What was last said of each source, so that it is not said again by every mirror.

use std::collections::HashMap;
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

/// Least time between two writes of a source's status that only move its times and counts.
const STATUS_EVERY: Duration = Duration::from_mins(1);

/// What was last written to the status of each source, and when. All mirrors of a source report to it, and the
/// watch lags behind: without this, two hundred first syncs would be two hundred writes.
#[derive(Default)]
pub struct StatusDedup(Mutex<HashMap<String, (StatusKey, Duration)>>);

/// What is worth a write at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusKey {
    /// Status of `Available`.
    pub status: &'static str,
    /// Its reason.
    pub reason: String,
    /// What the breaker does.
    pub breaker: Option<&'static str>,
    /// The generation that all of it speaks of.
    pub generation: Option<i64>,
}

impl StatusDedup {
    /// Whether this is worth a write now; if so, it counts as said. `in_place` says that the status shows it already.
    pub fn should_write(&self, source: &str, saying: StatusKey, in_place: bool, now: Duration) -> bool {
        let mut said = self.0.lock();
        let is_known = match said.get(source) {
            // Reads that fail for different reasons take turns; the reason of a moment is not worth a write.
            Some((last, at)) => {
                let is_same = StatusKey { reason: saying.reason.clone(), ..last.clone() } == saying;
                is_same && now < *at + STATUS_EVERY
            }
            None => in_place && saying.status == "False",
        };
        if !is_known {
            said.insert(source.to_owned(), (saying, now));
        }
        !is_known
    }
}
