//! Secret keys: how parameter names become keys, and which keys are not possible.

use std::collections::BTreeMap;

use parameter_mirror_format::content::entry::env_var;

use crate::api::KeyFormat;
use crate::mirror::selection::{NameSelection, PathSelection, Selection};

/// The keys of a set of parameters, by name as selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The key of each parameter; `None` if the key is illegal or another parameter has it too.
    pub by_name: BTreeMap<String, Option<String>>,
    /// What is wrong with the keys that are `None`, for people; empty if all is well.
    pub problems: Vec<String>,
}

impl Keys {
    /// Assigns a key to every name. A name selection beats a path, and the longer path beats the shorter.
    pub fn assign<'n>(
        names: impl IntoIterator<Item = &'n str>,
        selections: &[Selection],
        format: KeyFormat,
    ) -> Self {
        let mut wanted: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut keys = Self::default();
        for name in names {
            let key = key_of(name, selections, format);
            match key {
                Some(key) if is_legal(&key) => wanted.entry(key).or_default().push(name),
                Some(key) => keys
                    .refuse(name, format!("{name} would have the key {key:?}, which a Secret cannot hold")),
                None => keys.refuse(name, format!("{name} is selected by nothing")),
            }
        }
        for (key, names) in wanted {
            if let [name] = names[..] {
                keys.by_name.insert(name.to_owned(), Some(key));
            } else {
                keys.problems.push(format!("{} all have the key {key}", names.join(", ")));
                keys.by_name.extend(names.into_iter().map(|name| (name.to_owned(), None)));
            }
        }
        keys
    }

    fn refuse(&mut self, name: &str, problem: String) {
        self.by_name.insert(name.to_owned(), None);
        self.problems.push(problem);
    }
}

/// Whether Kubernetes allows this key in a Secret. The kubelet reserves names that start with `..`.
#[must_use]
pub fn is_legal(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Returns the selection that determines the key.
#[must_use]
pub fn most_specific<'s>(name: &str, selections: &'s [Selection]) -> Option<&'s Selection> {
    let by_name = |selection: &&Selection| matches!(selection, Selection::Name(one) if one.name() == name);
    let longest_path = || {
        selections
            .iter()
            .filter_map(|selection| match selection {
                Selection::Path(path) => path.relative(name).map(|_| (path.path.len(), selection)),
                Selection::Name(_) => None,
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, selection)| selection)
    };
    selections.iter().find(by_name).or_else(longest_path)
}

/// Whether the spec gives the parameter its key by name. A variable of that name may then steer programs: it is the
/// user's choice, and not the result of a parameter's name.
#[must_use]
pub fn is_given(name: &str, selections: &[Selection]) -> bool {
    matches!(most_specific(name, selections), Some(Selection::Name(NameSelection { key: Some(_), .. })))
}

fn key_of(name: &str, selections: &[Selection], format: KeyFormat) -> Option<String> {
    match most_specific(name, selections)? {
        Selection::Name(NameSelection { key: Some(key), .. }) => Some(key.clone()),
        Selection::Name(one) => one.bare_name().rsplit('/').next().map(|base| formatted(base, format)),
        Selection::Path(path) => PathSelection::relative(path, name).map(|below| formatted(below, format)),
    }
}

