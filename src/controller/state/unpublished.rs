//! Counts new mirrors whose first values no target holds yet. While many of them wait, status writes give way to values: the status
//! is the larger part of what a new mirror costs the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A busy moment brings up to this many, which are published within a few milliseconds.
const FEW: usize = 8;

/// Counts first values that have been read and are not published yet.
#[derive(Clone, Debug, Default)]
pub struct Unpublished(Arc<AtomicUsize>);

/// The first values of one mirror, counted from their read until their reconcile ends.
#[derive(Debug)]
pub struct UnpublishedGuard(Unpublished);

impl Unpublished {
    /// Counts first values that have been read, until the returned guard is dropped.
    #[must_use]
    pub fn one_more(&self) -> UnpublishedGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnpublishedGuard(self.clone())
    }

    /// Whether so many first values wait that other writes should give way.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > FEW
    }
}

impl Drop for UnpublishedGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_wait_until_they_are_dropped() {
        let unpublished = Unpublished::default();
        let mut waiting: Vec<_> = (0..=FEW).map(|_| unpublished.one_more()).collect();
        assert!(unpublished.are_many());
        waiting.pop();
        assert!(!unpublished.are_many());
    }
}
