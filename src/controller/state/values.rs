//! The values held in memory, and their bound. Equal values are held once. Above the bound, the operator evicts the values of
//! mirrors that two verified targets hold, largest first, and reads them back from there when it needs them
//! (docs/design/formats.md, "Memory").
#![expect(clippy::disallowed_methods, reason = "compares values, to hold equal ones once")]

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Weak;

use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::Content;
use parameter_mirror_format::value::{Value, WeakValue};
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;
use crate::controller::state::memory_shares::{Claim, OverShare, Used};

/// The values that all mirrors together hold in memory.
pub struct Values {
    /// The bound, in bytes of values.
    bound: usize,
    /// Keyed at random, so that nobody can craft values that collide.
    hasher: RandomState,
    pool: Mutex<Pool>,
    loads: Mutex<Loads>,
}

#[derive(Default)]
struct Pool {
    by_hash: HashMap<u64, Vec<WeakValue>>,
    /// Number of hashes that were left after the last clean-up.
    cleared: usize,
    /// Upper bound of the bytes held: exact after a count, plus everything that came since. A count visits every value, which must
    /// not happen in every reconcile of every mirror.
    at_most: usize,
}

/// What each mirror holds, with the sums, so that a reconcile does not add up the loads of all mirrors.
#[derive(Default)]
struct Loads {
    by_mirror: HashMap<ObjectRef<ParameterMirror>, Load>,
    /// Bytes of all mirrors; a value that several mirrors hold counts for each.
    bytes: usize,
    /// Bytes that cannot be evicted; a value that several mirrors hold counts for each.
    unbacked: Used,
    /// The same with each value counted once; `None` if a load has changed since the last count.
    counted: Option<Used>,
}

/// What one mirror holds.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Bytes of its values.
    pub bytes: usize,
    /// Whether the values can be evicted: both targets of the mirror hold them, verified.
    pub is_backed: bool,
    /// The set, to find out which values are shared.
    pub content: Weak<Content>,
}

impl Values {
    /// Bounds the values to this many bytes, as far as they can be evicted.
    #[must_use]
    pub fn within(bound: usize) -> Self {
        Self { bound, hasher: RandomState::new(), pool: Mutex::default(), loads: Mutex::default() }
    }

    /// Replaces a value by an equal one that is already held.
    pub fn share(&self, value: &mut Value) {
        let hash = self.hasher.hash_one(value.expose());
        let same = self.pool.lock().share(hash, value);
        if let Some(same) = same {
            *value = same;
        }
    }

    /// Returns the bytes of all values held, each counted once.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pool.lock().count()
    }

    /// Records what a mirror holds after a reconcile. Returns the mirrors whose values have to be evicted, perhaps this one among
    /// them.
    pub fn settle(&self, mirror: &ObjectRef<ParameterMirror>, load: Load) -> Vec<ObjectRef<ParameterMirror>> {
        let bytes = self.loads.lock().note(mirror, load);
        if bytes <= self.bound {
            return Vec::new();
        }
        let held = self.pool.lock().held_beyond(self.bound);
        held.map_or_else(Vec::new, |held| self.loads.lock().too_many(held, self.bound))
    }

    /// Judges whether a new set of `values` fits beside everything that cannot be evicted: into the share of the mirror's
    /// namespace, or into the memory that is open to all. The mirror already holds `known` bytes. `namespaces` counts the
    /// namespaces with mirrors.
    pub fn judge<'v>(
        &self,
        mirror: &ObjectRef<ParameterMirror>,
        values: impl Iterator<Item = &'v Value> + Clone,
        known: usize,
        namespaces: impl FnOnce() -> usize,
    ) -> Result<(), OverShare> {
        let bytes: usize = values.clone().map(Value::len).sum();
        let more = bytes.saturating_sub(known);
        let namespace = namespace_of(mirror);
        let claim = Claim { namespace, own: more, total: more };
        if more == 0 || self.loads.lock().unbacked.is_small(claim, self.bound) {
            return Ok(());
        }
        let namespaces = namespaces();
        if self.loads.lock().unbacked.judge(claim, namespaces, self.bound).is_ok() {
            return Ok(());
        }
        let unheld =
            self.pool.lock().unheld(values.map(|value| (self.hasher.hash_one(value.expose()), value)));
        let claim = Claim { total: more.min(unheld), ..claim };
        self.loads.lock().counted().judge(claim, namespaces, self.bound)
    }

    /// Returns the bound in bytes.
    #[must_use]
    pub const fn bound(&self) -> usize {
        self.bound
    }

    /// Records that a mirror no longer holds anything.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.loads.lock().forget(mirror);
    }
}