fn formatted(relative: &str, format: KeyFormat) -> String {
    match format {
        KeyFormat::EnvVar => env_var(relative),
        KeyFormat::Dotted => relative.replace('/', "."),
        KeyFormat::Basename => relative.rsplit('/').next().unwrap_or(relative).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn path(path: &str) -> Selection {
        Selection::Path(PathSelection { path: path.to_owned(), recursive: true, exclude: [].into() })
    }

    fn name(requested: &str, key: Option<&str>) -> Selection {
        Selection::Name(NameSelection {
            requested: requested.to_owned(),
            key: key.map(str::to_owned),
            optional: false,
        })
    }

    fn key(name: &str, selections: &[Selection], format: KeyFormat) -> Option<String> {
        Keys::assign([name], selections, format).by_name[name].clone()
    }

    #[rstest]
    #[case::env_var(KeyFormat::EnvVar, "DB_HOST_NAME_1")]
    #[case::dotted(KeyFormat::Dotted, "db.Host-name.1")]
    #[case::basename(KeyFormat::Basename, "Host-name.1")]
    fn each_format_shapes_the_part_below_the_path(#[case] format: KeyFormat, #[case] expected: &str) {
        assert_eq!(key("/prod/db/Host-name.1", &[path("/prod")], format).as_deref(), Some(expected));
    }

    #[test]
    fn a_name_is_relative_to_its_parent_and_its_selector_is_no_part_of_the_key() {
        let selections = [name("/prod/shared/stripe:live", None)];
        assert_eq!(
            key("/prod/shared/stripe:live", &selections, KeyFormat::EnvVar).as_deref(),
            Some("STRIPE")
        );
    }

    #[test]
    fn a_name_beats_a_path_and_the_longer_path_beats_the_shorter() {
        let selections = [path("/a"), path("/a/b"), name("/a/b/c", Some("CHOSEN"))];
        assert_eq!(key("/a/b/c", &selections, KeyFormat::EnvVar).as_deref(), Some("CHOSEN"));
        assert_eq!(key("/a/b/d", &selections, KeyFormat::EnvVar).as_deref(), Some("D"));
        assert_eq!(key("/a/x", &selections, KeyFormat::EnvVar).as_deref(), Some("X"));
    }

    #[test]
    fn only_a_key_of_the_spec_is_given() {
        let selections = [path("/a"), name("/a/path", Some("PATH")), name("/a/env", None)];
        assert!(is_given("/a/path", &selections));
        assert!(!is_given("/a/env", &selections) && !is_given("/a/home", &selections));
    }

    #[rstest]
    #[case::kubelet_prefix("/p/..data", KeyFormat::Dotted)]
    #[case::dot("/p/.", KeyFormat::Basename)]
    fn keys_that_a_secret_cannot_hold_are_named(#[case] name: &str, #[case] format: KeyFormat) {
        let keys = Keys::assign([name], &[path("/p")], format);
        assert_eq!(keys.by_name[name], None);
        assert!(keys.problems[0].contains(name), "{:?}", keys.problems);
    }

    #[test]
    fn colliding_parameters_lose_their_key_and_both_are_named() {
        let keys = Keys::assign(["/a/b_c", "/a/b/c", "/a/d"], &[path("/a")], KeyFormat::EnvVar);
        assert_eq!(keys.by_name["/a/b_c"], None);
        assert_eq!(keys.by_name["/a/b/c"], None);
        assert_eq!(keys.by_name["/a/d"].as_deref(), Some("D"));
        assert!(keys.problems[0].contains("/a/b_c") && keys.problems[0].contains("/a/b/c"));
    }

    proptest! {
        /// Includes names that SSM does not allow, should it ever return them.
        #[test]
        fn no_name_panics_or_gets_an_illegal_key(names in proptest::collection::btree_set("\\PC{0,12}", 0..6)) {
            for format in [KeyFormat::EnvVar, KeyFormat::Dotted, KeyFormat::Basename] {
                let keys = Keys::assign(names.iter().map(String::as_str), &[path("/")], format);
                prop_assert!(keys.by_name.values().flatten().all(|key| is_legal(key)));
                prop_assert_eq!(keys.by_name.len(), names.len());
            }
        }

        #[test]
        fn every_assigned_key_is_legal_and_unique(names in proptest::collection::btree_set("(/[A-Za-z0-9_.-]{1,4}){1,3}", 1..20)) {
            for format in [KeyFormat::EnvVar, KeyFormat::Dotted, KeyFormat::Basename] {
                let keys = Keys::assign(names.iter().map(String::as_str), &[path("/")], format);
                let assigned: Vec<_> = keys.by_name.values().flatten().collect();
                prop_assert_eq!(keys.by_name.len(), names.len());
                prop_assert!(assigned.iter().all(|key| is_legal(key)));
                prop_assert_eq!(assigned.iter().collect::<std::collections::BTreeSet<_>>().len(), assigned.len());
                prop_assert_eq!(keys.problems.is_empty(), assigned.len() == names.len());
            }
        }
    }
}
