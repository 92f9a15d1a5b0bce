//! When to stop asking a service that does not answer, and how to begin again. Pure: time is passed in.
//!
//! It decides when to read, never what is served (design.md, "Reading SSM"). Only failures that look like an outage
//! count: a denial or a bad request is an answer.

use std::time::Duration;

use crate::mirror::reading::{ReadFailure, SourceReason};

/// Outage-like failures in a row until nothing is asked any more.
pub const FAILURES: u32 = 5;
/// How often a closed door is knocked at, give or take a fifth.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);
/// After a probe was answered: requests per second until so long after it.
pub const RAMP: [(Duration, u32); 3] =
    [(Duration::from_secs(5), 1), (Duration::from_secs(10), 2), (Duration::from_secs(15), 4)];

/// The breaker of one account and region.
#[derive(Debug)]
pub struct Breaker(State);

/// What a breaker does, as people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything is asked.
    Closed,
    /// Only the probe is.
    Open,
    /// A probe was answered a moment ago; more and more is asked.
    Recovering,
}

impl Phase {
    /// As a status has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open => "Open",
            Self::Recovering => "Recovering",
        }
    }
}

#[derive(Debug)]
enum State {
    /// Everything is asked; so many outage-like failures stand at the end.
    Closed { failures: u32 },
    /// Nothing is asked but the probe.
    Open { cause: ReadFailure },
    /// A probe was answered then.
    Ramping { since: Duration },
}

impl Default for Breaker {
    fn default() -> Self {
        Self(State::Closed { failures: 0 })
    }
}

impl Breaker {
    /// Why nothing may be asked now; `None` if it may.
    #[must_use]
    pub fn refusal(&self) -> Option<ReadFailure> {
        let State::Open { cause } = &self.0 else { return None };
        let detail = format!(
            "{}; after {FAILURES} such failures in a row only a probe is sent, every {} s",
            cause.detail,
            PROBE_EVERY.as_secs()
        );
        Some(ReadFailure { detail, ..cause.clone() })
    }

    /// What it does now.
    #[must_use]
    pub fn phase(&self, now: Duration) -> Phase {
        match self.0 {
            State::Open { .. } => Phase::Open,
            State::Ramping { .. } if self.ramp(now).is_some() => Phase::Recovering,
            State::Ramping { .. } | State::Closed { .. } => Phase::Closed,
        }
    }

    /// Requests per second that are allowed besides the budget; `None` if the budget alone counts.
    #[must_use]
    pub fn ramp(&self, now: Duration) -> Option<u32> {
        let State::Ramping { since } = self.0 else { return None };
        RAMP.iter().find(|(until, _)| now < since + *until).map(|&(_, rate)| rate)
    }

    /// An operation has ended. `true` if this opens the breaker: somebody has to probe from now on.
    pub fn record(&mut self, outcome: Result<(), &ReadFailure>, now: Duration) -> bool {
        let outage = outcome.err().filter(|failure| is_outage_like(failure.reason));
        match (&mut self.0, outage) {
            // Calls that were under way when it opened, or say nothing about the service.
            (State::Open { .. }, _) => false,
            (_, None) if outcome.is_err_and(|failure| says_nothing(failure.reason)) => false,
            (State::Closed { failures }, Some(cause)) => {
                *failures += 1;
                *failures >= FAILURES && self.open(cause)
            }
            (State::Ramping { since }, Some(cause)) if now < *since + RAMP[RAMP.len() - 1].0 => {
                self.open(cause)
            }
            (State::Ramping { .. }, Some(_)) => {
                self.0 = State::Closed { failures: 1 };
                false
            }
            (State::Closed { failures }, None) => {
                *failures = 0;
                false
            }
            (State::Ramping { .. }, None) => false,
        }
    }

    /// A probe has ended. `true` if this closes the breaker: whatever is overdue may be read.
    pub fn probed(&mut self, outcome: Result<(), &ReadFailure>, now: Duration) -> bool {
        match outcome {
            Err(failure) if is_outage_like(failure.reason) => {
                self.0 = State::Open { cause: failure.clone() };
                false
            }
            Err(failure) if says_nothing(failure.reason) => false,
            _ => {
                self.0 = State::Ramping { since: now };
                true
            }
        }
    }

