//! How many values are held in memory. Equal values are held once; above the bound the values of mirrors that two verified
//! targets hold are put down, largest first, and fetched from there when they are needed (docs/design/formats.md, "Memory").

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

/// What all mirrors together hold in memory.
pub struct Values {
    /// Bytes of values.
    bound: usize,
    /// Keyed at random, so that nobody can make values collide.
    hasher: RandomState,
    pool: Mutex<Pool>,
    loads: Mutex<Loads>,
}

#[derive(Default)]
struct Pool {
    by_hash: HashMap<u64, Vec<WeakValue>>,
    /// How many there were after those that are gone had been cleared away last.
    cleared: usize,
    /// At least the bytes that are held: exact when they were counted last, plus everything that came since. To count
    /// means to visit every value, which must not happen in every reconcile of every mirror.
    at_most: usize,
}

/// What each mirror holds, with the sums, so that a pass does not add up those of all others.
#[derive(Default)]
struct Loads {
    by_mirror: HashMap<ObjectRef<ParameterMirror>, Load>,
    /// Bytes of all; a value that several hold is counted for each.
    bytes: usize,
    /// Of those that cannot be put down; a value that several hold is counted for each.
    unbacked: Used,
    /// The same, each value counted once; none if it has changed since it was counted.
    counted: Option<Used>,
}

/// What one mirror holds.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Bytes of its values.
    pub bytes: usize,
    /// Whether they can be put down: both of its targets hold them, verified.
    pub is_backed: bool,
    /// The set, to see which values are shared.
    pub content: Weak<Content>,
}

impl Values {
    /// At most so many bytes, as far as they can be put down.
    #[must_use]
    pub fn within(bound: usize) -> Self {
        Self { bound, hasher: RandomState::new(), pool: Mutex::default(), loads: Mutex::default() }
    }

    /// Replaces a value by an equal one that somebody holds already.
    pub fn share(&self, value: &mut Value) {
        let hash = self.hasher.hash_one(value.expose());
        let same = self.pool.lock().share(hash, value);
        if let Some(same) = same {
            *value = same;
        }
    }

    /// Bytes of all values that are held, each counted once.
    #[must_use]
    pub fn held(&self) -> usize {
        self.pool.lock().count()
    }

    /// Notes what a mirror holds after a pass. Returns who has to put its values down, itself perhaps among them.
    pub fn settle(&self, mirror: &ObjectRef<ParameterMirror>, load: Load) -> Vec<ObjectRef<ParameterMirror>> {
        let bytes = self.loads.lock().note(mirror, load);
        if bytes <= self.bound {
            return Vec::new();
        }
        let held = self.pool.lock().held_beyond(self.bound);
        held.map_or_else(Vec::new, |held| self.loads.lock().too_many(held, self.bound))
    }

    /// Judges whether a new set of `values`, `known` bytes of which the mirror holds already, fits in with everything that cannot be put
    /// down, in the share of the mirror's namespace or in what is for all. `namespaces` counts those that have mirrors.
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

    /// The bound in bytes.
    #[must_use]
    pub const fn bound(&self) -> usize {
        self.bound
    }

    /// A mirror holds nothing any more.
    pub fn forget(&self, mirror: &ObjectRef<ParameterMirror>) {
        self.loads.lock().forget(mirror);
    }
}

impl Loads {
    /// Replaces what is known of a mirror. Returns the bytes of all.
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

    /// What cannot be put down, with each value counted once in each namespace and once in all. Only needed when it is nearly too much.
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

    /// The largest that can be put down, until the rest is within the bound.
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
    /// An equal value that is held already, or none: then this one is held from now on.
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

    /// Bytes of those values of which no equal one is held, each counted once.
    fn unheld<'v>(&self, values: impl Iterator<Item = (u64, &'v Value)>) -> usize {
        let is_valid = |hash: u64, value: &Value| {
            let same = self.by_hash.get(&hash).into_iter().flatten();
            same.filter_map(WeakValue::upgrade).any(|held| held == *value)
        };
        let unheld: HashMap<&str, usize> = values
            .filter(|(hash, value)| !is_valid(*hash, value))
            .map(|(_, value)| (value.expose(), value.len()))
            .collect();
        unheld.values().sum()
    }

    /// Bytes of all values that are held, each counted once.
    fn count(&mut self) -> usize {
        let values = self.by_hash.values().flatten().filter_map(WeakValue::upgrade);
        self.at_most = values.map(|value| value.len()).sum();
        self.at_most
    }

    /// The bytes that are held, if they are more than `bound`. Counts only if they can be.
    fn held_beyond(&mut self, bound: usize) -> Option<usize> {
        (self.at_most > bound).then(|| self.count()).filter(|held| *held > bound)
    }

    /// Each time it has doubled: so it costs nothing per value, and holds no more than twice what is needed.
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

    /// Whether a first set of this value has room, with so many namespaces.
    fn has_room(values: &Values, text: &str, namespaces: usize) -> bool {
        values.judge(&mirror("new"), [Value::from(text)].iter(), 0, || namespaces).is_ok()
    }

    /// `values` of a mirror, shared with what is held.
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

    /// Ten mirrors of the same values need no more room than one.
    #[test]
    fn shared_values_are_no_excess() {
        let values = Values::within(10);
        let _held = share(&values, &["12345678"]);
        for name in ["a", "b", "c"] {
            assert!(values.settle(&mirror(name), load(8, true)).is_empty());
        }
    }

    #[test]
    fn a_first_set_competes_with_what_cannot_be_put_down() {
        let values = Values::within(10);
        values.settle(&mirror("backed"), load(9, true));
        values.settle(&mirror("alone"), load(4, false));
        assert!(has_room(&values, "123456", 1) && !has_room(&values, "1234567", 1));
        // What it holds already needs no more room.
        let set = [Value::from("1234567")];
        assert!(values.judge(&mirror("alone"), set.iter(), 4, || 1).is_ok());
    }

    /// Eight mirrors of the same eight bytes take eight bytes, and so does the ninth.
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
        // Another namespace has its share, and no more.
        let other = ObjectRef::new("b").within("other");
        let judge = |text: &str| values.judge(&other, [Value::from(text)].iter(), 0, || 2);
        assert!(judge("1234").is_ok());
        assert_eq!(judge("123456789"), Err(OverShare { desired: 9, share: 4 }));
    }
}
