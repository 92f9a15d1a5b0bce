//! Requests per second as a token bucket. Pure: time and the rate that applies are passed in.

use std::time::Duration;

/// A bucket that holds at most one second's worth of tokens. One token is the permission for one request.
#[derive(Debug)]
pub struct TokenBucket {
    tokens: f64,
    refilled_at: Duration,
}

impl TokenBucket {
    /// A full bucket for `rate` requests per second.
    pub const fn full(rate: f64) -> Self {
        Self { tokens: rate, refilled_at: Duration::ZERO }
    }

    /// Adds the tokens that have accrued since the last call, at `rate` per second. A lower rate than before also
    /// lowers what the bucket holds.
    pub fn refill(&mut self, rate: f64, now: Duration) {
        let gained = now.saturating_sub(self.refilled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate);
        self.refilled_at = self.refilled_at.max(now);
    }

    /// Takes one token; `false` if there is none.
    pub fn take(&mut self) -> bool {
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }

    /// Gives back a token that was not used.
    pub fn give_back(&mut self) {
        self.tokens += 1.0;
    }

    /// Returns how long until there is a token, at `rate` per second; at least a millisecond, so that a caller cannot spin.
    pub fn until_next(&self, rate: f64) -> Duration {
        Duration::from_secs_f64(((1.0 - self.tokens) / rate).max(0.001))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn take_all(bucket: &mut TokenBucket) -> usize {
        std::iter::from_fn(|| bucket.take().then_some(())).count()
    }

    #[test]
    fn holds_one_second_of_requests_and_refills_at_the_rate() {
        let mut bucket = TokenBucket::full(10.0);
        assert_eq!(take_all(&mut bucket), 10);
        assert_eq!(bucket.until_next(10.0), Duration::from_millis(100));
        bucket.refill(10.0, Duration::from_millis(500));
        assert_eq!(take_all(&mut bucket), 5);
        bucket.refill(10.0, secs(60));
        assert_eq!(take_all(&mut bucket), 10, "no more than a second's worth");
        bucket.give_back();
        assert!(bucket.take() && !bucket.take());
    }

    #[test]
    fn a_lower_rate_counts_at_once_and_time_never_runs_back() {
        let mut bucket = TokenBucket::full(10.0);
        bucket.refill(2.0, secs(1));
        assert_eq!(take_all(&mut bucket), 2);
        bucket.refill(2.0, secs(2));
        bucket.refill(2.0, secs(1));
        bucket.refill(2.0, secs(2));
        assert_eq!(take_all(&mut bucket), 2, "the second was counted once");
    }
}
