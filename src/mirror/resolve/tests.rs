//! The resolution with and without a read.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::api::SelectionSpec;
use crate::mirror::fixtures::{self, name, path, plan, reading, signed};
use crate::mirror::resolve::bootstrap::BootstrapSet;
use crate::mirror::snapshot::ReadErrorKind;

const ALL: [(&str, &str); 4] = [("/app/a", "1"), ("/app/b", "2"), ("/app/c", "3"), ("/app/d", "4")];

fn after<'a>(plan: &'a Plan, good: Option<&'a Signed>) -> ResolveInput<'a> {
    let latest_read_at = good.map_or(0, |good| good.content.read_at);
    ResolveInput {
        plan,
        last_known_good: good,
        latest_read_at,
        now: 9_000,
        accepted_shrink: None,
        is_published: true,
        bootstrap: None,
        absent_before: None,
    }
}

/// Returns what a fresh resolution publishes, and what it withholds or misses.
fn fresh(resolution: Resolution) -> (Content, Option<SourceIssue>) {
    match resolution {
        Resolution::Fresh { desired, issue, .. } => {
            assert_eq!(desired.freshness, Freshness::FreshRead);
            (desired.set.content().clone(), issue)
        }
        other => panic!("{other:?}"),
    }
}

fn optional(of: &str) -> SelectionSpec {
    SelectionSpec { optional: Some(true), ..name(of) }
}

fn names(content: &Content) -> Vec<&str> {
    content.entries.keys().map(String::as_str).collect()
}

#[test]
fn a_first_good_read_is_published_with_its_own_time() {
    let plan = plan(&[path("/app")]);
    let (content, issue) = fresh(after(&plan, None).after_reading(&reading(&ALL, 5_000)));
    assert_eq!((content.entries.len(), content.read_at, issue), (4, 5_000, None));
}

#[test]
fn equal_content_keeps_its_read_time_and_mac() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 1_000);
    let resolution = after(&plan, Some(&good)).after_reading(&reading(&ALL, 5_000));
    let Resolution::Fresh { desired, .. } = resolution else { panic!("{resolution:?}") };
    assert_eq!(desired.set, DesiredSet::AsItIs(good));
}

/// A clock that was set back must not make new content older than what targets hold.
#[test]
fn read_times_grow_whatever_the_clock_does() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 8_000);
    let changed = [("/app/a", "new"), ALL[1], ALL[2], ALL[3]];
    let (content, _) = fresh(after(&plan, Some(&good)).after_reading(&reading(&changed, 5_000)));
    assert_eq!(content.read_at, 8_001);
}

#[test]
fn a_failed_read_holds_what_there_is_and_nothing_is_unavailable() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 1_000);
    let failure = ReadError::new(ReadErrorKind::Timeout, "");
    let issue = Some(SourceIssue::Read(failure));
    let held = after(&plan, Some(&good)).hold(issue.clone());
    let Resolution::Held { desired, .. } = &held else { panic!("{held:?}") };
    assert_eq!((&desired.set, desired.freshness), (&DesiredSet::AsItIs(good), Freshness::LastKnownGood));
    assert_eq!(after(&plan, None).hold(issue.clone()), Resolution::Unavailable { issue });
}

#[test]
fn empty_never_replaces_anything() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 1_000);
    let empty = reading(&[], 5_000);
    let held = after(&plan, Some(&good)).after_reading(&empty);
    assert!(matches!(held, Resolution::Held { issue: Some(SourceIssue::NoParameters), .. }), "{held:?}");
    let nothing = after(&plan, None).after_reading(&empty);
    assert_eq!(nothing, Resolution::Unavailable { issue: Some(SourceIssue::NoParameters) });
}

#[test]
fn a_missing_required_name_keeps_its_old_entry_beside_what_is_new() {
    let plan = plan(&[name("/app/a"), name("/app/b")]);
    let good = signed(&plan, &ALL[..2], 1_000);
    let (content, issue) =
        fresh(after(&plan, Some(&good)).after_reading(&reading(&[("/app/a", "new")], 5_000)));
    assert_eq!(names(&content), ["/app/a", "/app/b"]);
    assert_eq!(issue, Some(SourceIssue::ParameterNotFound(vec!["/app/b".to_owned()])));
}

