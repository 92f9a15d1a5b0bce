//! The circuit breaker: when to stop sending requests to a service that does not answer, and how to begin again. Pure:
//! time is passed in.
//!
//! The breaker decides when to read, never what is served (docs/adr/0017-limiter.md). Only failures that look like an
//! outage count: a denial or a bad request is an answer.

use std::time::Duration;

use crate::mirror::snapshot::{ReadError, ReadErrorKind};

/// Outage-like failures in a row that open the breaker if the first of them was at least [`LONG`] ago.
const FAILURES: u32 = 5;
/// See [`FAILURES`]. In a brown-out in which every second request fails, five failures in a row are common, and with
/// reads that come in waves they span ten or twenty seconds. A row that goes on for a minute means that hardly anything
/// is requested, so little is lost.
const LONG: Duration = Duration::from_mins(1);
/// Outage-like failures in a row that open the breaker however quickly they come: one in a million requests of such a brown-out.
const MANY_FAILURES: u32 = 20;
/// The mean time between two probes of an open breaker; each is jittered by a fifth.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The ramp: requests per second, each until so long after a probe was answered.
const RAMP: [(Duration, u32); 3] =
    [(Duration::from_secs(5), 1), (Duration::from_secs(10), 2), (Duration::from_secs(15), 4)];

/// The breaker of one account and region.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    circuit: Circuit,
    /// Outage-like failures since the last answer.
    failures: u32,
    /// When the first of them occurred.
    failing_since: Duration,
    generation: BreakerGeneration,
}

/// The state of a breaker, as the status of a source shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum BreakerState {
    /// Lets every request through.
    Closed,
    /// Lets only the probe through.
    Open,
    /// Lets a growing number of requests through since a probe was answered.
    HalfOpen,
}

/// Counts the transitions of a breaker. An outcome counts only in the generation in which its request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerGeneration(u64);

impl BreakerState {
    /// Returns the word for the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[derive(Debug, Default)]
enum Circuit {
    #[default]
    Closed,
    Open {
        cause: ReadError,
    },
    /// A probe was answered at `since`, where the ramp begins.
    HalfOpen {
        since: Duration,
    },
}

impl Breaker {
    /// Returns why no request may be sent; `None` if one may.
    pub fn refusal(&self) -> Option<ReadError> {
        let Circuit::Open { cause } = &self.circuit else { return None };
        let detail = format!(
            "{}; after {} such failures in a row only a probe is sent, every {} s",
            cause.detail,
            self.failures,
            PROBE_EVERY.as_secs()
        );
        Some(ReadError { detail, ..cause.clone() })
    }

    /// Returns the generation in which a request is sent now.
    pub const fn generation(&self) -> BreakerGeneration {
        self.generation
    }

