//! Counts new mirrors whose first values no target holds yet. While many wait, statuses give way to values: of the work that a new
//! mirror causes at the API server, its status is the larger part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many are what a busy moment brings: they are published within a few milliseconds.
const FEW: usize = 8;

/// Counts first values that have been read and are not published yet.
#[derive(Clone, Debug, Default)]
pub struct Unpublished(Arc<AtomicUsize>);

/// First values of one mirror, from their read until their reconcile ends.
#[derive(Debug)]
pub struct FirstValues(Unpublished);

impl Unpublished {
    /// One more has been read.
    #[must_use]
    pub fn one_more(&self) -> FirstValues {
        self.0.fetch_add(1, Ordering::Relaxed);
        FirstValues(self.clone())
    }

    /// Whether so many wait that others should let them pass.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > FEW
    }
}

impl Drop for FirstValues {
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
