//! The guard against removals (docs/design/formats.md, "Guard").

use std::collections::{BTreeMap, BTreeSet};

use parameter_mirror_format::content::revision::shrink_id;
use parameter_mirror_format::humanize;

use crate::mirror::selection::Selection;
use crate::mirror::snapshot::{Parameter, Snapshot};

/// What may be published of a successful read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardOutcome {
    /// The set to publish, by name as selected; withheld and missing entries are unchanged.
    pub parameters: BTreeMap<String, Parameter>,
    /// Removals that wait for approval.
    pub withheld: Option<Withheld>,
    /// The removals beyond the limit that the annotation approved.
    pub approved: Option<Withheld>,
    /// Required names that SSM no longer has; their old entries are kept.
    pub missing: Vec<String>,
    /// Required paths below which there is nothing.
    pub empty: Vec<String>,
}

/// Removals that are not applied until somebody approves exactly these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// How many parameters SSM no longer has.
    pub removed: usize,
    /// Some of them, for messages.
    pub names: String,
    /// How many parameters are published.
    pub of: usize,
    /// The value of the annotation `accept-shrink` that approves them.
    pub id: String,
    /// Whether the annotation is set, to a value that does not approve them.
    pub is_answered: bool,
    /// Whether what is served is from another source. Nothing of the new source is then published beside it.
    pub of_another_source: bool,
}

/// Why a complete read cannot be published. The targets keep what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardError {
    /// SSM holds nothing that is selected; an empty read never replaces a set.
    Empty,
    /// A required name is absent and there is no old entry to keep.
    Missing(Vec<String>),
}

/// The rules that the guard applies.
#[derive(Clone, Copy, Debug)]
pub struct GuardPolicy<'a> {
    /// What the spec selects.
    pub selections: &'a [Selection],
    /// The paths that may be empty.
    pub optional_paths: &'a BTreeSet<String>,
    /// `guard.maxRemovedPercent`.
    pub max_removed_percent: u32,
    /// Value of the annotation `accept-shrink`.
    pub accepted: Option<&'a str>,
}

/// Lets additions and changes through, and withholds removals beyond the limit.
///
/// `published` is what is served today and still selected. A changed selection is the user's decision and is not guarded.
pub fn guard(
    reading: &Snapshot,
    published: &BTreeMap<String, Parameter>,
    rule: GuardPolicy<'_>,
) -> Result<GuardOutcome, GuardError> {
    let missing = missing_names(reading, rule.selections);
    let never_had: Vec<_> = missing.iter().filter(|name| !published.contains_key(*name)).cloned().collect();
    if !never_had.is_empty() {
        return Err(GuardError::Missing(never_had));
    }
    let removed: BTreeSet<&String> = published
        .keys()
        .filter(|name| !reading.parameters.contains_key(*name) && !missing.contains(name))
        .collect();
    let mut parameters = reading.parameters.clone();
    let keep = |parameters: &mut BTreeMap<String, Parameter>, name: &String| {
        parameters.insert(name.clone(), published[name].clone());
    };
    for name in &missing {
        keep(&mut parameters, name);
    }
    if parameters.is_empty() {
        return Err(GuardError::Empty);
    }
    let id = shrink_id(removed.iter().map(|name| name.as_str()));
    let too_many = removed.len() > 1
        && removed.len() * 100 > usize::try_from(rule.max_removed_percent).unwrap_or(100) * published.len();
    let all = !removed.is_empty() && removed.len() == published.len();
    let is_approved = rule.accepted == Some(id.as_str());
    let beyond = (too_many || all).then(|| Withheld {
        removed: removed.len(),
        names: humanize::few(&removed.iter().map(ToString::to_string).collect::<Vec<_>>()),
        of: published.len(),
        id,
        is_answered: rule.accepted.is_some(),
        of_another_source: false,
    });
    let (approved, withheld) = if is_approved { (beyond, None) } else { (None, beyond) };
    if withheld.is_some() {
        for name in removed {
            keep(&mut parameters, name);
        }
    }
    let empty = empty_paths(&parameters, rule);
    Ok(GuardOutcome { parameters, withheld, approved, missing, empty })
}

/// Returns the required paths that select none of the parameters: most often a typing error, which one selection among several
/// would hide.
fn empty_paths(parameters: &BTreeMap<String, Parameter>, rule: GuardPolicy<'_>) -> Vec<String> {
    let paths = rule.selections.iter().filter_map(|selection| match selection {
        Selection::Path(path) if !rule.optional_paths.contains(&path.path) => Some(path),
        Selection::Path(_) | Selection::Name(_) => None,
    });
    paths
        .filter(|path| !parameters.keys().any(|name| path.relative(name).is_some()))
        .map(|path| path.path.clone())
        .collect()
}

