//! When credentials are fetched, and until when they are used. Pure: both clocks are passed in.
//!
//! The wall clock decides when credentials expire, because AWS dates their expiry. Everything that waits uses the clock
//! of the process. Pauses vary by a fifth: the caller adds the jitter.

use std::time::{Duration, SystemTime};

/// The pause after the first failure. The failure is remembered, and every caller gets it.
const FIRST_PAUSE: Duration = Duration::from_millis(12_500);
/// The pause after further failures in a row.
const NEXT_PAUSE: Duration = Duration::from_secs(25);
/// The longest pause while the held credentials still work.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How often credentials without expiry are fetched again: somebody may have replaced them.
const STATIC: Duration = Duration::from_hours(1);
/// Credentials that were not used for so long are not refreshed: their source is gone. The longest interval of a mirror is 24 h.
const UNUSED: Duration = Duration::from_hours(25);

/// How long after a fetch no demand triggers another one: after the first and after further failures in a row, and
/// after a success too, because new keys may be refused as well as the old ones.
#[must_use]
pub fn demand_pause(failures: u32) -> Duration {
    if failures <= 1 { FIRST_PAUSE } else { NEXT_PAUSE }
}

/// How long credentials with this expiry (`None`: they have none) still work.
#[must_use]
pub fn left(expires: Option<SystemTime>, now: SystemTime) -> Duration {
    expires.map_or(Duration::MAX, |expires| expires.duration_since(now).unwrap_or_default())
}

/// How long after they were obtained credentials are refreshed: half of what is left of them.
#[must_use]
pub fn refresh_after(left: Duration) -> Duration {
    if left == Duration::MAX { STATIC } else { (left / 2).max(FIRST_PAUSE) }
}

/// How long after a failed fetch the next one is tried without demand. While the old credentials work there is time: a
/// tenth of what is left of them, so that attempts come closer together towards their expiry.
#[must_use]
pub fn retry_after(failures: u32, left: Duration) -> Duration {
    if left.is_zero() { demand_pause(failures) } else { (left / 10).clamp(NEXT_PAUSE, LONGEST_PAUSE) }
}

/// Whether credentials that were last used so long ago are still refreshed.
#[must_use]
pub fn is_in_use(unused: Duration) -> bool {
    unused < UNUSED
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(secs: u64) -> SystemTime {
        NOW + Duration::from_secs(secs)
    }

    #[test]
    fn credentials_are_used_to_their_very_end() {
        assert_eq!(left(Some(at(1)), NOW), Duration::from_secs(1));
        assert_eq!(left(Some(at(1)), at(1)), Duration::ZERO);
        assert_eq!(left(Some(at(1)), at(2)), Duration::ZERO);
        assert_eq!(left(None, at(2)), Duration::MAX);
    }

    #[rstest]
    #[case::an_hour(Duration::from_hours(1), 1_800_000)]
    #[case::nearly_over(Duration::from_secs(10), 12_500)]
    #[case::without_end(Duration::MAX, 3_600_000)]
    fn they_are_fetched_again_at_half_of_their_life(#[case] left: Duration, #[case] millis: u64) {
        assert_eq!(refresh_after(left), Duration::from_millis(millis));
    }

    #[rstest]
    #[case::none(1, Duration::ZERO, 12_500)]
    #[case::none_again(2, Duration::ZERO, 25_000)]
    #[case::none_for_long(1_000, Duration::ZERO, 25_000)]
    #[case::half_an_hour_left(1, Duration::from_mins(30), 180_000)]
    #[case::half_a_day_left(1, Duration::from_hours(12), 300_000)]
    #[case::a_minute_left(9, Duration::from_mins(1), 25_000)]
    #[case::without_end(1, Duration::MAX, 300_000)]
    fn after_a_failure_there_is_time_while_the_old_ones_work(
        #[case] failures: u32,
        #[case] left: Duration,
        #[case] millis: u64,
    ) {
        assert_eq!(retry_after(failures, left), Duration::from_millis(millis));
    }

    /// Counts the fetches for an hour's credentials whose STS is down from their half until they expire.
    #[test]
    fn an_sts_that_is_down_is_not_hammered() {
        let (end, mut now, mut asked) = (Some(at(3_600)), at(1_800), 0);
        while !left(end, now).is_zero() {
            asked += 1;
            now += retry_after(asked, left(end, now));
        }
        assert!((10..40).contains(&asked), "{asked}");
    }

    #[test]
    fn what_no_mirror_can_need_any_more_is_not_kept_fresh() {
        assert!(is_in_use(Duration::from_hours(24)) && !is_in_use(Duration::from_hours(25)));
    }
}
