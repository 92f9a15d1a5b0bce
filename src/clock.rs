//! The clocks of the operator, behind a seam so that tests can drive hours and days.

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
    awake_or_not: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Starts counting now; wall time is the system's.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), wall: Arc::new(Timestamp::now), awake_or_not: Arc::new(boottime) }
    }

    /// Starts counting now; wall time is what `wall` says and may jump. Nothing suspends the machine.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let started = Instant::now();
        Self { started, wall: Arc::new(wall), awake_or_not: Arc::new(move || started.elapsed()) }
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

    /// Time since some fixed moment, which also passes while the machine is suspended: what others see of us goes on
    /// meanwhile.
    #[must_use]
    pub fn boottime(&self) -> Duration {
        (self.awake_or_not)()
    }
}

/// `CLOCK_MONOTONIC`, which everything else here counts by, stands still in a suspended machine; this one does not.
fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).field("uptime", &self.uptime()).finish()
    }
}