impl Loads {
    /// Replaces the load of a mirror. Returns the bytes of all mirrors.
    fn note(&mut self, mirror: &ObjectRef<ParameterMirror>, load: Load) -> usize {
        if self.by_mirror.get(mirror).is_none_or(|known| !known.is_same(&load)) {
            self.forget(mirror);
            self.bytes += load.bytes;
            self.unbacked.add(namespace_of(mirror), load.unbacked(), load.unbacked());
            self.by_mirror.insert(mirror.clone(), load);
        }
        self.bytes
    }

    fn forget(&mut self, mirror: &ObjectRef<ParameterMirror>) {
        self.counted = None;
        if let Some(load) = self.by_mirror.remove(mirror) {
            self.bytes -= load.bytes;
            self.unbacked.remove(namespace_of(mirror), load.unbacked());
        }
    }

    /// Returns what cannot be evicted, with each value counted once in each namespace and once in total. It is needed only when the
    /// memory is nearly used up.
    fn counted(&mut self) -> &Used {
        let by_mirror = &self.by_mirror;
        self.counted.get_or_insert_with(|| {
            let (mut used, mut seen, mut seen_by) = (Used::default(), HashSet::new(), HashSet::new());
            for (mirror, load) in by_mirror.iter().filter(|(_, load)| !load.is_backed) {
                let namespace = namespace_of(mirror);
                let Some(content) = load.content.upgrade() else {
                    used.add(namespace, load.bytes, load.bytes);
                    continue;
                };
                for value in content.entries.values().map(|entry| &entry.value) {
                    let place = value.expose().as_ptr();
                    let own = if seen_by.insert((namespace, place)) { value.len() } else { 0 };
                    let total = if seen.insert(place) { value.len() } else { 0 };
                    used.add(namespace, own, total);
                }
            }
            used
        })
    }

    /// Returns the largest mirrors that can be evicted, until the rest is within the bound.
    fn too_many(&self, held: usize, bound: usize) -> Vec<ObjectRef<ParameterMirror>> {
        let backed = self.by_mirror.iter().filter(|(_, load)| load.is_backed && load.bytes > 0);
        let mut backed: Vec<_> = backed.collect();
        backed.sort_by_key(|(_, load)| std::cmp::Reverse(load.bytes));
        let mut excess = held.saturating_sub(bound);
        let mut down = Vec::new();
        for (mirror, load) in backed {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(load.bytes);
            down.push(mirror.clone());
        }
        down
    }
}

impl Load {
    const fn unbacked(&self) -> usize {
        if self.is_backed { 0 } else { self.bytes }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.bytes, self.is_backed) == (other.bytes, other.is_backed) && self.content.ptr_eq(&other.content)
    }
}

fn namespace_of(mirror: &ObjectRef<ParameterMirror>) -> &str {
    mirror.namespace.as_deref().unwrap_or_default()
}

impl Pool {
    /// Returns an equal value that is already held. If there is no such value, this one is held from now on.
    fn share(&mut self, hash: u64, value: &Value) -> Option<Value> {
        self.clear_away();
        let same = self.by_hash.entry(hash).or_default();
        let held = same.iter().filter_map(WeakValue::upgrade).find(|held| held == value);
        if held.is_none() {
            same.push(value.downgrade());
            self.at_most = self.at_most.saturating_add(value.len());
        }
        held
    }

