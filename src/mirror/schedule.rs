//! When to read and when to check the targets. Time is passed in, as durations since the process started.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The longest time between two checks of the targets, and the first pause after a failed read.
pub const CHECK: Duration = Duration::from_secs(30);
/// When SSM is read again after a read that lacked parameters for the first time, counted from its beginning: by then a
/// lagging replica has mostly caught up, and a deletion is not late.
const CONFIRM_ABSENCE: Duration = Duration::from_secs(5);
/// The minimum pause after the end of that read: a read that took long is no reason to ask the same replica at once.
const CONFIRM_PAUSE: Duration = Duration::from_secs(1);
/// How many reads in a row may wait for the next one to confirm what each of them lacks. Then a set that loses
/// something new in each read is taken as it is, because changes of values wait with it.
pub const MOST_CONFIRMATIONS: u32 = 6;
/// The first pause after a read that left the mirror without a set.
const FIRST_SET: Duration = Duration::from_secs(5);
/// The longest pause between two reads of a mirror that has never had a set.
const FIRST_SET_MOST: Duration = Duration::from_mins(1);
/// The time over which first reads are spread after a restart.
const SPREAD: Duration = Duration::from_mins(5);

/// What decides when a mirror is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadSchedule {
    /// Interval of the spec.
    pub interval: Duration,
    /// When the last read began.
    pub last_began: Option<Duration>,
    /// How many reads in a row failed.
    pub failures: u32,
    /// How many reads in a row left the mirror without its first set; 0 once it has one.
    pub without_set: u32,
    /// Whether the last failure was a denial, which an early retry cannot resolve.
    pub denied: bool,
    /// When the first read of this process is due.
    pub first_due: Duration,
}

impl ReadSchedule {
    /// Returns when the next read is due.
    #[must_use]
    pub fn next_read(&self) -> Duration {
        let Some(began) = self.last_began else { return self.first_due };
        let pause = match self.failures {
            _ if self.without_set > 0 => first_set_pause(self.interval, self.without_set),
            0 => self.interval,
            _ if self.denied => self.interval,
            failures => retry_pause(self.interval, failures),
        };
        began.saturating_add(pause)
    }
}

/// Backs off: min(interval, 30 s), doubling up to the interval.
fn retry_pause(interval: Duration, failures: u32) -> Duration {
    doubling(interval.min(CHECK), failures).min(interval)
}

/// Backs off until the mirror has its first set: 5 s, doubling up to a minute, and never beyond the interval. Until then
/// nothing is served, and somebody may be about to create the parameter, the grant or the permission that is missing.
fn first_set_pause(interval: Duration, reads: u32) -> Duration {
    doubling(FIRST_SET, reads).min(FIRST_SET_MOST).min(interval)
}

/// Returns `first`, doubled once for each time after the first.
fn doubling(first: Duration, times: u32) -> Duration {
    let factor = 1u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor)
}

/// Returns when SSM is read to confirm what was lacking in a read that began at `began` and ends `now`.
#[must_use]
pub fn confirm_at(began: Duration, now: Duration) -> Duration {
    (began + CONFIRM_ABSENCE).max(now + CONFIRM_PAUSE)
}

/// Returns from when on a mirror may be read together with peers, if its last read began at `began`.
#[must_use]
pub fn may_read_from(began: Duration, interval: Duration) -> Duration {
    began + interval.mul_f64(0.9)
}

/// How often targets are checked, whether or not SSM is read.
#[must_use]
pub fn check_every(interval: Duration) -> Duration {
    interval.min(CHECK)
}

/// The age at which a set becomes stale if the spec does not say: three reads were missed, and nobody is paged within the hour.
#[must_use]
pub fn stale_after(interval: Duration) -> Duration {
    interval.saturating_mul(3).max(Duration::from_hours(1))
}

/// Returns when a process first reads a mirror that already has a set. First reads are spread, so that a restart with
/// many mirrors causes no stampede. Mirrors with the same first selection are due together and can share a read.
#[must_use]
pub fn first_read(now: Duration, interval: Duration, source: &str, first_selection: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    (source, first_selection).hash(&mut hasher);
    let share = u32::try_from(hasher.finish() >> 32).unwrap_or_default();
    now + interval.min(SPREAD).mul_f64(f64::from(share) / (f64::from(u32::MAX) + 1.0))
}

