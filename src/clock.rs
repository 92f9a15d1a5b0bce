//! The two clocks of the operator, behind a seam so that tests can drive hours and days.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time for stamps and messages, process time for everything that waits.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// Starts counting now; wall time is the system's.
    #[must_use]
    pub fn start() -> Self {
        Self::with_wall(Timestamp::now)
    }

    /// Starts counting now; wall time is what `wall` says, and may jump.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { started: Instant::now(), wall: Arc::new(wall) }
    }

    /// Wall time; may jump.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// Time since the process started; never jumps.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).field("uptime", &self.uptime()).finish()
    }
}
