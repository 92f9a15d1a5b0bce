//! Remembers what was last written to the status of each source, so that not every mirror writes it again.

use std::collections::HashMap;
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

/// Least time between two writes of a source's status that change only its reason, times and counts.
const STATUS_EVERY: Duration = Duration::from_mins(1);

/// What was last written to the status of each source, and when. All mirrors of a source report to it, and the watch lags behind:
/// without this, two hundred first syncs would be two hundred writes.
#[derive(Default)]
pub struct StatusDedup(Mutex<HashMap<String, (StatusKey, Duration)>>);

/// What a write reports about a source. Another status, breaker or generation is written at once; another reason is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusKey {
    /// Status of the condition `Available`.
    pub status: &'static str,
    /// Reason of the condition.
    pub reason: String,
    /// State of the circuit breaker, or `Drill`.
    pub breaker: Option<&'static str>,
    /// Generation of the source that the status describes.
    pub generation: Option<i64>,
}

impl StatusDedup {
    /// Whether to write the status now; if so, it counts as written. `in_place` means that the status shows it already.
    pub fn should_write(&self, source: &str, saying: StatusKey, in_place: bool, now: Duration) -> bool {
        let mut said = self.0.lock();
        let is_known = match said.get(source) {
            // Reads that fail for different reasons alternate, so a change of the reason alone is not worth a write.
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
