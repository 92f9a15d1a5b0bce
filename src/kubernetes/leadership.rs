//! The right to write: one unbroken term of leadership (docs/design/formats.md, "Copies", rule 6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use parameter_mirror_clock::Clock;

/// How long before others may acquire the lease the leader stops writing: a write that was sent just before still arrives in time.
pub const MARGIN: Duration = Duration::from_secs(2);

/// One term. Once lost, it never becomes valid again; the next term is another one, with other state.
#[derive(Clone, Debug)]
pub struct Term(Option<Arc<Limited>>);

#[derive(Debug)]
struct Limited {
    /// When the latest successful renewal was requested, on the clock that counts suspension.
    renewed: AtomicU64,
    lasts: Duration,
    lost: CancellationToken,
    clock: Clock,
}

impl Term {
    /// A term that lasts as long as the process, because there is no other operator.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// A term from `since`, a time of [`Clock::boottime`], for `lasts` unless it is renewed.
    #[must_use]
    pub fn limited(since: Duration, lasts: Duration, clock: Clock) -> Self {
        let renewed = AtomicU64::new(millis(since));
        Self(Some(Arc::new(Limited { renewed, lasts, lost: CancellationToken::new(), clock })))
    }

    /// Whether the operator may write. Checked right before each write, because the process may have been suspended since.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Some(term) = &self.0 else { return true };
        let ends = term.renewed.load(Ordering::Acquire) + millis(term.lasts.saturating_sub(MARGIN));
        let held = !term.lost.is_cancelled() && millis(term.clock.boottime()) < ends;
        if !held {
            // Not even a renewal makes it valid again: another operator may have led in between.
            term.lost.cancel();
        }
        held
    }

    /// Renews the term: the leader was confirmed by a request sent at `since`. A lost term stays lost.
    pub fn renew(&self, since: Duration) {
        if let Some(term) = self.0.as_ref().filter(|_| self.is_valid()) {
            term.renewed.fetch_max(millis(since), Ordering::AcqRel);
        }
    }

    /// Ends the term.
    pub fn revoke(&self) {
        if let Some(term) = &self.0 {
            term.lost.cancel();
        }
    }

    /// Waits until the term is lost.
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
