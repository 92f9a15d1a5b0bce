//! What a mirror selects: paths and names of SSM parameters, normalised and judged once.

use std::collections::BTreeSet;
use std::fmt;

/// One entry of a mirror's `parameters` after `plan` has judged it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Everything below a path.
    Path(PathSelection),
    /// One parameter, possibly pinned to a version or a label.
    Name(NameSelection),
}

/// Everything below `path`, read with `GetParametersByPath`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathSelection {
    /// Starts with `/`, has no trailing `/` (except the root), no empty, `.` or `..` segment.
    pub path: String,
    /// Whether levels below the first count too.
    pub recursive: bool,
    /// Relative paths that are left out, each with everything below it.
    pub exclude: BTreeSet<String>,
}

/// One parameter, read with `GetParameters`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameSelection {
    /// The name to ask SSM for, as the user wrote it, with its selector (`x`, `/x:3`, `/x:live`).
    pub requested: String,
    /// The Secret key the user chose, if any.
    pub key: Option<String>,
    /// Whether absence in SSM is fine.
    pub optional: bool,
}

/// What SSM is asked for a selection. Two that ask the same can be read at once, whatever is made of the answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// A listing.
    Path {
        /// As in [`PathSelection`].
        path: String,
        /// As in [`PathSelection`].
        recursive: bool,
    },
    /// A name, as the user wrote it.
    Name(String),
}

impl Selection {
    /// What SSM is asked.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match self {
            Self::Path(PathSelection { path, recursive, .. }) => {
                Asked::Path { path: path.clone(), recursive: *recursive }
            }
            Self::Name(NameSelection { requested, .. }) => Asked::Name(requested.clone()),
        }
    }
}

impl PathSelection {
    /// The part of `name` below the path, if the selection takes the parameter.
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

    /// No listing shows a selector, and that of `/` shows nothing of AWS itself: both are answered by name only.
    fn may_list(&self, name: &str) -> bool {
        !name.contains(':') && (!is_of_aws(name) || is_of_aws(&self.path))
    }
}

impl NameSelection {
    /// The *name as selected*: begins with `/`, keeps its selector (formats.md, "Encodings").
    #[must_use]
    pub fn name(&self) -> String {
        normalised(&self.requested)
    }

    /// The parameter's own name, begins with `/`, without selector.
    #[must_use]
    pub fn bare_name(&self) -> String {
        let name = self.name();
        match name.split_once(':') {
            Some((bare, _)) => bare.to_owned(),
            None => name,
        }
    }

    /// The version or label asked for, without the colon.
    #[must_use]
    pub fn selector(&self) -> Option<&str> {
        self.requested.split_once(':').map(|(_, selector)| selector)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(selection) => f.write_str(&selection.path),
            Self::Name(selection) => f.write_str(&selection.requested),
        }
    }
}

/// `/X` and `X` are the same parameter to SSM; stored names always begin with `/`.
#[must_use]
pub fn normalised(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}

/// Whether `path` is `root` itself or lies below it, by whole segments.
#[must_use]
pub fn is_at_or_below(path: &str, root: &str) -> bool {
    let root = root.strip_suffix('/').unwrap_or(root);
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Public parameters and references to other services live below `/aws/`.
#[must_use]
pub fn is_of_aws(name: &str) -> bool {
    is_at_or_below(name, "/aws")
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[rstest]
    #[case::with_slash("/x:3", "/x:3", "/x", Some("3"))]
    #[case::without_slash("x", "/x", "/x", None)]
    fn a_name_keeps_its_selector(
        #[case] requested: &str,
        #[case] name: &str,
        #[case] bare: &str,
        #[case] selector: Option<&str>,
    ) {
        let selection = NameSelection { requested: requested.to_owned(), key: None, optional: false };
        assert_eq!(
            (selection.name().as_str(), selection.bare_name().as_str(), selection.selector()),
            (name, bare, selector)
        );
    }
}
