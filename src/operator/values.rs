//! How many values are held in memory. Equal values are held once; above the bound the values of mirrors that two verified
//! targets hold are put down, largest first, and fetched from there when they are needed (formats.md, "Memory").

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::value::{Value, WeakValue};
use tracing_mutex::parkinglot::Mutex;

use crate::api::ParameterMirror;

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
    /// Bytes of those that cannot be put down.
    unbacked: usize,
}

/// What one mirror holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of its values.
    pub bytes: usize,
    /// Whether they can be put down: both of its targets hold them, verified.
    pub is_backed: bool,
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

    /// Whether a first set of so many bytes fits in with everything that cannot be put down.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.loads.lock().unbacked.saturating_add(bytes) <= self.bound
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
        self.forget(mirror);
        self.bytes += load.bytes;
        self.unbacked += load.unbacked();
        self.by_mirror.insert(mirror.clone(), load);
        self.bytes
    }

    fn forget(&mut self, mirror: &ObjectRef<ParameterMirror>) {
        if let Some(load) = self.by_mirror.remove(mirror) {
            self.bytes -= load.bytes;
            self.unbacked -= load.unbacked();
        }
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
    const fn unbacked(self) -> usize {
        if self.is_backed { 0 } else { self.bytes }
    }
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
    use super::*;

    fn mirror(name: &str) -> ObjectRef<ParameterMirror> {
        ObjectRef::new(name).within("shop")
    }

    fn load(bytes: usize, is_backed: bool) -> Load {
        Load { bytes, is_backed }
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
        assert!(values.has_room_for(6) && !values.has_room_for(7));
    }
}
