//! Decides when a connection is replaced, so that no operation meets the time limit the server sets for
//! connections. Pure.

use std::time::Duration;

/// The retry interval when a successor could not be opened. The old connection keeps serving meanwhile.
const AGAIN: Duration = Duration::from_mins(1);

/// Returns how long to wait before opening a successor, given the age and the lifetime of a connection.
pub(crate) fn until_successor(age: Duration, lifetime: Duration) -> Duration {
    let left = lifetime.saturating_sub(age);
    if left.is_zero() { AGAIN } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_successor_is_tried_at_the_end_of_a_lifetime_and_each_minute_from_then_on() {
        assert_eq!(until_successor(Duration::ZERO, 11 * HOUR), 11 * HOUR);
        assert_eq!(until_successor(10 * HOUR, 11 * HOUR), HOUR);
        assert_eq!(until_successor(11 * HOUR, 11 * HOUR), AGAIN);
        assert_eq!(until_successor(12 * HOUR, 11 * HOUR), AGAIN);
    }

    /// A server that closes connections after 12 h, and no credentials in the last hour before that.
    #[test]
    fn many_attempts_fit_between_a_lifetime_and_the_end() {
        let (mut age, mut attempts) = (Duration::ZERO, 0);
        loop {
            age += until_successor(age, 11 * HOUR);
            if age >= 12 * HOUR {
                break;
            }
            attempts += 1;
        }
        assert_eq!(attempts, 60);
    }
}
