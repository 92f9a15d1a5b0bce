//! Between what SSM answers and what targets hold.

use std::collections::BTreeMap;

use parameter_mirror_format::content::Content;
use parameter_mirror_format::entry::{Entries, Entry};
use parameter_mirror_format::source::{StoredSelection, StoredSource};

use super::keys::{self, Keys};
use super::plan::Plan;
use super::reading::{Known, Parameter};
use super::selection::Selection;

/// The signed part of the set that `plan` publishes for these parameters, and what is wrong with its keys.
#[must_use]
pub fn content(
    plan: &Plan,
    source: &StoredSource,
    parameters: &BTreeMap<String, Parameter>,
    read_at: i64,
) -> (Content, Vec<String>) {
    let keys = Keys::assign(parameters.keys().map(String::as_str), &plan.selections, plan.key_format);
    let entry = |(name, parameter): (&String, &Parameter)| {
        let entry = Entry {
            key: keys.by_name.get(name).cloned().flatten(),
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

/// The parameters of a set that the plan still selects.
#[must_use]
pub fn still_selected(content: &Content, plan: &Plan) -> BTreeMap<String, Parameter> {
    content
        .entries
        .iter()
        .filter(|(name, _)| keys::winner(name, &plan.selections).is_some())
        .map(|(name, entry)| (name.clone(), parameter(entry)))
        .collect()
}

/// What the next read may take as known: data in the last known good set counts as read.
///
/// Versions and dates are comparable only if the operation that reported them reads the parameter now too.
#[must_use]
pub fn known(content: &Content, plan: &Plan) -> BTreeMap<String, Known> {
    let stored = StoredSource::decode(&content.source).ok();
    let same_place = stored.as_ref().is_some_and(|stored| {
        plan.stored_source(&stored.account).is_some_and(|wanted| {
            (&wanted.region, &wanted.role_arn, &wanted.account)
                == (&stored.region, &stored.role_arn, &stored.account)
        })
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
            let by_name = matches!(keys::winner(&name, &plan.selections), Some(Selection::Name(_)));
            let comparable = by_name == was_by_name(&name);
            (name, Known { parameter, comparable })
        })
        .collect()
}

fn parameter(entry: &Entry) -> Parameter {
    Parameter { kind: entry.kind, version: entry.version, date: entry.date, value: entry.value.clone() }
}