    /// Returns the state of the breaker.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.circuit {
            Circuit::Open { .. } => BreakerState::Open,
            Circuit::HalfOpen { .. } if self.allowed_rate(now).is_some() => BreakerState::HalfOpen,
            Circuit::HalfOpen { .. } | Circuit::Closed => BreakerState::Closed,
        }
    }

    /// Returns the requests per second that the ramp allows; `None` if the token bucket alone limits them.
    pub fn allowed_rate(&self, now: Duration) -> Option<u32> {
        let Circuit::HalfOpen { since } = self.circuit else { return None };
        RAMP.iter().find(|(until, _)| now < since + *until).map(|&(_, rate)| rate)
    }

    /// Records the outcome of a request that was sent in `sent_in`. Returns `true` if this opens the breaker: somebody
    /// has to probe from now on.
    ///
    /// A request that was sent before the last transition says nothing about the time since.
    pub fn record(
        &mut self,
        sent_in: BreakerGeneration,
        outcome: Result<(), &ReadError>,
        now: Duration,
    ) -> bool {
        if sent_in != self.generation || outcome.is_err_and(|failure| is_silent_about_ssm(failure.reason)) {
            return false;
        }
        let Some(cause) = outcome.err().filter(|failure| is_outage_like(failure.reason)) else {
            self.failures = 0;
            return false;
        };
        if self.failures == 0 {
            self.failing_since = now;
        }
        self.failures += 1;
        let is_long = now.saturating_sub(self.failing_since) >= LONG;
        let opens = self.failures >= MANY_FAILURES || (self.failures >= FAILURES && is_long);
        if opens {
            self.turn(Circuit::Open { cause: cause.clone() });
        }
        opens
    }

    /// Records the outcome of a probe of an open breaker. Returns `true` if it lets requests through again: whatever is
    /// overdue may be read.
    pub fn record_probe(&mut self, outcome: Result<(), &ReadError>, now: Duration) -> bool {
        match outcome {
            Err(failure) if is_outage_like(failure.reason) => {
                self.circuit = Circuit::Open { cause: failure.clone() };
                false
            }
            Err(failure) if is_silent_about_ssm(failure.reason) => false,
            _ => {
                self.failures = 0;
                self.turn(Circuit::HalfOpen { since: now });
                true
            }
        }
    }

    fn turn(&mut self, circuit: Circuit) {
        self.circuit = circuit;
        self.generation.0 += 1;
    }
}

/// Failures that many callers share, and that more requests make worse.
const fn is_outage_like(reason: ReadErrorKind) -> bool {
    matches!(reason, ReadErrorKind::SourceUnavailable | ReadErrorKind::Timeout | ReadErrorKind::Throttled)
}

