//! Faults of SSM and Redis, a new one every few seconds.

use std::time::{Duration, Instant};

use parameter_mirror_test_support::proxy::Path;
use parameter_mirror_test_support::ssm::{Body, Fault, When};
use parameter_mirror_test_support::{Proxy, Redis, Ssm};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::monitor::Shared;

/// How long one fault lasts, in milliseconds.
const LASTS: std::ops::Range<u64> = 1_500..6_000;

/// The share of requests that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// One in ten: reads fail, but the breaker stays closed, so the whole load continues.
    Partial,
    /// Half of them or all: the breaker opens, and all waiting requests are refused at once.
    Whole,
}

impl Severity {
    fn share(self, random: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Partial => 0.1,
            Self::Whole => random.choice([0.5, 1.0]).unwrap_or(1.0),
        }
    }
}

/// A fault of SSM.
#[derive(Clone, Copy, Debug)]
enum SsmFault {
    None,
    Internal,
    Unavailable,
    BareStatus,
    Throttling,
    Silent,
    Slow,
    SlowBody,
    StalledBody,
    Truncated,
    Reset,
    BrokenJson,
    Html,
    Refused,
}

const SSM: [SsmFault; 16] = [
    SsmFault::None,
    SsmFault::None,
    SsmFault::None,
    SsmFault::Internal,
    SsmFault::Unavailable,
    SsmFault::BareStatus,
    SsmFault::Throttling,
    SsmFault::Silent,
    SsmFault::Slow,
    SsmFault::SlowBody,
    SsmFault::StalledBody,
    SsmFault::Truncated,
    SsmFault::Reset,
    SsmFault::BrokenJson,
    SsmFault::Html,
    SsmFault::Refused,
];

/// A fault of Redis or of the network to it.
#[derive(Clone, Copy, Debug)]
enum RedisFault {
    None,
    Silent,
    Held,
    Refused,
    Reset,
    Slow,
    Restarted,
}

const REDIS: [RedisFault; 8] = [
    RedisFault::None,
    RedisFault::None,
    RedisFault::Silent,
    RedisFault::Held,
    RedisFault::Refused,
    RedisFault::Reset,
    RedisFault::Slow,
    RedisFault::Restarted,
];

impl SsmFault {
    fn scripted(self) -> Option<Fault> {
        Some(match self {
            Self::None | Self::Refused => return None,
            Self::Internal => Fault::internal(),
            Self::Unavailable => Fault::unavailable(),
            Self::BareStatus => Fault::Status { code: 500, body: Body::Empty },
            Self::Throttling => Fault::throttling(),
            Self::Silent => Fault::Silent,
            Self::Slow => Fault::Slow(Duration::from_secs(2)),
            Self::SlowBody => Fault::SlowBody { bytes_per_second: 200 },
            Self::StalledBody => Fault::StallBody,
            Self::Truncated => Fault::Truncated,
            Self::Reset => Fault::Reset,
            Self::BrokenJson => Fault::BrokenJson,
            Self::Html => Fault::GarbageOk,
        })
    }
}

/// Disturbs SSM until `until`, and leaves it healthy.
pub async fn disturb_ssm(
    ssm: &Ssm,
    severity: Severity,
    shared: &Shared,
    mut random: fastrand::Rng,
    until: Instant,
) {
    while Instant::now() < until {
        let mut fault = SSM[random.usize(..SSM.len())];
        if severity == Severity::Partial && matches!(fault, SsmFault::Refused) {
            fault = SsmFault::Reset;
        }
        let share = severity.share(&mut random);
        let mut described = format!("{fault:?}");
        if let Some(scripted) = fault.scripted() {
            ssm.fail(When::any().share(share, random.u64(..)), scripted);
            described = format!("{fault:?} {:.0} %", share * 100.0);
        } else if matches!(fault, SsmFault::Refused) {
            ssm.refuse();
        }
        shared.lock().ssm_fault = described;
        lasts(&mut random, until).await;
        ssm.clear_all();
        if matches!(fault, SsmFault::Refused) {
            ssm.listen_again();
        }
    }
    "None".clone_into(&mut shared.lock().ssm_fault);
}

/// Disturbs Redis until `until`, and leaves it healthy.
pub async fn disturb_redis(
    redis: &Mutex<Redis>,
    proxy: &Proxy,
    shared: &Shared,
    mut random: fastrand::Rng,
    until: Instant,
) {
    while Instant::now() < until {
        let fault = REDIS[random.usize(..REDIS.len())];
        shared.lock().redis_fault = format!("{fault:?}");
        match fault {
            RedisFault::None => {}
            RedisFault::Silent => proxy.set(Path::Silent).await,
            RedisFault::Held => proxy.set(Path::Holds).await,
            RedisFault::Refused => {
                proxy.set(Path::Refuses).await;
                proxy.reset();
            }
            RedisFault::Reset => proxy.reset(),
            RedisFault::Slow => proxy.set(Path::Delays(Duration::from_millis(300))).await,
            // It restarts empty.
            RedisFault::Restarted => redis.lock().await.restart().await,
        }
        lasts(&mut random, until).await;
        proxy.set(Path::Passes).await;
    }
    "None".clone_into(&mut shared.lock().redis_fault);
}

async fn lasts(random: &mut fastrand::Rng, until: Instant) {
    let left = until.saturating_duration_since(Instant::now());
    sleep(Duration::from_millis(random.u64(LASTS)).min(left)).await;
}