/// A lagging replica of SSM lacks what was created a moment ago, also when it is asked by name.
#[rstest]
#[case::one_of_a_path(&[path("/app")], &ALL[1..], true)]
#[case::an_optional_name(&[optional("/app/a"), path("/app")], &ALL[1..], true)]
#[case::a_required_name(&[name("/app/a"), path("/app")], &ALL[1..], true)]
#[case::more_than_the_guard_lets_go(&[path("/app")], &ALL[3..], true)]
#[case::all_of_them(&[path("/app")], &[], true)]
#[case::none(&[path("/app")], &ALL, false)]
#[case::what_is_not_selected_any_more(&[name("/app/b")], &ALL[1..2], false)]
fn what_one_read_lacks_stays_whole_until_the_next_lacks_it_too(
    #[case] selections: &[SelectionSpec],
    #[case] there: &[(&str, &str)],
    #[case] waits: bool,
) {
    let plan = plan(selections);
    let good = signed(&fixtures::plan(&[path("/app")]), &ALL, 1_000);
    let nothing = BTreeSet::new();
    let first = ResolveInput { absent_before: Some(&nothing), ..after(&plan, Some(&good)) };
    let changed: Vec<_> = there.iter().map(|&(name, _)| (name, "new")).collect();
    let read = reading(&changed, 5_000);
    let resolution = first.after_reading(&read);
    let is_waiting = matches!(&resolution, Resolution::Awaiting { .. });
    assert_eq!(is_waiting, waits, "{resolution:?}");
    if let Resolution::Awaiting { desired } = &resolution {
        assert_eq!(desired.set, DesiredSet::AsItIs(good.clone()), "nothing changes, not even other values");
        assert_eq!((desired.freshness, resolution.issue()), (Freshness::LastKnownGood, None));
    }
    let absent = first.absent(&read);
    let second = ResolveInput { absent_before: Some(&absent), ..first };
    assert_eq!(second.after_reading(&read), after(&plan, Some(&good)).after_reading(&read));
    // Another parameter is lacking now, and the one that was lacking is back.
    if waits && there.len() == 3 {
        let other = reading(&ALL[..3], 6_000);
        assert!(matches!(second.after_reading(&other), Resolution::Awaiting { .. }));
    }
}

/// What another source lacks was never in that source.
#[test]
fn another_source_is_not_asked_twice() {
    let here = plan(&[path("/app")]);
    let good = signed(&here, &ALL, 1_000);
    let mut elsewhere = here.clone();
    "eu-west-1".clone_into(&mut elsewhere.source.as_mut().unwrap().region);
    let nothing = BTreeSet::new();
    let input = ResolveInput { absent_before: Some(&nothing), ..after(&elsewhere, Some(&good)) };
    let read = reading(&ALL[..3], 5_000);
    assert!(input.absent(&read).is_empty());
    assert!(!matches!(input.after_reading(&read), Resolution::Awaiting { .. }));
}

#[test]
fn removals_beyond_the_guard_wait_for_their_own_id() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 1_000);
    let less = reading(&ALL[..2], 5_000);
    let input = after(&plan, Some(&good));
    let (content, issue) = fresh(input.after_reading(&less));
    let Some(SourceIssue::SuspiciousShrink(withheld)) = issue else { panic!("{issue:?}") };
    assert_eq!((content.entries.len(), withheld.removed, withheld.of), (4, 2, 4));
    let approved = ResolveInput { accepted_shrink: Some(&withheld.id), ..input };
    let (content, issue) = fresh(approved.after_reading(&less));
    assert_eq!((names(&content), issue), (vec!["/app/a", "/app/b"], None));
}

/// A set that no target has ever held protects nobody: what SSM lacks meanwhile is not withheld.
#[test]
fn nothing_is_withheld_for_a_set_that_was_never_published() {
    let plan = plan(&[path("/app")]);
    let good = signed(&plan, &ALL, 1_000);
    let input = ResolveInput { is_published: false, ..after(&plan, Some(&good)) };
    let (content, issue) = fresh(input.after_reading(&reading(&ALL[..1], 5_000)));
    assert_eq!((names(&content), issue), (vec!["/app/a"], None));
}

