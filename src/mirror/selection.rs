//! What a mirror selects: paths and names of SSM parameters, normalised and validated once.

use std::fmt;

pub use parameter_mirror_format::content::coverage::{PathSelection, is_at_or_below, is_of_aws, normalised};

/// One entry of a mirror's `parameters`, validated by `plan`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// Everything below a path.
    Path(PathSelection),
    /// One parameter, possibly pinned to a version or a label.
    Name(NameSelection),
}

/// One parameter, read with `GetParameters`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameSelection {
    /// The name to request from SSM, as the user wrote it, with its selector (`x`, `/x:3`, `/x:live`).
    pub requested: String,
    /// The Secret key the user chose, if any.
    pub key: Option<String>,
    /// Whether the parameter may be absent in SSM.
    pub optional: bool,
}

/// The request to SSM for a selection. Equal requests can be coalesced, whatever each mirror makes of the answer.
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
    /// Returns the request to SSM.
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

impl NameSelection {
    /// Returns the *name as selected*: it begins with `/` and keeps its selector (docs/design/formats.md, "Encodings").
    #[must_use]
    pub fn name(&self) -> String {
        normalised(&self.requested)
    }

    /// Returns the parameter's own name: it begins with `/` and has no selector.
    #[must_use]
    pub fn bare_name(&self) -> String {
        let name = self.name();
        match name.split_once(':') {
            Some((bare, _)) => bare.to_owned(),
            None => name,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::with_slash("/x:3", "/x:3", "/x")]
    #[case::without_slash("x", "/x", "/x")]
    fn a_name_keeps_its_selector(#[case] requested: &str, #[case] name: &str, #[case] bare: &str) {
        let selection = NameSelection { requested: requested.to_owned(), key: None, optional: false };
        assert_eq!((selection.name().as_str(), selection.bare_name().as_str()), (name, bare));
    }
}
