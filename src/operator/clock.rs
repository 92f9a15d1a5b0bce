//! The two clocks of the operator, behind a seam so that tests can drive hours and days.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time for stamps and messages, process time for everything that waits.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts counting now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Wall time; may jump.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Time since the process started; never jumps.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