/// The time "since" of a message belongs to one incident.
#[test]
fn an_issue_keeps_its_time_only_while_it_is_the_same_incident() {
    let read = |reason| SourceIssue::Read(ReadError::new(reason, "x"));
    let (timeout, denied) = (read(ReadErrorKind::Timeout), read(ReadErrorKind::AccessDenied));
    let gone =
        |names: &[&str]| SourceIssue::ParameterNotFound(names.iter().map(ToString::to_string).collect());
    let empty = |names: &[&str]| SourceIssue::EmptyPaths(names.iter().map(ToString::to_string).collect());
    for reason in ["SourceUnavailable", "Throttled", "CredentialsUnavailable", "Timeout"] {
        assert!(timeout.continues(&read(reason.parse().unwrap())), "{reason}");
        assert!(timeout.continues_reason(reason), "{reason}");
    }
    for before in
        [&denied, &read(ReadErrorKind::Drill), &read(ReadErrorKind::BudgetExhausted), &gone(&["/x"])]
    {
        assert!(!timeout.continues(before), "{before:?}");
        assert!(!timeout.continues_reason(before.reason()), "{before:?}");
        assert!(before.continues(before));
    }
    assert!(gone(&["/x"]).continues(&gone(&["/x", "/y"])), "one of them is there again");
    assert!(!gone(&["/x", "/y"]).continues(&gone(&["/x"])), "/y has not been missing for so long");
    assert!(!empty(&["/y"]).continues(&empty(&["/x"])));
    assert!(!SourceIssue::NoParameters.continues(&empty(&["/x"])));
}

/// The selection is the user's decision, but nothing of the old set is removed before the new one is read.
#[test]
fn a_changed_selection_is_not_guarded_and_held_while_it_cannot_be_read() {
    let (old, new) = (plan(&[path("/app")]), plan(&[path("/app/sub")]));
    let good = signed(&old, &ALL, 1_000);
    let input = after(&new, Some(&good));
    let held = input.hold(None);
    let Resolution::Held { desired, .. } = &held else { panic!("{held:?}") };
    assert_eq!(desired.set, DesiredSet::AsItIs(good.clone()));
    let (content, issue) = fresh(input.after_reading(&reading(&[("/app/sub/x", "9")], 5_000)));
    assert_eq!((names(&content), issue), (vec!["/app/sub/x"], None));
}

/// Another key format needs no read, because the values are known.
#[test]
fn held_values_get_the_keys_that_the_spec_asks_for_now() {
    let old = plan(&[path("/app")]);
    let good = signed(&old, &[("/app/db/host", "h")], 1_000);
    let mut spec = fixtures::spec(&[path("/app")]);
    spec.secret.as_mut().unwrap().key_format = crate::api::KeyFormat::Dotted;
    let new = fixtures::judge(&spec, Some(&fixtures::source())).unwrap();
    let held = after(&new, Some(&good)).hold(None);
    let Resolution::Held { desired, .. } = &held else { panic!("{held:?}") };
    assert_eq!(desired.set.content().entries["/app/db/host"].key.as_deref(), Some("db.host"));
    assert_eq!(desired.freshness, Freshness::LastKnownGood);
}

/// A quiet cycle in which something is withheld writes nothing, like any other.
#[test]
fn what_is_withheld_or_missing_is_not_written_again() {
    let of_path = plan(&[path("/app")]);
    let good = signed(&of_path, &ALL, 1_000);
    let of_names = plan(&[name("/app/a"), name("/app/b")]);
    let good_names = signed(&of_names, &ALL[..2], 1_000);
    for (plan, good) in [(&of_path, &good), (&of_names, &good_names)] {
        let resolution = after(plan, Some(good)).after_reading(&reading(&ALL[..1], 5_000));
        let Resolution::Fresh { desired, issue, .. } = resolution else { panic!("{resolution:?}") };
        assert_eq!(desired.set, DesiredSet::AsItIs(good.clone()));
        assert!(issue.is_some());
    }
}

#[test]
fn a_required_name_that_never_was_there_holds_everything() {
    let plan = plan(&[path("/app"), name("/app/new")]);
    let missing = Some(SourceIssue::ParameterNotFound(vec!["/app/new".to_owned()]));
    let read = reading(&[("/app/a", "changed")], 5_000);
    assert_eq!(after(&plan, None).after_reading(&read), Resolution::Unavailable { issue: missing.clone() });
    let good = signed(&fixtures::plan(&[path("/app")]), &ALL, 1_000);
    let held = after(&plan, Some(&good)).after_reading(&read);
    let Resolution::Held { desired, issue } = held else { panic!("{held:?}") };
    assert_eq!((desired.set, issue), (DesiredSet::AsItIs(good), missing));
}