/// Maximum heals of one target within [`HEAL_WINDOW`]; beyond that, another writer is at work.
pub const MAX_HEALS: usize = 5;
/// The window of [`MAX_HEALS`].
pub const HEAL_WINDOW: Duration = Duration::from_mins(10);

/// The heals of one target, and the newer sets that others wrote there: they show that another writer keeps changing it.
#[derive(Clone, Debug, Default)]
pub struct HealLimiter {
    at: Vec<Duration>,
}

impl HealLimiter {
    /// Whether one more write is allowed now: five in ten minutes, then one per interval.
    #[must_use]
    pub fn allows(&self, now: Duration, interval: Duration) -> bool {
        !self.is_contested(now) || self.at.last().is_none_or(|&last| now >= last + interval)
    }

    /// Whether the limit is reached.
    #[must_use]
    pub fn is_contested(&self, now: Duration) -> bool {
        self.at.iter().filter(|&&at| now < at + HEAL_WINDOW).count() >= MAX_HEALS
    }

    /// Records a heal.
    pub fn record(&mut self, now: Duration) {
        self.at.retain(|&at| now < at + HEAL_WINDOW);
        self.at.push(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[rstest]
    #[case::good(300, 0, 0, false, 300)]
    #[case::first_failure(300, 1, 0, false, 30)]
    #[case::second(300, 2, 0, false, 60)]
    #[case::third(300, 3, 0, false, 120)]
    #[case::never_beyond_the_interval(300, 5, 0, false, 300)]
    #[case::after_very_many(300, 4_000_000_000, 0, false, 300)]
    #[case::short_interval(10, 1, 0, false, 10)]
    #[case::denied(300, 1, 0, true, 300)]
    #[case::denied_at_first(86_400, 1, 1, true, 5)]
    #[case::absent_at_first(86_400, 0, 1, false, 5)]
    #[case::absent_again(86_400, 0, 2, false, 10)]
    #[case::at_most_a_minute(86_400, 0, 5, false, 60)]
    #[case::never_had_a_set(86_400, 9, 4_000_000_000, false, 60)]
    #[case::no_set_and_a_short_interval(10, 3, 3, false, 10)]
    fn a_read_is_due_after(
        #[case] interval: u64,
        #[case] failures: u32,
        #[case] without_set: u32,
        #[case] denied: bool,
        #[case] pause: u64,
    ) {
        let pace = ReadSchedule {
            interval: secs(interval),
            last_began: Some(secs(1000)),
            failures,
            without_set,
            denied,
            first_due: secs(0),
        };
        assert_eq!(pace.next_read(), secs(1000 + pause));
    }

    #[test]
    fn what_a_read_lacked_is_confirmed_five_seconds_after_it_began() {
        assert_eq!(confirm_at(secs(10), secs(11)), secs(15));
        assert_eq!(confirm_at(secs(10), secs(40)), secs(41));
    }

    #[test]
    fn first_reads_are_spread_evenly_over_the_interval_but_at_most_five_minutes() {
        let mut per_minute = [0usize; 5];
        for n in 0..1000 {
            let due = first_read(secs(0), secs(3600), "default", &format!("/app/{n}"));
            per_minute[usize::try_from(due.as_secs() / 60).unwrap()] += 1;
        }
        assert!(per_minute.iter().all(|&reads| (140..260).contains(&reads)), "{per_minute:?}");
        assert!(first_read(secs(0), secs(10), "default", "/app/1") < secs(10));
    }

    #[test]
    fn after_five_heals_in_ten_minutes_one_per_interval_is_left() {
        let mut heals = HealLimiter::default();
        for n in 0..5 {
            assert!(heals.allows(secs(n), secs(60)));
            heals.record(secs(n));
        }
        assert!(!heals.allows(secs(5), secs(60)) && heals.is_contested(secs(5)));
        assert!(heals.allows(secs(64), secs(60)));
        assert!(!heals.is_contested(secs(603)));
    }
}
