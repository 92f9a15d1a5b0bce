//! The pages of a listing, checked to belong to it.

use std::collections::BTreeSet;

use parameter_mirror_format::content::coverage::normalised;

use crate::answer::{Listed, Page};
use crate::error::{SsmError, unusable};

const OPERATION: &str = "GetParametersByPath";

/// A page that belongs to its listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPage {
    /// Its parameters, each with its name beginning with `/`.
    pub parameters: Vec<(String, Listed)>,
    /// The token of the next page; only its absence ends a listing.
    pub next: Option<String>,
}

/// One listing of a path, page by page.
#[derive(Debug)]
pub struct Listing<'p> {
    path: &'p str,
    names: BTreeSet<String>,
    tokens: BTreeSet<String>,
}

impl<'p> Listing<'p> {
    /// Begins a listing of everything below `path`.
    #[must_use]
    pub fn of(path: &'p str) -> Self {
        Self { path, names: BTreeSet::new(), tokens: BTreeSet::new() }
    }

    /// Checks the next page. Fails if a parameter is not below the path or was listed before, and if the listing turns in
    /// circles.
    pub fn check(&mut self, page: Page) -> Result<CheckedPage, SsmError> {
        let mut parameters = Vec::with_capacity(page.parameters.len());
        for one in page.parameters {
            let name = normalised(&one.name);
            if !is_below(self.path, &name) {
                let what = format!("it answers {name}, which is not below {}", self.path);
                return Err(unusable(OPERATION, &what));
            }
            if !self.names.insert(name.clone()) {
                let what = format!("the listing of {} holds {name} twice", self.path);
                return Err(unusable(OPERATION, &what));
            }
            parameters.push((name, one));
        }
        if let Some(next) = &page.next
            && !self.tokens.insert(next.clone())
        {
            let what = format!("the listing of {} repeats a page token", self.path);
            return Err(unusable(OPERATION, &what));
        }
        Ok(CheckedPage { parameters, next: page.next })
    }
}

fn is_below(path: &str, name: &str) -> bool {
    let root = path.trim_end_matches('/');
    name.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')).is_some_and(|below| !below.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_means_at_least_one_level_deeper() {
        for (path, name) in [("/", "/x"), ("/a", "/a/x"), ("/a/", "/a/b/x")] {
            assert!(is_below(path, name), "{path} {name}");
        }
        for (path, name) in [("/a", "/a"), ("/a", "/a/"), ("/a", "/ab/x"), ("/a/b", "/a/x")] {
            assert!(!is_below(path, name), "{path} {name}");
        }
    }
}