#[test]
fn a_missing_name_is_reported_before_withheld_removals() {
    let plan = plan(&[path("/app"), name("/app/d")]);
    let good = signed(&plan, &ALL, 1_000);
    let (content, issue) = fresh(after(&plan, Some(&good)).after_reading(&reading(&ALL[..1], 5_000)));
    assert_eq!(content.entries.len(), 4, "neither goes");
    assert_eq!(issue, Some(SourceIssue::ParameterNotFound(vec!["/app/d".to_owned()])));
}

#[test]
fn a_first_set_says_which_account_it_is_from_and_keeps_it() {
    let plan = plan(&[path("/app")]);
    let account = |content: &Content| StoredSource::decode(&content.source).unwrap().account;
    let (first, _) = fresh(after(&plan, None).after_reading(&reading(&ALL, 5_000)));
    assert_eq!(account(&first), "111122223333");
    let nameless = |all: &[(&str, &str)]| Snapshot { account: None, ..reading(all, 5_000) };
    let (unknown, _) = fresh(after(&plan, None).after_reading(&nameless(&ALL)));
    assert_eq!(account(&unknown), "");
    let good = fixtures::keys().sign(first);
    let (next, _) = fresh(after(&plan, Some(&good)).after_reading(&nameless(&ALL[..3])));
    assert_eq!(account(&next), "111122223333");
}

#[test]
fn without_its_source_a_mirror_holds_what_it_has() {
    let good = signed(&plan(&[path("/app")]), &ALL, 1_000);
    let plan = Plan { source: None, ..plan(&[path("/app")]) };
    let held = after(&plan, Some(&good)).after_reading(&reading(&ALL[..3], 5_000));
    let Resolution::Held { desired, .. } = held else { panic!("{held:?}") };
    assert_eq!(desired.set, DesiredSet::AsItIs(good));
}

/// A set that the spec no longer asks for keeps its keys: nothing of it is rewritten.
#[test]
fn held_values_of_another_selection_keep_their_keys() {
    let good = signed(&plan(&[path("/app")]), &[("/app/db/host", "h")], 1_000);
    let mut spec = fixtures::spec(&[path("/app/db")]);
    spec.secret.as_mut().unwrap().key_format = crate::api::KeyFormat::Dotted;
    let now = fixtures::judge(&spec, Some(&fixtures::source())).unwrap();
    let held = after(&now, Some(&good)).hold(None);
    let Resolution::Held { desired, .. } = held else { panic!("{held:?}") };
    assert_eq!(desired.set, DesiredSet::AsItIs(good));
}

#[test]
fn impossible_keys_are_reported_while_fresh_and_while_held() {
    let plan = plan(&[path("/app")]);
    let all = [("/app/a-b", "1"), ("/app/a_b", "2")];
    let fresh = after(&plan, None).after_reading(&reading(&all, 5_000));
    let Resolution::Fresh { desired, issue: None, .. } = fresh else { panic!("{fresh:?}") };
    assert_eq!(desired.key_problems.len(), 1);
    let good = signed(&plan, &all, 1_000);
    let held = after(&plan, Some(&good)).hold(None);
    let Resolution::Held { desired: again, .. } = held else { panic!("{held:?}") };
    assert_eq!(again.key_problems, desired.key_problems);
}

