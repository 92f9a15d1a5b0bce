//! Which copy counts, and what each target needs (docs/design/formats.md, "Copies").

use parameter_mirror_format::content::Signed;
use parameter_mirror_format::verdict::{Found, Verdict};

use super::target::{Conflict, TargetIssue, TargetKind, TargetReason};

/// Where the last known good set was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process holds it.
    Memory,
    /// A target of this kind holds it.
    Target(TargetKind),
}

/// The set that this process holds, and the last time SSM confirmed it.
#[derive(Clone, Copy, Debug)]
pub struct MemoryCopy<'a> {
    /// The set.
    pub signed: &'a Signed,
    /// The read time that the last good read would stamp, Unix ms; 0 if nothing has been read yet.
    pub confirmed_at: i64,
}

/// Returns the newest of the verified copies. A target with a later read time than memory and with other content wins over it.
///
/// Equal content is never older or newer, so the nearer copy (memory, Secret, Redis) is taken. It counts with the
/// latest read time of any copy with that content.
#[must_use]
pub fn newest<'a>(
    memory: Option<MemoryCopy<'a>>,
    targets: &[(TargetKind, &'a Signed)],
) -> Option<(&'a Signed, Origin)> {
    let memory = memory.map(|memory| {
        (memory.signed.content.read_at.max(memory.confirmed_at), memory.signed, Origin::Memory)
    });
    let targets =
        targets.iter().map(|(kind, signed)| (signed.content.read_at, *signed, Origin::Target(*kind)));
    memory
        .into_iter()
        .chain(targets)
        .reduce(|nearer, further| {
            if further.1.content.same_as(&nearer.1.content) {
                (nearer.0.max(further.0), nearer.1, nearer.2)
            } else if further.0 > nearer.0 {
                further
            } else {
                nearer
            }
        })
        .map(|(_, signed, origin)| (signed, origin))
}

/// Returns the verified copy in `found`, if it is one.
#[must_use]
pub fn verified(found: Option<&Found>) -> Option<&Signed> {
    match found {
        Some(Found::Ours(Verdict::Verified(signed))) => Some(signed),
        _ => None,
    }
}

/// Whether a target holds some complete set, even one that this operator cannot verify.
#[must_use]
pub const fn holds_a_set(found: &Found) -> bool {
    matches!(found, Found::Ours(Verdict::Verified(_) | Verdict::ForeignKey(_) | Verdict::NewerLayout(_)))
}

/// How certain it is that the desired set is newer than what a target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It comes from a complete read of SSM that began after the target was observed.
    FreshRead,
    /// It is the last known good set.
    LastKnownGood,
}

impl Freshness {
    /// Returns the weaker of two.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::FreshRead, Self::FreshRead) => Self::FreshRead,
            _ => Self::LastKnownGood,
        }
    }
}

/// What one target needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It holds the content already.
    Nothing,
    /// It is missing or broken: it gets the desired set with read time and MAC unchanged.
    Restore(&'static str),
    /// It holds an older set, or a set that is not signed with the active key.
    Replace,
    /// It must not be written.
    Refused(TargetIssue),
}

/// Returns why a target must not be written from the last known good set; `None` if it may be.
#[must_use]
pub fn refusal(found: &Found, conflict: Conflict) -> Option<TargetIssue> {
    match found {
        Found::NotOurs { .. } => Some(TargetIssue::conflict(conflict)),
        Found::Ours(Verdict::ForeignKey(key_id)) => Some(TargetIssue::new(
            TargetReason::KeyMissing,
            format!(
                "it is signed with key {key_id}, which the key Secret does not hold; it stays as it is until SSM has been \
                 read whole or the key is restored"
            ),
        )),
        Found::Ours(Verdict::NewerLayout(format)) => Some(TargetIssue::new(
            TargetReason::LayoutTooNew,
            format!("it has layout {format}, written by a newer operator; upgrade this one"),
        )),
        Found::Missing | Found::Ours(Verdict::Verified(_) | Verdict::Broken(_)) => None,
    }
}

/// Compares what a target holds with the desired set.
#[must_use]
pub fn action(found: &Found, wanted: &Signed, freshness: Freshness, conflict: Conflict) -> Action {
    match found {
        Found::Ours(Verdict::ForeignKey(_)) if freshness == Freshness::FreshRead => Action::Replace,
        Found::Ours(Verdict::Verified(held)) if held.content.same_as(&wanted.content) => {
            // A good read moves each target to the active key, once (docs/design/formats.md, "Keys": rotation).
            let is_under_its_key = held.key_id == wanted.key_id || freshness == Freshness::LastKnownGood;
            if is_under_its_key { Action::Nothing } else { Action::Replace }
        }
        Found::Ours(Verdict::Broken(_)) => Action::Restore("edited"),
        Found::Missing => Action::Restore("missing"),
        other => refusal(other, conflict).map_or(Action::Replace, Action::Refused),
    }
}

