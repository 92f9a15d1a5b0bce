//! How much of the memory for values each namespace may use. Half of the memory is divided into equal shares, one for each
//! namespace that has mirrors. The other half is open to all, and the unused part of a share stays reserved for its namespace. So
//! no tenant takes the memory that another one needs to begin.

use std::collections::HashMap;

/// Bytes of values that cannot be evicted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    total: usize,
    by_namespace: HashMap<String, usize>,
}

/// The memory that a set of values would add.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Namespace of the mirror.
    pub namespace: &'a str,
    /// Bytes added to what the namespace uses now.
    pub own: usize,
    /// Bytes added to what all namespaces use now. It is less than `own` if others hold equal values.
    pub total: usize,
}

/// A namespace would use more than its share, and the memory that is open to all is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverShare {
    /// Bytes that the namespace would use.
    pub desired: usize,
    /// Bytes of its share.
    pub share: usize,
}

impl Used {
    /// Adds `bytes` to what `namespace` uses, and `total` to what all namespaces use.
    pub fn add(&mut self, namespace: &str, bytes: usize, total: usize) {
        self.total += total;
        if bytes > 0 {
            *self.by_namespace.entry(namespace.to_owned()).or_default() += bytes;
        }
    }

    /// Subtracts `bytes` from what `namespace` uses and from what all namespaces use.
    pub fn remove(&mut self, namespace: &str, bytes: usize) {
        self.total = self.total.saturating_sub(bytes);
        if let Some(used) = self.by_namespace.get_mut(namespace) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.by_namespace.remove(namespace);
            }
        }
    }

    /// Whether a claim fits into half of `bound`. Such a claim fits however many namespaces there are.
    #[must_use]
    pub const fn is_small(&self, claim: Claim<'_>, bound: usize) -> bool {
        self.total.saturating_add(claim.total) <= bound / 2
    }

    /// Judges a claim. `namespaces` is the number of namespaces that have mirrors.
    pub fn judge(&self, claim: Claim<'_>, namespaces: usize, bound: usize) -> Result<(), OverShare> {
        let own = self.by_namespace.get(claim.namespace).copied().unwrap_or_default();
        let desired = own.saturating_add(claim.own);
        let others = self.by_namespace.iter().filter(|(namespace, _)| *namespace != claim.namespace);
        let users = others.clone().count();
        let namespaces = namespaces.max(users + 1);
        let share = bound / 2 / namespaces;
        let unused: usize = others.map(|(_, used)| share.saturating_sub(*used)).sum();
        let kept = unused.saturating_add((namespaces - 1 - users).saturating_mul(share));
        let all = self.total.saturating_add(claim.total).saturating_add(kept);
        if desired <= share || all <= bound { Ok(()) } else { Err(OverShare { desired, share }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 1_000;

    fn used(parts: &[(&str, usize)]) -> Used {
        let mut used = Used::default();
        for (namespace, bytes) in parts {
            used.add(namespace, *bytes, *bytes);
        }
        used
    }

    fn claim(namespace: &str, bytes: usize) -> Claim<'_> {
        Claim { namespace, own: bytes, total: bytes }
    }

    #[test]
    fn a_namespace_that_is_alone_may_use_everything() {
        assert_eq!(used(&[("a", 400)]).judge(claim("a", 600), 1, BOUND), Ok(()));
        let over = Err(OverShare { desired: 1_001, share: 500 });
        assert_eq!(used(&[("a", 400)]).judge(claim("a", 601), 1, BOUND), over);
    }

    /// Each of four namespaces has a share of 125. The first one may use everything but the shares of the other three.
    #[test]
    fn nobody_uses_the_shares_of_others() {
        let greedy = used(&[("a", 600)]);
        assert_eq!(greedy.judge(claim("a", 25), 4, BOUND), Ok(()));
        assert!(greedy.judge(claim("a", 26), 4, BOUND).is_err());
        let full = used(&[("a", 625)]);
        for namespace in ["b", "c", "d"] {
            assert_eq!(full.judge(claim(namespace, 125), 4, BOUND), Ok(()));
        }
        assert!(full.judge(claim("b", 126), 4, BOUND).is_err());
    }

    /// Whatever the order of the claims, a namespace below its share always finds room.
    #[test]
    fn a_share_is_there_when_it_is_claimed() {
        let names = ["a", "b", "c", "d", "e"];
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut now = Used::default();
            for _ in 0..200 {
                let (namespace, bytes) = (names[random.usize(..names.len())], random.usize(1..300));
                if now.judge(claim(namespace, bytes), names.len(), BOUND).is_ok() {
                    now.add(namespace, bytes, bytes);
                }
            }
            assert!(now.total <= BOUND, "{now:?}");
            for namespace in names {
                let own = now.by_namespace.get(namespace).copied().unwrap_or_default();
                assert_eq!(
                    now.judge(claim(namespace, 100_usize.saturating_sub(own)), names.len(), BOUND),
                    Ok(())
                );
            }
        }
    }

    #[test]
    fn what_is_removed_is_free() {
        let mut now = used(&[("a", 400), ("b", 100)]);
        now.remove("a", 400);
        assert_eq!(now, used(&[("b", 100)]));
    }
}
