//! What an open breaker probes. It does not probe one selection for ever: that one may be the only thing that SSM does
//! not answer, or belong to a deleted mirror, and all other mirrors of the account would wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tracing_mutex::parkinglot::Mutex;

use crate::mirror::selection::Selection;

use super::api::ParameterApi;

/// Maximum candidates of one namespace; the latest ones stay.
const MOST_OF_A_NAMESPACE: usize = 16;

/// What was due to be read while the breaker of one account and region is open.
#[derive(Default)]
pub struct Probes(Mutex<Candidates<Probe>>);

/// A selection to probe, and the client to probe it with.
#[derive(Clone)]
pub struct Probe {
    /// The client of the identity that reads it.
    pub api: Arc<dyn ParameterApi>,
    /// What a mirror selects.
    pub selection: Selection,
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.api, &other.api) && self.selection == other.selection
    }
}

impl Probes {
    /// Notes selections that were due to be read.
    pub fn note(&self, namespace: &Arc<str>, api: &Arc<dyn ParameterApi>, selections: &[Selection]) {
        let mut candidates = self.0.lock();
        for selection in selections.iter().take(MOST_OF_A_NAMESPACE) {
            candidates.note(namespace, Probe { api: Arc::clone(api), selection: selection.clone() });
        }
    }

    /// Returns the next probe.
    pub fn next(&self) -> Option<Probe> {
        self.0.lock().next()
    }

    /// Removes all candidates.
    pub fn clear(&self) {
        let before = std::mem::take(&mut *self.0.lock());
        // Outside the lock: this may drop the last reference to a client.
        drop(before);
    }
}

/// Namespaces take turns, and so do the candidates of each.
struct Candidates<T> {
    by_namespace: BTreeMap<Arc<str>, VecDeque<T>>,
    last: Option<Arc<str>>,
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self { by_namespace: BTreeMap::new(), last: None }
    }
}

impl<T: PartialEq + Clone> Candidates<T> {
    fn note(&mut self, namespace: &Arc<str>, candidate: T) {
        let own = self.by_namespace.entry(Arc::clone(namespace)).or_default();
        if own.contains(&candidate) {
            return;
        }
        if own.len() == MOST_OF_A_NAMESPACE {
            own.pop_front();
        }
        own.push_back(candidate);
    }

    fn next(&mut self) -> Option<T> {
        let after = |last: &Arc<str>| self.by_namespace.keys().find(|namespace| *namespace > last).cloned();
        let namespace = self.last.as_ref().and_then(after);
        let namespace = namespace.or_else(|| self.by_namespace.keys().next().cloned())?;
        let own = self.by_namespace.get_mut(&namespace)?;
        let candidate = own.pop_front()?;
        own.push_back(candidate.clone());
        self.last = Some(namespace);
        Some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(candidates: &mut Candidates<u32>, times: usize) -> Vec<u32> {
        (0..times).filter_map(|_| candidates.next()).collect()
    }

    #[test]
    fn namespaces_take_turns_and_so_does_what_each_wants_read() {
        let mut candidates = Candidates::default();
        assert_eq!(candidates.next(), None);
        let [many, one]: [Arc<str>; 2] = ["many".into(), "one".into()];
        for candidate in [1, 2, 3, 2, 1] {
            candidates.note(&many, candidate);
        }
        candidates.note(&one, 9);
        assert_eq!(asked(&mut candidates, 6), [1, 9, 2, 9, 3, 9]);
        candidates.note(&many, 4);
        assert_eq!(asked(&mut candidates, 8), [1, 9, 2, 9, 3, 9, 4, 9]);
    }

    #[test]
    fn a_namespace_that_wants_much_is_asked_for_its_latest() {
        let mut candidates = Candidates::default();
        let namespace: Arc<str> = "many".into();
        (0..1_000).for_each(|candidate| candidates.note(&namespace, candidate));
        assert_eq!(asked(&mut candidates, 16), (984..1_000).collect::<Vec<u32>>());
    }
}
