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
    use rstest::rstest;

    use super::*;
    use crate::answer::of_name;

    fn page(names: &[&str], next: Option<&str>) -> Page {
        Page { parameters: names.iter().map(|name| of_name(name)).collect(), next: next.map(str::to_owned) }
    }

    #[test]
    fn empty_pages_and_every_level_belong_to_a_listing() {
        let mut listing = Listing::of("/a");
        let first = listing.check(page(&[], Some("t"))).unwrap();
        assert_eq!((first.parameters.len(), first.next.as_deref()), (0, Some("t")));
        let last = listing.check(page(&["/a/x", "a/b/y"], None)).unwrap();
        let names: Vec<_> = last.parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, last.next), (vec!["/a/x", "/a/b/y"], None));
    }

    #[rstest]
    #[case::a_token_again(&[page(&["/a/x"], Some("t")), page(&["/a/y"], Some("t"))], "repeats a page token")]
    #[case::an_older_token(&[page(&[], Some("t")), page(&[], Some("u")), page(&[], Some("t"))], "repeats a page token")]
    #[case::on_two_pages(&[page(&["/a/x"], Some("t")), page(&["/a/x"], None)], "holds /a/x twice")]
    #[case::on_one_page(&[page(&["/a/x", "/a/x"], None)], "holds /a/x twice")]
    #[case::in_two_spellings(&[page(&["/a/x", "a/x"], None)], "holds /a/x twice")]
    #[case::of_another_path(&[page(&["/ab/x"], None)], "/ab/x, which is not below /a")]
    fn a_listing_that_cannot_be_is_none(#[case] pages: &[Page], #[case] said: &str) {
        let (mut listing, (last, before)) = (Listing::of("/a"), pages.split_last().unwrap());
        for page in before {
            listing.check(page.clone()).unwrap();
        }
        let error = listing.check(last.clone()).unwrap_err();
        assert!(error.detail.contains(said), "{error}");
    }

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
