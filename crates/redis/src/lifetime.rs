//! When a connection gives way to a successor, so that nobody meets the end that its server has set for it. Pure.

use std::time::Duration;

/// After a successor could not be made, another is tried this much later. The connection goes on meanwhile.
const AGAIN: Duration = Duration::from_mins(1);

/// How long until a successor is tried, for a connection of this age that is meant to be used for a lifetime.
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

    /// A server that ends connections after 12 h, and no credentials in the hour before.
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