/// A set is of one region: it changes over whole, or not at all.
#[rstest]
#[case::nothing_goes(&ALL, None, None)]
#[case::too_much_would_go(&ALL[..2], None, Some("SuspiciousShrink"))]
#[case::nothing_is_there(&[], None, Some("NoParameters"))]
#[case::a_name_is_missing(&ALL, Some("/app/z"), Some("ParameterNotFound"))]
fn another_source_replaces_the_set_whole_or_not_at_all(
    #[case] there: &[(&str, &str)],
    #[case] required: Option<&str>,
    #[case] reason: Option<&str>,
) {
    let mut selections = vec![path("/app")];
    selections.extend(required.map(name));
    let mut all = ALL.to_vec();
    all.extend(required.map(|name| (name, "old")));
    let here = plan(&selections);
    let good = signed(&here, &all, 1_000);
    let mut elsewhere = here.clone();
    "eu-west-1".clone_into(&mut elsewhere.source.as_mut().unwrap().region);
    let there: Vec<_> = there.iter().map(|&(name, _)| (name, "of eu-west-1")).collect();
    let resolution = after(&elsewhere, Some(&good)).after_reading(&reading(&there, 5_000));
    assert_eq!(resolution.issue().map(SourceIssue::reason), reason);
    match resolution {
        Resolution::Fresh { desired, .. } if reason.is_none() => {
            let entries = &desired.set.content().entries;
            assert!(entries.values().all(|entry| entry.value.expose() == "of eu-west-1"));
        }
        Resolution::Held { desired, .. } => assert_eq!(desired.set, DesiredSet::AsItIs(good)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn approved_removals_let_another_source_replace_the_set() {
    let here = plan(&[path("/app")]);
    let good = signed(&here, &ALL, 1_000);
    let mut elsewhere = here.clone();
    "eu-west-1".clone_into(&mut elsewhere.source.as_mut().unwrap().region);
    let input = after(&elsewhere, Some(&good));
    let read = reading(&[("/app/a", "of eu-west-1")], 5_000);
    let held = input.after_reading(&read);
    let Some(SourceIssue::SuspiciousShrink(withheld)) = held.issue() else { panic!("{held:?}") };
    let approved = ResolveInput { accepted_shrink: Some(&withheld.id), ..input };
    let (content, issue) = fresh(approved.after_reading(&read));
    assert_eq!((names(&content), issue), (vec!["/app/a"], None));
}

proptest! {
    /// For any read after any published set: no set becomes empty, equal content stays unchanged, and new content is
    /// later than everything ever seen.
    #[test]
    fn a_read_never_empties_and_never_turns_back_time(
        before in prop::sample::subsequence(ALL.to_vec(), 1..=4),
        now in prop::sample::subsequence(ALL.to_vec(), 0..=4),
        changed in any::<bool>(),
        clock in 0..20_000_i64,
        latest in 1_000..20_000_i64,
    ) {
        let plan = plan(&[path("/app")]);
        let good = signed(&plan, &before, 1_000);
        let mut read = reading(&now, clock);
        if changed {
            read.parameters.values_mut().for_each(|one| one.version = 2);
        }
        let input = ResolveInput { latest_read_at: latest, ..after(&plan, Some(&good)) };
        let resolution = input.after_reading(&read);
        let (Resolution::Fresh { desired, .. } | Resolution::Held { desired, .. }) = &resolution else {
            return Err(TestCaseError::fail(format!("{resolution:?}")));
        };
        prop_assert!(!desired.set.content().entries.is_empty());
        match &desired.set {
            DesiredSet::AsItIs(set) => prop_assert_eq!(set, &good),
            DesiredSet::New(content) => {
                prop_assert!(content.read_at > latest && content.read_at >= clock);
                prop_assert!(!content.same_as(&good.content));
            }
        }
        prop_assert!(now.iter().all(|(name, _)| desired.set.content().entries.contains_key(*name)));
    }
}

/// The set of a peer fills a mirror that has nothing, in an outage only, and never replaces what it has.
#[test]
fn a_bootstrap_set_fills_what_is_empty_while_ssm_is_away() {
    let plan = plan(&[path("/app")]);
    let bootstrap = BootstrapSet {
        source: plan.stored_source("111122223333").unwrap(),
        parameters: fixtures::parameters(&[("/app/x", "theirs")]),
        read_at: 700,
    };
    let input = ResolveInput { bootstrap: Some(&bootstrap), ..after(&plan, None) };
    let failed = |reason| Some(SourceIssue::Read(ReadError::new(reason, "")));
    let Resolution::Held { desired, .. } = input.hold(failed(ReadErrorKind::Timeout)) else {
        panic!("it is served");
    };
    assert_eq!(desired.freshness, Freshness::LastKnownGood);
    let content = desired.set.content();
    assert_eq!((content.read_at, content.owner.as_str()), (700, "c/shop/checkout"));
    assert_eq!(content.entries["/app/x"].value.expose(), "theirs");
    for reason in
        [ReadErrorKind::AccessDenied, ReadErrorKind::TooManyParameters, ReadErrorKind::SourceNotFound]
    {
        assert!(matches!(input.hold(failed(reason)), Resolution::Unavailable { .. }), "{reason}");
    }
    assert!(matches!(input.hold(None), Resolution::Unavailable { .. }), "the first read is under way");
    let own = signed(&plan, &[("/app/x", "ours")], 5);
    let has = ResolveInput { last_known_good: Some(&own), ..input };
    let Resolution::Held { desired, .. } = has.hold(failed(ReadErrorKind::Timeout)) else {
        panic!("it is served")
    };
    assert_eq!(desired.set.content().entries["/app/x"].value.expose(), "ours");
}
