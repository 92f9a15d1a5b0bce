//! The clocks of the operator. Tests inject them and simulate hours and days.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time for timestamps and messages, process time for everything that waits.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    awake_or_not: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Starts the process clock now; wall time is the system's.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), wall: Arc::new(Timestamp::now), awake_or_not: Arc::new(boottime) }
    }

    /// Starts the process clock now; `wall` returns the wall time, which may jump. The machine is never suspended.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let started = Instant::now();
        Self { started, wall: Arc::new(wall), awake_or_not: Arc::new(move || started.elapsed()) }
    }

    /// Returns the wall time; it may jump.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// Returns the time since the process started; it never jumps.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the time since a fixed moment, which also passes while the machine is suspended: other processes, and
    /// the leases that they wait for, do not stop meanwhile.
    #[must_use]
    pub fn boottime(&self) -> Duration {
        (self.awake_or_not)()
    }
}

/// Unlike `CLOCK_MONOTONIC`, by which everything else here counts, this clock goes on in a suspended machine.
fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

/// Returns `pause`, jittered by a fifth, so that operators that lost SSM together do not come back together.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 401;
    pause * (800 + u32::try_from(random).unwrap_or_default()) / 1_000
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).field("uptime", &self.uptime()).finish()
    }
}