/// Failures before SSM was reached: neither an outage nor an answer of SSM.
const fn is_silent_about_ssm(reason: ReadErrorKind) -> bool {
    matches!(reason, ReadErrorKind::CredentialsUnavailable)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn failure(reason: ReadErrorKind) -> ReadError {
        ReadError::new(reason, "HTTP 500")
    }

    fn succeed(breaker: &mut Breaker, now: Duration) {
        assert!(!breaker.record(breaker.generation(), Ok(()), now));
    }

    /// Records so many failures, and returns whether the last one opened the breaker.
    fn fail(breaker: &mut Breaker, reason: ReadErrorKind, times: u32, now: Duration) -> bool {
        let mut record = || breaker.record(breaker.generation(), Err(&failure(reason)), now);
        (0..times).map(|_| record()).last().unwrap_or(false)
    }

    #[rstest]
    #[case::errors(ReadErrorKind::SourceUnavailable, true)]
    #[case::silence(ReadErrorKind::Timeout, true)]
    #[case::throttling(ReadErrorKind::Throttled, true)]
    #[case::denial(ReadErrorKind::AccessDenied, false)]
    #[case::kms(ReadErrorKind::KmsUnavailable, false)]
    #[case::bad_input(ReadErrorKind::InvalidResponse, false)]
    #[case::credentials(ReadErrorKind::CredentialsUnavailable, false)]
    fn outage_like_failures_open_it(#[case] reason: ReadErrorKind, #[case] opens: bool) {
        let mut breaker = Breaker::default();
        assert!(!fail(&mut breaker, reason, 19, secs(0)));
        assert_eq!(fail(&mut breaker, reason, 1, secs(0)), opens);
        assert_eq!(breaker.state(secs(0)) == BreakerState::Open, opens);
        assert_eq!(breaker.refusal().map(|refusal| refusal.reason), opens.then_some(reason));
    }

    /// The time without requests before the first failure does not count.
    #[test]
    fn five_failures_over_a_minute_open_it_and_twenty_at_once() {
        let after = |failures: u32, seconds: u64| {
            let mut breaker = Breaker::default();
            succeed(&mut breaker, secs(0));
            assert!(!fail(&mut breaker, ReadErrorKind::Timeout, failures - 1, secs(100)));
            fail(&mut breaker, ReadErrorKind::Timeout, 1, secs(100 + seconds))
        };
        assert_eq!([after(5, 59), after(5, 60), after(4, 60)], [false, true, false]);
        assert_eq!([after(19, 0), after(20, 0)], [false, true]);
    }

    #[test]
    fn an_answer_resets_the_count_and_missing_credentials_do_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, ReadErrorKind::Timeout, 4, secs(0));
        fail(&mut breaker, ReadErrorKind::AccessDenied, 1, secs(0));
        assert!(!fail(&mut breaker, ReadErrorKind::Timeout, 4, secs(60)));
        fail(&mut breaker, ReadErrorKind::CredentialsUnavailable, 1, secs(120));
        assert!(fail(&mut breaker, ReadErrorKind::Timeout, 1, secs(120)));
    }

    #[test]
    fn only_a_probe_closes_it_and_requests_ramp_up() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, ReadErrorKind::Timeout, 20, secs(0));
        assert!(!breaker.record_probe(Err(&failure(ReadErrorKind::SourceUnavailable)), secs(30)));
        assert_eq!(
            breaker.refusal().unwrap().reason,
            ReadErrorKind::SourceUnavailable,
            "the latest cause counts"
        );
        assert!(!breaker.record_probe(Err(&failure(ReadErrorKind::CredentialsUnavailable)), secs(60)));
        assert_eq!(breaker.state(secs(89)), BreakerState::Open);
        assert!(
            breaker.record_probe(Err(&failure(ReadErrorKind::AccessDenied)), secs(90)),
            "a denial is an answer"
        );
        assert_eq!(breaker.state(secs(104)), BreakerState::HalfOpen);
        assert_eq!(breaker.state(secs(105)), BreakerState::Closed);
        let rate = |at| breaker.allowed_rate(secs(at));
        assert_eq!([rate(90), rate(95), rate(100), rate(105)], [Some(1), Some(2), Some(4), None]);
    }

    /// A request can be under way for 20 s. One that SSM answered before it fell silent says nothing about now.
    #[test]
    fn outcomes_of_requests_sent_before_a_transition_do_not_count() {
        let mut breaker = Breaker::default();
        let sent_while_closed = breaker.generation();
        fail(&mut breaker, ReadErrorKind::Timeout, 20, secs(20));
        breaker.record(sent_while_closed, Ok(()), secs(21));
        assert_eq!(breaker.state(secs(21)), BreakerState::Open, "an old answer does not close it");
        let sent_while_open = breaker.generation();
        assert!(breaker.record_probe(Ok(()), secs(50)));
        for _ in 0..100 {
            assert!(!breaker.record(sent_while_closed, Err(&failure(ReadErrorKind::Timeout)), secs(51)));
            assert!(!breaker.record(sent_while_open, Err(&failure(ReadErrorKind::Timeout)), secs(51)));
        }
        assert_eq!(breaker.state(secs(51)), BreakerState::HalfOpen, "old failures do not open it");
        assert!(!fail(&mut breaker, ReadErrorKind::Timeout, 4, secs(51)));
        breaker.record(sent_while_closed, Ok(()), secs(111));
        assert!(
            fail(&mut breaker, ReadErrorKind::Timeout, 1, secs(111)),
            "an old answer does not reset the count"
        );
    }

    /// A relapse opens the breaker after twenty requests: at the rate of the ramp, within eleven seconds.
    #[test]
    fn a_relapse_opens_it_and_a_failure_in_between_does_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, ReadErrorKind::Timeout, 20, secs(0));
        breaker.record_probe(Ok(()), secs(30));
        assert!(!fail(&mut breaker, ReadErrorKind::Timeout, 15, secs(40)));
        succeed(&mut breaker, secs(40));
        assert_eq!(breaker.state(secs(40)), BreakerState::HalfOpen);
        assert!(!fail(&mut breaker, ReadErrorKind::Timeout, 19, secs(41)));
        assert!(fail(&mut breaker, ReadErrorKind::Timeout, 1, secs(41)));
    }
}
