//! Converts between the parameters that SSM returns and the content that targets hold.

use std::collections::BTreeMap;

use parameter_mirror_format::content::Content;
use parameter_mirror_format::content::entry::{Entries, Entry};
use parameter_mirror_format::content::source::{StoredSelection, StoredSource};

use crate::mirror::plan::Plan;
use crate::mirror::secret_keys::{self, Keys};
use crate::mirror::selection::Selection;
use crate::mirror::snapshot::{CachedParameter, Parameter};

/// Returns the content that `plan` publishes for these parameters, not yet signed, and what is wrong with its keys.
#[must_use]
pub fn content(
    plan: &Plan,
    source: &StoredSource,
    parameters: &BTreeMap<String, Parameter>,
    read_at: i64,
) -> (Content, Vec<String>) {
    let keys = Keys::assign(parameters.keys().map(String::as_str), &plan.selections, plan.key_format);
    let entry = |(name, parameter): (&String, &Parameter)| {
        let key = keys.by_name.get(name).cloned().flatten();
        let entry = Entry {
            is_key_given: key.is_some() && secret_keys::is_given(name, &plan.selections),
            key,
            kind: parameter.kind,
            version: parameter.version,
            date: parameter.date,
            value: parameter.value.clone(),
        };
        (name.clone(), entry)
    };
    let entries: Entries = parameters.iter().map(entry).collect();
    let content = Content { owner: plan.owner.clone(), source: source.encode(), read_at, entries };
    (content, keys.problems)
}

/// Returns the parameters of a set that the plan still selects.
#[must_use]
pub fn still_selected(content: &Content, plan: &Plan) -> BTreeMap<String, Parameter> {
    content
        .entries
        .iter()
        .filter(|(name, _)| secret_keys::most_specific(name, &plan.selections).is_some())
        .map(|(name, entry)| (name.clone(), parameter(entry)))
        .collect()
}

/// Returns what the next read may take as known: the parameters of the last known good set count as read.
///
/// Versions and dates are comparable only if the operation that reported them reads the parameter now too.
#[must_use]
pub fn known(content: &Content, plan: &Plan) -> BTreeMap<String, CachedParameter> {
    let stored = StoredSource::decode(&content.source).ok();
    let same_place = stored.as_ref().is_some_and(|stored| {
        plan.stored_source(&stored.account)
            .is_some_and(|wanted| wanted.is_same_place(stored) && wanted.account == stored.account)
    });
    if !same_place {
        return BTreeMap::new();
    }
    let was_by_name = |name: &str| {
        let selections = stored.iter().flat_map(|stored| &stored.selections);
        selections
            .into_iter()
            .any(|selection| matches!(selection, StoredSelection::Name { name: one } if one == name))
    };
    still_selected(content, plan)
        .into_iter()
        .map(|(name, parameter)| {
            let by_name =
                matches!(secret_keys::most_specific(&name, &plan.selections), Some(Selection::Name(_)));
            let comparable = by_name == was_by_name(&name);
            (name, CachedParameter { parameter, comparable })
        })
        .collect()
}

/// Returns the account that a set was read from, if the set names it.
#[must_use]
pub fn account(content: &Content) -> Option<String> {
    StoredSource::decode(&content.source)
        .ok()
        .map(|stored| stored.account)
        .filter(|account| !account.is_empty())
}

/// Converts an entry into a parameter.
#[must_use]
pub fn parameter(entry: &Entry) -> Parameter {
    Parameter { kind: entry.kind, version: entry.version, date: entry.date, value: entry.value.clone() }
}

