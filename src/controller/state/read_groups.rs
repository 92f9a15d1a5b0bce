//! Groups of mirrors that read the same. When one of them begins a read, the others that are nearly due read with it, so that one
//! request serves all of them (docs/design/formats.md, "Two rhythms").

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;
use crate::mirror::plan::Plan;
use crate::mirror::schedule;
use crate::mirror::selection::Asked;

/// What is read and from where: the name of the source, and the request to SSM.
type ReadKey = (String, Asked);

/// From when on each mirror may be read again, by what it reads.
#[derive(Default)]
pub struct ReadGroups(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Uptime from which each mirror may be read again.
    open_from: HashMap<ReadKey, HashMap<ObjectRef<ParameterMirror>, Duration>>,
    parts: HashMap<ObjectRef<ParameterMirror>, BTreeSet<ReadKey>>,
    triggered: HashSet<ObjectRef<ParameterMirror>>,
}

impl ReadGroups {
    /// Records that a read of this mirror begins. Returns the peers that read with it; they are due now.
    pub fn begins(
        &self,
        mirror: &ObjectRef<ParameterMirror>,
        plan: &Plan,
        now: Duration,
    ) -> Vec<ObjectRef<ParameterMirror>> {
        let parts: BTreeSet<ReadKey> =
            plan.selections.iter().map(|one| (plan.source_name.clone(), one.asked())).collect();
        let may_read_from = schedule::may_read_from(now, plan.interval);
        self.0.lock().begins(mirror, parts, now, may_read_from)
    }

    /// Whether the read of a peer has triggered a read of this mirror.
    #[must_use]
    pub fn is_triggered(&self, mirror: &ObjectRef<ParameterMirror>) -> bool {
        self.0.lock().triggered.contains(mirror)
    }

    /// Forgets a mirror that no longer exists.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.0.lock().forget(mirror);
    }
}

impl Inner {
    fn begins(
        &mut self,
        mirror: &ObjectRef<ParameterMirror>,
        parts: BTreeSet<ReadKey>,
        now: Duration,
        may_read_from: Duration,
    ) -> Vec<ObjectRef<ParameterMirror>> {
        self.forget(mirror);
        let mut peers = HashSet::new();
        for part in &parts {
            let readers = self.open_from.entry(part.clone()).or_default();
            peers.extend(readers.iter().filter(|(_, open)| **open <= now).map(|(mirror, _)| mirror.clone()));
            readers.insert(mirror.clone(), may_read_from);
        }
        self.parts.insert(mirror.clone(), parts);
        peers.into_iter().filter(|one| self.triggered.insert(one.clone())).collect()
    }

    fn forget(&mut self, mirror: &ObjectRef<ParameterMirror>) {
        self.triggered.remove(mirror);
        for part in self.parts.remove(mirror).unwrap_or_default() {
            if let Some(readers) = self.open_from.get_mut(&part) {
                readers.remove(mirror);
                if readers.is_empty() {
                    self.open_from.remove(&part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::fixtures::{name, path, plan};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn mirror(name: &str) -> ObjectRef<ParameterMirror> {
        ObjectRef::new(name).within("shop")
    }

    /// The interval of the samples is five minutes, so the window opens after 270 s.
    #[test]
    fn who_reads_the_same_is_called_once_its_window_is_open() {
        let steps = ReadGroups::default();
        let shared = plan(&[path("/app/shared")]);
        assert!(steps.begins(&mirror("a"), &shared, secs(0)).is_empty());
        assert!(steps.begins(&mirror("b"), &shared, secs(29)).is_empty());
        assert!(steps.begins(&mirror("c"), &plan(&[path("/app/other")]), secs(0)).is_empty());
        assert_eq!(steps.begins(&mirror("b"), &shared, secs(299)), [mirror("a")]);
        assert!(steps.is_triggered(&mirror("a")) && !steps.is_triggered(&mirror("b")));
        // The read of `a` has begun too. From now on, both read together.
        assert!(steps.begins(&mirror("a"), &shared, secs(299)).is_empty());
        assert!(!steps.is_triggered(&mirror("a")));
        assert_eq!(steps.begins(&mirror("a"), &shared, secs(599)), [mirror("b")]);
    }

    #[test]
    fn nobody_is_called_twice_for_one_read() {
        let steps = ReadGroups::default();
        let both = plan(&[path("/app/shared"), name("/app/other/x")]);
        for one in ["a", "b", "c"] {
            steps.begins(&mirror(one), &both, secs(0));
        }
        assert_eq!(steps.begins(&mirror("a"), &both, secs(300)).len(), 2);
        assert!(steps.begins(&mirror("b"), &both, secs(300)).is_empty(), "c has been called");
    }

    /// Keys, excludes and `optional` do not change the request to SSM.
    #[test]
    fn one_selection_of_several_is_enough_and_its_looks_do_not_matter() {
        let steps = ReadGroups::default();
        let keyed = crate::api::SelectionSpec { key: Some("KEY".to_owned()), ..name("/app/shared/x") };
        steps.begins(&mirror("a"), &plan(&[keyed, path("/app/a")]), secs(0));
        assert_eq!(
            steps.begins(&mirror("b"), &plan(&[path("/app/b"), name("/app/shared/x")]), secs(300)),
            [mirror("a")]
        );
    }

    #[test]
    fn who_is_gone_is_not_called() {
        let steps = ReadGroups::default();
        let shared = plan(&[path("/app/shared")]);
        steps.begins(&mirror("a"), &shared, secs(0));
        steps.forget(&mirror("a"));
        assert!(steps.begins(&mirror("b"), &shared, secs(300)).is_empty());
        assert_eq!(steps.0.lock().open_from.len(), 1);
    }
}
