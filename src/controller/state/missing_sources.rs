//! Sources that the API server does not have.

use std::collections::HashMap;
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

/// How long a missing source counts as missing before the operator asks the API server again. The watch shows a new source at once.
const MISSING_FOR: Duration = Duration::from_mins(1);

/// Sources that the API server does not have, and when it was last asked, which is once for all mirrors that name a source.
#[derive(Default)]
pub struct MissingSources(Mutex<AskedAt>);

#[derive(Default)]
struct AskedAt(HashMap<String, Duration>);

impl MissingSources {
    /// Whether this source counts as missing. When it is time to ask the API server again, exactly one caller gets `false` and
    /// asks; the others still get `true` meanwhile.
    #[must_use]
    pub fn is_missing(&self, source: &str, now: Duration) -> bool {
        self.0.lock().is_missing(source, now)
    }

    /// Records whether the API server has this source.
    pub fn found(&self, source: &str, is_there: bool, now: Duration) {
        self.0.lock().found(source, is_there, now);
    }
}

impl AskedAt {
    fn is_missing(&mut self, source: &str, now: Duration) -> bool {
        let Some(asked) = self.0.get_mut(source) else { return false };
        let is_recent = now < *asked + MISSING_FOR;
        if !is_recent {
            *asked = now;
        }
        is_recent
    }

    fn found(&mut self, source: &str, is_there: bool, now: Duration) {
        // Tenants choose the names, so names that are no longer asked for are dropped.
        self.0.retain(|_, asked| now < *asked + 2 * MISSING_FOR);
        if is_there {
            self.0.remove(source);
        } else {
            self.0.insert(source.to_owned(), now);
        }
    }
}