/// Returns the date of the newest parameter that is new or changed in SSM since `before`, Unix ms.
#[must_use]
pub fn newest_change(before: &Content, after: &Content) -> Option<i64> {
    let is_new = |name: &str, version: i64, date: i64| {
        before.entries.get(name).is_none_or(|known| (known.version, known.date) != (version, date))
    };
    let changed = after.entries.iter().filter(|(name, entry)| is_new(name, entry.version, entry.date));
    changed.map(|(_, entry)| entry.date).max()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::SelectionSpec;
    use crate::mirror::fixtures::{self, name, path, plan};

    /// Returns what the plan `now` knows of a set that the plan `before` published.
    fn known_to(now: &Plan, before: &Plan, all: &[(&str, &str)]) -> Vec<(String, bool)> {
        let known = known(&fixtures::content(before, all, 1_000), now);
        known.into_iter().map(|(name, known)| (name, known.comparable)).collect()
    }

    /// Dates of different operations are never compared; a parameter that is no longer selected is not known.
    #[rstest]
    #[case::the_same_path(path("/app"), path("/app"), "/app/x", Some(true))]
    #[case::a_wider_path(path("/app/sub"), path("/app"), "/app/sub/x", Some(true))]
    #[case::another_path(path("/app/sub"), path("/app/other"), "/app/sub/x", None)]
    #[case::the_same_name(name("/app/x"), name("/app/x"), "/app/x", Some(true))]
    #[case::a_name_without_its_slash(name("/x"), name("x"), "/x", Some(true))]
    #[case::a_name_that_became_a_path(name("/app/x"), path("/app"), "/app/x", Some(false))]
    #[case::a_path_that_became_a_name(path("/app"), name("/app/x"), "/app/x", Some(false))]
    #[case::a_pin_that_was_lifted(name("/app/x:3"), name("/app/x"), "/app/x:3", None)]
    #[case::a_pin_replaced_by_a_path(name("/app/x:3"), path("/app"), "/app/x:3", None)]
    fn what_counts_as_read(
        #[case] before: SelectionSpec,
        #[case] now: SelectionSpec,
        #[case] stored: &str,
        #[case] expected: Option<bool>,
    ) {
        let source = crate::api::ParameterSourceSpec {
            grants: vec![fixtures::grant_to_shop(&["/"])],
            ..fixtures::source()
        };
        let [before, now] =
            [before, now].map(|one| fixtures::judge(&fixtures::spec(&[one]), Some(&source)).unwrap());
        let expected: Vec<_> =
            expected.map(|comparable| (stored.to_owned(), comparable)).into_iter().collect();
        assert_eq!(known_to(&now, &before, &[(stored, "v")]), expected);
    }

    /// Versions of another region or role mean nothing.
    #[test]
    fn nothing_is_known_of_another_place() {
        let before = plan(&[path("/app")]);
        let all = [("/app/x", "v")];
        assert_eq!(known_to(&before, &before, &all), [("/app/x".to_owned(), true)]);
        let place = |change: fn(&mut crate::mirror::plan::SourcePlan)| {
            let mut plan = before.clone();
            change(plan.source.as_mut().unwrap());
            plan
        };
        let region = place(|source| "eu-west-1".clone_into(&mut source.region));
        let other_role =
            place(|source| source.role_arn = Some("arn:aws:iam::444455556666:role/reader".to_owned()));
        let no_source = Plan { source: None, ..before.clone() };
        for other in [region, other_role, no_source] {
            assert_eq!(known_to(&other, &before, &all), []);
        }
        assert_eq!(account(&fixtures::content(&before, &all, 1_000)).as_deref(), Some("111122223333"));
        let mut unreadable = fixtures::content(&before, &all, 1_000);
        unreadable.source = "not JSON".to_owned();
        assert!(known(&unreadable, &before).is_empty() && account(&unreadable).is_none());
    }

    #[test]
    fn a_set_says_who_owns_it_where_it_is_from_and_which_keys_it_has() {
        let plan =
            plan(&[path("/app"), SelectionSpec { key: Some("TOKEN".to_owned()), ..name("/app/t:live") }]);
        let stored = plan.stored_source("111122223333").unwrap();
        let parameters = fixtures::parameters(&[("/app/db/host", "h"), ("/app/t:live", "t")]);
        let (content, problems) = content(&plan, &stored, &parameters, 7);
        assert_eq!((content.owner.as_str(), content.read_at, problems), ("c/shop/checkout", 7, Vec::new()));
        assert_eq!(content.source, stored.encode());
        let key = |name: &str| content.entries[name].key.as_deref();
        assert_eq!((key("/app/db/host"), key("/app/t:live")), (Some("DB_HOST"), Some("TOKEN")));
        assert_eq!(still_selected(&content, &plan), parameters, "there and back nothing is lost");
    }

    #[test]
    fn keys_that_cannot_be_are_named_and_the_entries_are_kept() {
        let plan = plan(&[path("/app")]);
        let stored = plan.stored_source("").unwrap();
        let parameters = fixtures::parameters(&[("/app/a-b", "1"), ("/app/a_b", "2"), ("/app/c", "3")]);
        let (content, problems) = content(&plan, &stored, &parameters, 7);
        assert_eq!(content.entries.len(), 3);
        assert_eq!(content.entries["/app/a-b"].key, None);
        assert!(problems.len() == 1 && problems[0].contains("A_B"), "{problems:?}");
    }
}
