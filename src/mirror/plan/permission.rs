//! Whether a verified copy may still be used for a mirror. What counts is where and with which identity the copy was
//! read, never what the spec names now: a tenant writes the spec.

use parameter_mirror_format::content::source::{StoredSelection, StoredSource};

use crate::api::RedisEncryption;
use crate::mirror::plan::grants;
use crate::mirror::plan::{Plan, SourcePlan};

/// What may be done with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// A source that exists reads with the same identity, and grants the mirror's namespace everything that the copy was read from.
    Granted {
        /// The minimum encryption in Redis that this source requires.
        encryption: RedisEncryption,
    },
    /// The source that both the mirror and its copy name does not exist or does not decode: an outage. Targets that
    /// hold the copy keep it and are healed; no other target gets it.
    SourceMissing,
    /// No source grants the copy: nothing is written from it.
    NotGranted,
}

/// A source that exists, as one namespace sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Name of the source.
    pub name: String,
    /// The identity it reads with, and what it grants to the namespace.
    pub plan: SourcePlan,
    /// The account that it reads from, if known.
    pub account: Option<String>,
}

impl Plan {
    /// Returns what may be done with a copy that was read from `stored`, given the existing sources.
    #[must_use]
    pub fn permission(&self, stored: &StoredSource, existing: &[Existing]) -> Permission {
        let granting = |source: &&Existing| source.reads(stored) && source.plan.grants_all_of(stored);
        // The spec meets the requirement of its own source. Of others the strictest counts, because the one that the
        // copy came from may be gone.
        let own = existing.iter().filter(|source| source.name == self.source_name).find(granting);
        let strictest = || existing.iter().filter(granting).max_by_key(|source| source.plan.redis_encryption);
        if let Some(source) = own.or_else(strictest) {
            return Permission::Granted { encryption: source.plan.redis_encryption };
        }
        let is_missing = !existing.iter().any(|source| source.name == stored.name);
        if is_missing && stored.name == self.source_name {
            Permission::SourceMissing
        } else {
            Permission::NotGranted
        }
    }
}

impl Existing {
    /// Whether a copy was read with the identity of this source and from its account.
    fn reads(&self, stored: &StoredSource) -> bool {
        let account = self.plan.account().or(self.account.as_deref()).unwrap_or_default();
        self.plan.place(&self.name, account).is_same_place(stored)
    }
}

impl SourcePlan {
    /// Whether the source grants everything that a copy was read from.
    #[must_use]
    pub fn grants_all_of(&self, stored: &StoredSource) -> bool {
        stored.selections.iter().all(|selection| {
            let name = match selection {
                StoredSelection::Path { path, .. } => path,
                StoredSelection::Name { name } => name,
            };
            grants::covers(&self.granted, name.split(':').next().unwrap_or(name))
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{GrantSpec, ParameterSourceSpec, SelectionSpec};
    use crate::mirror::fixtures::{judge, name, path, plan, source, spec};

    const ACCOUNT: &str = "111122223333";
    const ROLE: &str = "arn:aws:iam::444455556666:role/reader";

    fn existing(name: &str, change: impl Fn(&mut SourcePlan)) -> Existing {
        let mut source = plan(&[path("/app")]).source.unwrap();
        change(&mut source);
        Existing { name: name.to_owned(), plan: source, account: Some(ACCOUNT.to_owned()) }
    }

    fn as_it_was(name: &str) -> Existing {
        existing(name, |_| {})
    }

    /// A copy that was read through the source `default`.
    fn copy() -> StoredSource {
        plan(&[path("/app")]).stored_source(ACCOUNT).unwrap()
    }

    /// Returns the permission for that copy when the mirror names the source `now`.
    fn judged(now: &str, existing: &[Existing]) -> Permission {
        let plan = Plan { source_name: now.to_owned(), source: None, ..plan(&[path("/app")]) };
        plan.permission(&copy(), existing)
    }

    const GRANTED: Permission = Permission::Granted { encryption: RedisEncryption::SecureStrings };

    #[test]
    fn a_source_of_the_same_place_that_grants_it_is_enough_whatever_its_name() {
        assert_eq!(judged("default", &[as_it_was("default")]), GRANTED);
        assert_eq!(judged("default", &[as_it_was("renamed")]), GRANTED);
        assert_eq!(judged("made-up", &[as_it_was("default")]), GRANTED);
    }

    #[test]
    fn a_missing_source_is_an_outage_for_the_mirror_that_was_read_through_it_only() {
        assert_eq!(judged("default", &[]), Permission::SourceMissing);
        assert_eq!(judged("made-up", &[]), Permission::NotGranted);
        let withdrawn = existing("default", |source| source.granted.clear());
        assert_eq!(judged("made-up", std::slice::from_ref(&withdrawn)), Permission::NotGranted);
        assert_eq!(judged("default", &[withdrawn]), Permission::NotGranted);
    }

    #[rstest]
    #[case::region(|source: &mut SourcePlan| "eu-west-1".clone_into(&mut source.region))]
    #[case::role(|source: &mut SourcePlan| source.role_arn = Some(ROLE.to_owned()))]
    #[case::external_id(|source: &mut SourcePlan| source.external_id = Some("other".to_owned()))]
    #[case::grant(|source: &mut SourcePlan| source.granted = vec!["/app/sub".to_owned()])]
    fn another_place_or_a_smaller_grant_is_none(#[case] change: fn(&mut SourcePlan)) {
        let changed = |name| existing(name, change);
        assert_eq!(judged("default", &[changed("default")]), Permission::NotGranted);
        assert_eq!(judged("other", &[changed("other")]), Permission::NotGranted);
        assert_eq!(judged("default", &[changed("other")]), Permission::SourceMissing);
    }

    /// What is served may have been read under a selection that is no longer granted.
    #[rstest]
    #[case::granted(&[path("/app")], true)]
    #[case::pinned(&[name("/app/x:3")], true)]
    #[case::one_of_two(&[path("/app"), name("/elsewhere/x:live")], false)]
    fn all_that_a_copy_was_read_from_must_be_granted(#[case] read: &[SelectionSpec], #[case] granted: bool) {
        let everything = ParameterSourceSpec {
            grants: vec![GrantSpec { paths: vec!["/".to_owned()], ..source().grants[0].clone() }],
            ..source()
        };
        let stored = judge(&spec(read), Some(&everything)).unwrap().stored_source("").unwrap();
        let permission = plan(&[path("/app/now")]).permission(&stored, &[as_it_was("default")]);
        assert_eq!(permission == GRANTED, granted);
    }

    #[test]
    fn another_account_is_another_place_once_it_is_known() {
        let unknown = Existing { account: None, ..as_it_was("default") };
        assert_eq!(judged("default", &[unknown]), GRANTED);
        let other = Existing { account: Some("999900001111".to_owned()), ..as_it_was("default") };
        assert_eq!(judged("default", &[other]), Permission::NotGranted);
    }

    #[test]
    fn the_demand_of_its_own_source_counts_and_else_the_strictest() {
        let demanding = |name, encryption| existing(name, |source| source.redis_encryption = encryption);
        let (none, all) = (RedisEncryption::None, RedisEncryption::All);
        let sources = [demanding("default", none), demanding("strict", all)];
        assert_eq!(judged("default", &sources), Permission::Granted { encryption: none });
        assert_eq!(judged("made-up", &sources), Permission::Granted { encryption: all });
    }
}