/// Returns the required names that SSM itself says do not exist.
fn missing_names(reading: &Snapshot, selections: &[Selection]) -> Vec<String> {
    selections
        .iter()
        .filter_map(|selection| match selection {
            Selection::Name(one) if !one.optional => Some(one.name()),
            _ => None,
        })
        .filter(|name| !reading.parameters.contains_key(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::selection::{NameSelection, PathSelection};
    use crate::mirror::snapshot::Cost;
    use parameter_mirror_format::content::entry::ParameterType;
    use parameter_mirror_format::value::Value;
    use proptest::prelude::*;
    use rstest::rstest;

    fn set(names: &[String]) -> BTreeMap<String, Parameter> {
        names.iter().map(|name| (name.clone(), parameter(1))).collect()
    }

    fn parameter(version: i64) -> Parameter {
        Parameter { kind: ParameterType::String, version, date: version, value: Value::new("v".to_owned()) }
    }

    fn names(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("/p/{n:03}")).collect()
    }

    fn reading(names: &[String]) -> Snapshot {
        Snapshot {
            started_at: 0,
            account: None,
            parameters: set(names),
            absent: BTreeSet::new(),
            cost: Cost::default(),
        }
    }

    fn all_below_p() -> Vec<Selection> {
        vec![Selection::Path(PathSelection { path: "/p".to_owned(), recursive: true, exclude: [].into() })]
    }

    fn judge(before: usize, after: usize, accepted: Option<&str>) -> Result<GuardOutcome, GuardError> {
        let selections = all_below_p();
        let rule = GuardPolicy {
            selections: &selections,
            optional_paths: &BTreeSet::new(),
            max_removed_percent: 20,
            accepted,
        };
        guard(&reading(&names(0..after)), &set(&names(0..before)), rule)
    }

    #[rstest]
    #[case::nothing_removed(100, 100, false)]
    #[case::one_percent(100, 99, false)]
    #[case::at_the_limit(100, 80, false)]
    #[case::beyond_the_limit(100, 79, true)]
    #[case::nearly_all(100, 1, true)]
    #[case::a_single_one_of_few(3, 2, false)]
    #[case::two_of_three(3, 1, true)]
    fn removals_beyond_the_limit_are_withheld(
        #[case] before: usize,
        #[case] after: usize,
        #[case] withheld: bool,
    ) {
        let guarded = judge(before, after, None).unwrap();
        assert_eq!(guarded.withheld.is_some(), withheld);
        assert_eq!(guarded.parameters.len(), if withheld { before } else { after });
    }

    #[test]
    fn exactly_the_approved_removals_are_carried_out() {
        let id = judge(100, 50, None).unwrap().withheld.unwrap().id;
        let approved = judge(100, 50, Some(&id)).unwrap();
        let removed = approved.approved.map(|removals| removals.removed);
        assert_eq!((approved.withheld, approved.parameters.len(), removed), (None, 50, Some(50)));
        let other_removals = judge(100, 49, Some(&id)).unwrap();
        assert!(other_removals.withheld.is_some());
    }

    #[test]
    fn empty_never_replaces_anything_even_if_approved() {
        assert_eq!(judge(1, 0, None), Err(GuardError::Empty));
        let id = shrink_id(names(0..3).iter().map(String::as_str));
        assert_eq!(judge(3, 0, Some(&id)), Err(GuardError::Empty));
        assert_eq!(judge(0, 0, None), Err(GuardError::Empty));
    }

    #[test]
    fn replacing_every_parameter_by_others_is_withheld_and_the_new_ones_are_published_beside() {
        let selections = all_below_p();
        let rule = GuardPolicy {
            selections: &selections,
            optional_paths: &BTreeSet::new(),
            max_removed_percent: 100,
            accepted: None,
        };
        let guarded = guard(&reading(&names(10..12)), &set(&names(0..2)), rule).unwrap();
        assert_eq!(guarded.withheld.unwrap().removed, 2);
        assert_eq!(guarded.parameters.len(), 4);
    }

    #[test]
    fn a_missing_required_name_keeps_its_old_entry_and_is_not_a_removal() {
        let required = |name: &str, optional| {
            Selection::Name(NameSelection { requested: name.to_owned(), key: None, optional })
        };
        let selections = [required("/p/000", false), required("/p/001", true), required("/p/002", false)];
        let rule = GuardPolicy {
            selections: &selections,
            optional_paths: &BTreeSet::new(),
            max_removed_percent: 100,
            accepted: None,
        };
        let guarded = guard(&reading(&names(2..3)), &set(&names(0..3)), rule).unwrap();
        assert_eq!(guarded.missing, ["/p/000"]);
        assert_eq!(guarded.parameters.keys().collect::<Vec<_>>(), ["/p/000", "/p/002"]);
        let never_had = guard(&reading(&names(2..3)), &BTreeMap::new(), rule);
        assert_eq!(never_had, Err(GuardError::Missing(vec!["/p/000".to_owned()])));
    }

    proptest! {
        #[test]
        fn whatever_is_read_nothing_published_vanishes_beyond_the_limit(
            before in proptest::collection::btree_set(0usize..40, 1..40),
            after in proptest::collection::btree_set(0usize..40, 0..40),
            percent in 0u32..=100,
        ) {
            let name = |n: &usize| format!("/p/{n:03}");
            let before: Vec<_> = before.iter().map(name).collect();
            let after: Vec<_> = after.iter().map(name).collect();
            let selections = all_below_p();
            let rule = GuardPolicy { selections: &selections, optional_paths: &BTreeSet::new(), max_removed_percent: percent, accepted: None };
            if let Ok(guarded) = guard(&reading(&after), &set(&before), rule) {
                let gone = before.iter().filter(|name| !guarded.parameters.contains_key(*name)).count();
                prop_assert!(gone <= 1 || gone * 100 <= percent as usize * before.len());
                prop_assert!(gone < before.len());
                prop_assert!(after.iter().all(|name| guarded.parameters.contains_key(name)));
            }
        }
    }
}
