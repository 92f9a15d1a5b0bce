//! Which parameters the selections of a copy cover: those it contains if they exist in SSM.

use std::collections::BTreeSet;

use crate::content::source::{StoredSelection, StoredSource};

/// Everything below `path`, which SSM lists with `GetParametersByPath`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathSelection {
    /// Starts with `/`; has no trailing `/` (except the root) and no empty, `.` or `..` segment.
    pub path: String,
    /// Whether deeper levels are included.
    pub recursive: bool,
    /// Relative paths to leave out, each with everything below it.
    pub exclude: BTreeSet<String>,
}

impl PathSelection {
    /// Returns the part of `name` below the path, if the selection includes the parameter.
    #[must_use]
    pub fn relative<'n>(&self, name: &'n str) -> Option<&'n str> {
        let below = if self.path == "/" {
            name.strip_prefix('/')?
        } else {
            name.strip_prefix(self.path.as_str())?.strip_prefix('/')?
        };
        let level_taken = self.recursive || !below.contains('/');
        let excluded = self.exclude.iter().any(|out| is_at_or_below(below, out));
        (!below.is_empty() && level_taken && !excluded && self.may_list(name)).then_some(below)
    }

    /// Whether a listing can return this name. A listing never returns selectors, and the listing of `/`
    /// returns no public AWS parameters; both are available by name only.
    fn may_list(&self, name: &str) -> bool {
        !name.contains(':') && (!is_of_aws(name) || is_of_aws(&self.path))
    }

    /// Whether this selection includes everything that `wanted` includes.
    #[must_use]
    pub fn shows_all_of(&self, wanted: &Self) -> bool {
        let deep_enough = if wanted.path == self.path {
            self.recursive || !wanted.recursive
        } else {
            self.recursive && is_at_or_below(&wanted.path, &self.path)
        };
        // The listing of `/` returns no public AWS parameters.
        let shows_aws = !is_of_aws(&wanted.path) || is_of_aws(&self.path);
        let cuts = |out: &String| {
            let out = absolute(&self.path, out);
            let is_unwanted =
                wanted.exclude.iter().any(|own| is_at_or_below(&out, &absolute(&wanted.path, own)));
            is_at_or_below(&wanted.path, &out) || (is_at_or_below(&out, &wanted.path) && !is_unwanted)
        };
        deep_enough && shows_aws && !self.exclude.iter().any(cuts)
    }
}

impl StoredSource {
    /// Returns the paths that were listed.
    pub fn listings(&self) -> impl Iterator<Item = PathSelection> {
        self.selections.iter().filter_map(|selection| match selection {
            StoredSelection::Path { path, recursive, exclude } => Some(PathSelection {
                path: path.clone(),
                recursive: *recursive,
                exclude: exclude.iter().cloned().collect(),
            }),
            StoredSelection::Name { .. } => None,
        })
    }

    /// Whether a parameter with this *name as selected* would be in the set if SSM had it.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        let by_name = |selection: &StoredSelection| matches!(selection, StoredSelection::Name { name: stored } if normalised(stored) == name);
        self.selections.iter().any(by_name) || self.listings().any(|listing| listing.relative(name).is_some())
    }
}

/// `/X` and `X` are the same parameter to SSM; stored names always begin with `/`.
#[must_use]
pub fn normalised(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}

/// Whether `path` is `root` itself or lies below it, on path-segment boundaries.
#[must_use]
pub fn is_at_or_below(path: &str, root: &str) -> bool {
    let root = root.strip_suffix('/').unwrap_or(root);
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the name belongs to AWS. Public parameters and references to other services are below `/aws/`. SSM
/// reserves the name in any case, so no customer parameter has it.
#[must_use]
pub fn is_of_aws(name: &str) -> bool {
    let first = name.strip_prefix('/').and_then(|below| below.split('/').next());
    first.is_some_and(|first| first.eq_ignore_ascii_case("aws"))
}

fn absolute(path: &str, relative: &str) -> String {
    format!("{}/{relative}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn path(path: &str, recursive: bool, exclude: &[&str]) -> PathSelection {
        PathSelection {
            path: path.to_owned(),
            recursive,
            exclude: exclude.iter().map(|&out| out.to_owned()).collect(),
        }
    }

    #[rstest]
    #[case::below("/prod/checkout", "/prod/checkout/db/host", Some("db/host"))]
    #[case::root("/", "/host", Some("host"))]
    #[case::itself("/prod/checkout", "/prod/checkout", None)]
    #[case::only_a_prefix("/prod/check", "/prod/checkout/host", None)]
    #[case::excluded("/prod/checkout", "/prod/checkout/legacy", None)]
    #[case::below_excluded("/prod/checkout", "/prod/checkout/legacy/x", None)]
    #[case::beside_excluded("/prod/checkout", "/prod/checkout/legacy2", Some("legacy2"))]
    #[case::pinned_to_a_version("/prod/checkout", "/prod/checkout/host:3", None)]
    #[case::with_a_label("/", "/host:live", None)]
    #[case::root_lists_nothing_of_aws("/", "/aws/service/ami", None)]
    #[case::root_and_almost_aws("/", "/awsome", Some("awsome"))]
    #[case::below_aws("/aws/service", "/aws/service/ami", Some("ami"))]
    fn a_path_takes_what_lies_below_it(
        #[case] root: &str,
        #[case] name: &str,
        #[case] relative: Option<&str>,
    ) {
        assert_eq!(path(root, true, &["legacy"]).relative(name), relative);
    }

    #[test]
    fn without_recursive_only_the_first_level_is_taken() {
        let selection = path("/prod", false, &[]);
        assert_eq!(selection.relative("/prod/a"), Some("a"));
        assert_eq!(selection.relative("/prod/a/b"), None);
    }

    /// Splits a path that begins with `/` into segments; a trailing `/` adds none.
    fn segments(path: &str) -> Vec<&str> {
        path.trim_end_matches('/').split('/').collect()
    }

    proptest! {
        /// The alphabet makes names share prefixes, so a match by characters instead of segments fails the
        /// test.
        #[test]
        fn paths_match_by_whole_segments(root in "(/[aA.]{1,3}){0,3}/?", name in "(/[aA.]{1,3}){1,4}") {
            let below = segments(&name).starts_with(&segments(&root));
            prop_assert_eq!(is_at_or_below(&name, &root), below, "{} under {}", name, root);
        }

        #[test]
        fn a_selection_takes_nothing_foreign(
            root in "(/[ab]{1,2}){1,2}",
            out in "[ab]{1,2}(/[ab]{1,2})?",
            name in "(/[ab]{1,2}){1,4}(:[ab1])?",
            recursive in any::<bool>(),
        ) {
            let taken = path(&root, recursive, &[&out]).relative(&name).is_some();
            let (own, all) = (segments(&root), segments(&name));
            let excluded: Vec<&str> = own.iter().copied().chain(out.split('/')).collect();
            let expected = all.len() > own.len()
                && all.starts_with(&own)
                && !all.starts_with(&excluded)
                && !name.contains(':')
                && (recursive || all.len() == own.len() + 1);
            prop_assert_eq!(taken, expected, "{} of {} without {}", name, root, out);
        }
    }
}
