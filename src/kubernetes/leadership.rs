//! The right to write: one unbroken time of leadership (docs/design/formats.md, "Copies", rule 6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How much earlier than others may take over a leader stops: a write that has just been sent still arrives in time.
pub const MARGIN: Duration = Duration::from_secs(2);

/// One term. Once it is lost it never comes back; the next one is another, with other states.
#[derive(Clone, Debug)]
pub struct Term(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    /// When the last renewal was asked for that was granted, on the clock that counts suspension.
    renewed: AtomicU64,
    lasts: Duration,
    lost: CancellationToken,
    clock: Clock,
}

impl Term {
    /// As long as the process lives: there is no other one.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// From `since`, a time of [`Clock::boottime`], for `lasts` unless it is renewed.
    #[must_use]
    pub fn limited(since: Duration, lasts: Duration, clock: Clock) -> Self {
        let renewed = AtomicU64::new(millis(since));
        Self(Some(Arc::new(Limited { renewed, lasts, lost: CancellationToken::new(), clock })))
    }

    /// Whether anything may be written. Asked right before each write, because the process may have been stopped since.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Some(term) = &self.0 else { return true };
        let ends = term.renewed.load(Ordering::Acquire) + millis(term.lasts.saturating_sub(MARGIN));
        let held = !term.lost.is_cancelled() && millis(term.clock.boottime()) < ends;
        if !held {
            // Not even a renewal brings it back: others may have been in office between.
            term.lost.cancel();
        }
        held
    }

    /// The leader was confirmed; it had asked at `since`. Nothing happens to a term that is lost.
    pub fn renew(&self, since: Duration) {
        if let Some(term) = self.0.as_ref().filter(|_| self.is_valid()) {
            term.renewed.fetch_max(millis(since), Ordering::AcqRel);
        }
    }

    /// Ends it.
    pub fn revoke(&self) {
        if let Some(term) = &self.0 {
            term.lost.cancel();
        }
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        match &self.0 {
            Some(term) => term.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_term_ends_before_others_may_take_over_and_never_comes_back() {
        let clock = Clock::with_wall(|| jiff::Timestamp::UNIX_EPOCH);
        let term = Term::limited(clock.boottime(), LASTS, clock.clone());
        tokio::time::advance(Duration::from_millis(12_999)).await;
        assert!(term.is_valid());
        term.renew(Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(term.is_valid(), "renewed");
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert!(!term.is_valid(), "the renewal counts from when it was asked for");
        term.renew(clock.boottime());
        assert!(!term.is_valid(), "somebody else may have been in office");
        term.lost().await;
        assert!(Term::unlimited().is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_given_up_is_over() {
        let clock = Clock::with_wall(|| jiff::Timestamp::UNIX_EPOCH);
        let term = Term::limited(clock.boottime(), LASTS, clock);
        let same = term.clone();
        term.revoke();
        assert!(!same.is_valid());
    }
}