#[cfg(test)]
mod tests {
    use parameter_mirror_format::verdict::BrokenCause;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::mirror::fixtures::{path, plan, signed};
    use crate::mirror::target::Consent;

    /// A copy with this value and read time.
    fn copy(value: &str, read_at: i64) -> Signed {
        signed(&plan(&[path("/app")]), &[("/app/a", value)], read_at)
    }

    /// The newest of a copy in memory, one in a Secret and one in Redis.
    fn newest_of<'a>(
        memory: Option<MemoryCopy<'a>>,
        secret: Option<&'a Signed>,
        redis: Option<&'a Signed>,
    ) -> Option<(&'a Signed, Origin)> {
        let secret = secret.map(|signed| (TargetKind::Secret, signed));
        let redis = redis.map(|signed| (TargetKind::Redis, signed));
        newest(memory, &secret.into_iter().chain(redis).collect::<Vec<_>>())
    }

    const SECRET: Origin = Origin::Target(TargetKind::Secret);
    const REDIS: Origin = Origin::Target(TargetKind::Redis);

    #[rstest]
    #[case::nothing_anywhere(None, None, None, None)]
    #[case::memory_alone(Some(("m", 5)), None, None, Some(Origin::Memory))]
    #[case::the_secret_after_a_restart(None, Some(("s", 5)), None, Some(SECRET))]
    #[case::redis_after_both_were_lost(None, None, Some(("r", 5)), Some(REDIS))]
    #[case::the_later_of_two_targets(None, Some(("s", 5)), Some(("r", 6)), Some(REDIS))]
    #[case::a_later_target_beats_memory(Some(("m", 5)), Some(("s", 6)), None, Some(SECRET))]
    #[case::an_older_target_does_not(Some(("m", 6)), Some(("s", 5)), Some(("r", 4)), Some(Origin::Memory))]
    #[case::equal_content_is_never_newer(Some(("same", 5)), Some(("same", 9)), None, Some(Origin::Memory))]
    #[case::read_later_elsewhere(Some(("same", 5)), Some(("same", 9)), Some(("other", 7)), Some(Origin::Memory))]
    #[case::superseded_and_back(Some(("same", 5)), Some(("other", 7)), Some(("same", 9)), Some(REDIS))]
    #[case::at_the_same_time_the_nearer_counts(None, Some(("s", 5)), Some(("r", 5)), Some(SECRET))]
    fn the_newest_verified_copy_counts(
        #[case] memory: Option<(&str, i64)>,
        #[case] secret: Option<(&str, i64)>,
        #[case] redis: Option<(&str, i64)>,
        #[case] expected: Option<Origin>,
    ) {
        let [memory, secret, redis] =
            [memory, secret, redis].map(|one| one.map(|(value, at)| copy(value, at)));
        let memory = memory.as_ref().map(|signed| MemoryCopy { signed, confirmed_at: 0 });
        let found = newest_of(memory, secret.as_ref(), redis.as_ref());
        assert_eq!(found.map(|(_, origin)| origin), expected);
    }

    /// Memory counts with the read time that its last good read would have stamped: a target that was restored to a
    /// state between the two is older.
    #[test]
    fn a_good_read_makes_memory_as_new_as_the_read() {
        let (memory, put_back) = (copy("current", 5), copy("old", 7));
        let at = |confirmed_at| MemoryCopy { signed: &memory, confirmed_at };
        assert_eq!(newest_of(Some(at(9)), Some(&put_back), None).unwrap().1, Origin::Memory);
        assert_eq!(newest_of(Some(at(6)), Some(&put_back), None).unwrap().1, SECRET);
    }

    proptest! {
        /// The later read time wins, whichever copy with that content has it; between equals the nearer copy wins.
        #[test]
        fn the_content_that_was_read_last_counts(
            copies in prop::array::uniform3(prop::option::of((0..2_u8, 0..6_i64))),
            confirmed_at in 0..6_i64,
        ) {
            let [memory, secret, redis] =
                copies.map(|one| one.map(|(value, at)| copy(&value.to_string(), at)));
            let remembered = memory.as_ref().map(|signed| MemoryCopy { signed, confirmed_at });
            let all: Vec<(&Signed, i64)> = [
                memory.as_ref().map(|one| (one, one.content.read_at.max(confirmed_at))),
                secret.as_ref().map(|one| (one, one.content.read_at)),
                redis.as_ref().map(|one| (one, one.content.read_at)),
            ]
            .into_iter()
            .flatten()
            .collect();
            let last_read = |of: &Signed| {
                all.iter().filter(|(one, _)| one.content.same_as(&of.content)).map(|(_, at)| *at).max()
            };
            let found = newest_of(remembered, secret.as_ref(), redis.as_ref());
            prop_assert_eq!(found.is_some(), !all.is_empty());
            if let Some((found, _)) = found {
                prop_assert_eq!(last_read(found), all.iter().map(|(_, at)| Some(*at)).max().flatten());
            }
        }
    }

    #[rstest]
    #[case(Freshness::FreshRead, Freshness::FreshRead, Freshness::FreshRead)]
    #[case(Freshness::FreshRead, Freshness::LastKnownGood, Freshness::LastKnownGood)]
    #[case(Freshness::LastKnownGood, Freshness::FreshRead, Freshness::LastKnownGood)]
    #[case(Freshness::LastKnownGood, Freshness::LastKnownGood, Freshness::LastKnownGood)]
    fn the_weaker_authority_counts(
        #[case] one: Freshness,
        #[case] other: Freshness,
        #[case] both: Freshness,
    ) {
        assert_eq!(one.and(other), both);
    }

    #[test]
    fn only_a_verified_copy_is_served_from() {
        let held = copy("v", 1);
        assert_eq!(verified(Some(&Found::Ours(Verdict::Verified(held.clone())))), Some(&held));
        let foreign = Found::Ours(Verdict::ForeignKey("k9".parse().unwrap()));
        let others = [Found::Missing, Found::NotOurs { owner: None }, foreign];
        assert!(others.iter().all(|found| verified(Some(found)).is_none()) && verified(None).is_none());
    }

    #[test]
    fn each_verdict_has_its_treatment() {
        let (wanted, foreign) = (copy("new", 5), "k9".parse().unwrap());
        let conflict = Conflict { reason: TargetReason::SecretConflict, consent: Consent::Possible };
        let action = |found: &Found, freshness| action(found, &wanted, freshness, conflict);
        let [held, fresh] = [Freshness::LastKnownGood, Freshness::FreshRead];
        let reason = |action: Action| match action {
            Action::Refused(issue) => Some(issue.reason),
            _ => None,
        };
        assert_eq!(action(&Found::Missing, held), Action::Restore("missing"));
        let same = Found::Ours(Verdict::Verified(copy("new", 1)));
        assert_eq!(
            action(&same, fresh),
            Action::Nothing,
            "the same content read earlier is not written again"
        );
        let mut before = copy("new", 1);
        before.key_id = "k0".parse().unwrap();
        let before = Found::Ours(Verdict::Verified(before));
        assert_eq!(action(&before, fresh), Action::Replace, "a good read moves it to the key that is active");
        assert_eq!(action(&before, held), Action::Nothing, "an outage is no time for it");
        assert_eq!(action(&Found::Ours(Verdict::Verified(copy("old", 1))), held), Action::Replace);
        assert_eq!(
            action(&Found::Ours(Verdict::Broken(BrokenCause::Revision)), held),
            Action::Restore("edited")
        );
        let theirs = Found::NotOurs { owner: Some("c/shop/other".to_owned()) };
        let Action::Refused(refused) = action(&theirs, fresh) else {
            panic!("a foreign Secret would be written")
        };
        assert_eq!(refused.reason, TargetReason::SecretConflict);
        assert!(!refused.detail.contains("other"), "readers of the mirror may not know whose it is");
        let foreign = Found::Ours(Verdict::ForeignKey(foreign));
        assert_eq!(reason(action(&foreign, held)), Some(TargetReason::KeyMissing));
        assert_eq!(action(&foreign, fresh), Action::Replace, "only a complete fresh read replaces it");
        let newer = Found::Ours(Verdict::NewerLayout("2".to_owned()));
        assert_eq!(reason(action(&newer, fresh)), Some(TargetReason::LayoutTooNew));
    }

    #[test]
    fn only_whole_sets_count_as_held() {
        let verified = Found::Ours(Verdict::Verified(copy("v", 1)));
        assert!(holds_a_set(&verified) && holds_a_set(&Found::Ours(Verdict::NewerLayout("2".to_owned()))));
        let broken = Found::Ours(Verdict::Broken(BrokenCause::Revision));
        assert!(!holds_a_set(&broken) && !holds_a_set(&Found::Missing));
        assert!(!holds_a_set(&Found::NotOurs { owner: None }));
    }
}