    fn open(&mut self, cause: &ReadFailure) -> bool {
        self.0 = State::Open { cause: cause.clone() };
        true
    }
}

/// Failures that many callers share, and that more calls make worse.
const fn is_outage_like(reason: SourceReason) -> bool {
    matches!(reason, SourceReason::SourceUnavailable | SourceReason::Timeout | SourceReason::Throttled)
}

/// Failures before SSM was reached: neither its outage nor its answer.
const fn says_nothing(reason: SourceReason) -> bool {
    matches!(reason, SourceReason::CredentialsUnavailable)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn failure(reason: SourceReason) -> ReadFailure {
        ReadFailure::new(reason, "HTTP 500")
    }

    /// Records so many failures; whether the last one opened it.
    fn fail(breaker: &mut Breaker, reason: SourceReason, times: u32, now: Duration) -> bool {
        (0..times).map(|_| breaker.record(Err(&failure(reason)), now)).last().unwrap_or(false)
    }

    #[rstest]
    #[case::errors(SourceReason::SourceUnavailable, true)]
    #[case::silence(SourceReason::Timeout, true)]
    #[case::throttling(SourceReason::Throttled, true)]
    #[case::denial(SourceReason::AccessDenied, false)]
    #[case::kms(SourceReason::KmsUnavailable, false)]
    #[case::bad_input(SourceReason::InvalidResponse, false)]
    #[case::credentials(SourceReason::CredentialsUnavailable, false)]
    fn five_outage_like_failures_in_a_row_open_it(#[case] reason: SourceReason, #[case] opens: bool) {
        let mut breaker = Breaker::default();
        assert!(!fail(&mut breaker, reason, 4, secs(0)));
        assert_eq!(fail(&mut breaker, reason, 1, secs(0)), opens);
        assert_eq!(breaker.phase(secs(0)) == Phase::Open, opens);
        assert_eq!(breaker.refusal().map(|refusal| refusal.reason), opens.then_some(reason));
    }

    #[test]
    fn an_answer_in_between_begins_the_count_again_and_missing_credentials_do_not() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, SourceReason::Timeout, 4, secs(0));
        breaker.record(Err(&failure(SourceReason::AccessDenied)), secs(0));
        assert!(!fail(&mut breaker, SourceReason::Timeout, 4, secs(0)));
        breaker.record(Err(&failure(SourceReason::CredentialsUnavailable)), secs(0));
        assert!(fail(&mut breaker, SourceReason::Timeout, 1, secs(0)));
    }

    #[test]
    fn only_a_probe_closes_it_and_calls_begin_slowly() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, SourceReason::Timeout, 5, secs(0));
        breaker.record(Ok(()), secs(1));
        assert_eq!(breaker.phase(secs(0)), Phase::Open, "a call that was under way closed it");
        assert!(!breaker.probed(Err(&failure(SourceReason::SourceUnavailable)), secs(30)));
        assert_eq!(
            breaker.refusal().unwrap().reason,
            SourceReason::SourceUnavailable,
            "the latest cause counts"
        );
        assert!(!breaker.probed(Err(&failure(SourceReason::CredentialsUnavailable)), secs(60)));
        assert!(breaker.probed(Err(&failure(SourceReason::AccessDenied)), secs(90)), "a denial is an answer");
        let ramp = |at| breaker.ramp(secs(at));
        assert_eq!([ramp(90), ramp(95), ramp(100), ramp(105)], [Some(1), Some(2), Some(4), None]);
    }

    #[test]
    fn a_relapse_while_it_ramps_opens_it_at_once_and_later_it_takes_five() {
        let relapse = |at: u64| {
            let mut breaker = Breaker::default();
            fail(&mut breaker, SourceReason::Timeout, 5, secs(0));
            breaker.probed(Ok(()), secs(30));
            breaker.record(Ok(()), secs(31));
            (1..=10).find(|_| breaker.record(Err(&failure(SourceReason::Timeout)), secs(at)))
        };
        assert_eq!((relapse(40), relapse(60)), (Some(1), Some(5)));
    }
}