    /// Returns the bytes of those values that are not held yet, each counted once.
    fn unheld<'v>(&self, values: impl Iterator<Item = (u64, &'v Value)>) -> usize {
        let is_held = |hash: u64, value: &Value| {
            let same = self.by_hash.get(&hash).into_iter().flatten();
            same.filter_map(WeakValue::upgrade).any(|held| held == *value)
        };
        let unheld: HashMap<&str, usize> = values
            .filter(|(hash, value)| !is_held(*hash, value))
            .map(|(_, value)| (value.expose(), value.len()))
            .collect();
        unheld.values().sum()
    }

    /// Counts the bytes of all values held, each once.
    fn count(&mut self) -> usize {
        let values = self.by_hash.values().flatten().filter_map(WeakValue::upgrade);
        self.at_most = values.map(|value| value.len()).sum();
        self.at_most
    }

    /// Returns the bytes held if they exceed `bound`. It counts only if the upper bound exceeds it.
    fn held_beyond(&mut self, bound: usize) -> Option<usize> {
        (self.at_most > bound).then(|| self.count()).filter(|held| *held > bound)
    }

    /// Removes what is no longer held, each time the number of hashes has doubled: so the cost per value is constant, and at most
    /// twice what is needed is kept.
    fn clear_away(&mut self) {
        if self.by_hash.len() > 2 * self.cleared.max(1_000) {
            self.by_hash.retain(|_, values| {
                values.retain(|value| value.upgrade().is_some());
                !values.is_empty()
            });
            self.cleared = self.by_hash.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mirror::fixtures::{path, plan, signed};

    fn mirror(name: &str) -> ObjectRef<ParameterMirror> {
        ObjectRef::new(name).within("shop")
    }

    fn load(bytes: usize, is_backed: bool) -> Load {
        Load { bytes, is_backed, ..Load::default() }
    }

    /// Whether a first set with this value has room, with this many namespaces.
    fn has_room(values: &Values, text: &str, namespaces: usize) -> bool {
        values.judge(&mirror("new"), [Value::from(text)].iter(), 0, || namespaces).is_ok()
    }

    /// Returns these texts as values, shared with what is held.
    fn share(values: &Values, texts: &[&str]) -> Vec<Value> {
        texts
            .iter()
            .map(|text| {
                let mut value = Value::from(*text);
                values.share(&mut value);
                value
            })
            .collect()
    }

    #[test]
    fn equal_values_are_held_once_and_those_that_are_gone_not_at_all() {
        let values = Values::within(100);
        let one = share(&values, &["aaaa", "bbbb"]);
        let other = share(&values, &["aaaa", "cc"]);
        assert_eq!(values.held(), 4 + 4 + 2);
        assert!(std::ptr::eq(one[0].expose(), other[0].expose()));
        drop(one);
        assert_eq!(values.held(), 4 + 2);
        drop(other);
        assert_eq!(values.held(), 0);
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind() {
        let values = Values::within(100);
        for number in 0..10_000 {
            share(&values, &[&number.to_string()]);
        }
        assert!(values.pool.lock().by_hash.len() <= 2_001);
    }

    #[test]
    fn the_largest_that_are_backed_go_first() {
        let values = Values::within(10);
        let _held = share(&values, &["123456", "1234", "12345", "12"]);
        assert!(values.settle(&mirror("six, in one target"), load(6, false)).is_empty());
        assert!(values.settle(&mirror("four"), load(4, true)).is_empty());
        values.settle(&mirror("five"), load(5, true));
        assert_eq!(values.settle(&mirror("two"), load(2, true)), [mirror("five"), mirror("four")]);
        values.settle(&mirror("five"), load(0, true));
        values.forget(&mirror("four"));
        assert!(values.settle(&mirror("two"), load(2, true)).is_empty());
    }

    /// Three mirrors with the same values need no more room than one.
    #[test]
    fn shared_values_are_no_excess() {
        let values = Values::within(10);
        let _held = share(&values, &["12345678"]);
        for name in ["a", "b", "c"] {
            assert!(values.settle(&mirror(name), load(8, true)).is_empty());
        }
    }

    #[test]
    fn a_first_set_competes_with_what_cannot_be_evicted() {
        let values = Values::within(10);
        values.settle(&mirror("backed"), load(9, true));
        values.settle(&mirror("alone"), load(4, false));
        assert!(has_room(&values, "123456", 1) && !has_room(&values, "1234567", 1));
        // The values that the mirror already holds need no more room.
        let set = [Value::from("1234567")];
        assert!(values.judge(&mirror("alone"), set.iter(), 4, || 1).is_ok());
    }

    /// Eight mirrors that hold the same eight bytes take eight bytes together, and a ninth adds nothing.
    #[test]
    fn what_several_hold_is_counted_once() {
        let values = Values::within(16);
        let plan = plan(&[path("/app")]);
        let sets: Vec<_> = (0..8)
            .map(|_| {
                let mut set = signed(&plan, &[("/app/a", "12345678")], 1);
                let content = Arc::make_mut(&mut set.content);
                content.entries.values_mut().for_each(|entry| values.share(&mut entry.value));
                set
            })
            .collect();
        for (number, set) in sets.iter().enumerate() {
            let load = Load { bytes: 8, is_backed: false, content: Arc::downgrade(&set.content) };
            values.settle(&mirror(&number.to_string()), load);
        }
        assert!(has_room(&values, "12345678", 1) && has_room(&values, "87654321", 1));
        assert!(!has_room(&values, "123456789", 1));
        // Another namespace has a share of its own.
        let other = ObjectRef::new("b").within("other");
        let judge = |text: &str| values.judge(&other, [Value::from(text)].iter(), 0, || 2);
        assert!(judge("1234").is_ok());
        assert_eq!(judge("123456789"), Err(OverShare { desired: 9, share: 4 }));
    }
}
