//! Fills a new mirror in an outage from mirrors that already hold its parameters (docs/design/formats.md, "Grants").

use std::collections::BTreeMap;

use parameter_mirror_format::content::Content;
use parameter_mirror_format::content::source::StoredSource;

use crate::mirror::content;
use crate::mirror::plan::Plan;
use crate::mirror::selection::{NameSelection, PathSelection, Selection};
use crate::mirror::snapshot::{MAX_PARAMETERS, Parameter};

/// A set for a mirror that has none, assembled from the sets of its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapSet {
    /// The source and the selections of the set.
    pub source: StoredSource,
    /// Everything that the mirror selects.
    pub parameters: BTreeMap<String, Parameter>,
    /// The earliest read time of its peers, Unix ms.
    pub read_at: i64,
}

/// Collects what peers can contribute, one after the other.
#[derive(Debug)]
pub struct Bootstrap<'p> {
    plan: &'p Plan,
    account: Option<String>,
    /// One part for each selection of the plan.
    parts: Vec<Option<Part>>,
}

/// The answer to one selection.
#[derive(Clone, Debug)]
struct Part {
    parameters: BTreeMap<String, Parameter>,
    read_at: i64,
}

impl<'p> Bootstrap<'p> {
    /// Starts with nothing, for the mirror of this plan.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        Self { plan, account: None, parts: vec![None; plan.selections.len()] }
    }

    /// Takes what this set can contribute. The caller has checked that it covers its own mirror's spec. Of two sets
    /// that can contribute the same, the one that was read later counts.
    pub fn offer(&mut self, content: &Content) {
        let Ok(stored) = StoredSource::decode(&content.source) else { return };
        if !self.is_same_place(&stored) {
            return;
        }
        let mut gives = false;
        for (selection, part) in self.plan.selections.iter().zip(&mut self.parts) {
            if part.as_ref().is_some_and(|part| part.read_at >= content.read_at) {
                continue;
            }
            let parameters = match selection {
                Selection::Path(path) => below(path, &stored, content),
                Selection::Name(name) => named(name, &stored, content),
            };
            if let Some(parameters) = parameters.filter(|parameters| !parameters.is_empty()) {
                *part = Some(Part { parameters, read_at: content.read_at });
                gives = true;
            }
        }
        if gives && !stored.account.is_empty() {
            self.account = Some(stored.account);
        }
    }

    /// Returns the whole set if every selection is answered: nothing partial, nothing empty.
    #[must_use]
    pub fn finish(self) -> Option<BootstrapSet> {
        let parts: Vec<Part> = self.parts.into_iter().collect::<Option<_>>()?;
        let read_at = parts.iter().map(|part| part.read_at).min()?;
        let parameters: BTreeMap<_, _> = parts.into_iter().flat_map(|part| part.parameters).collect();
        let source = self.plan.stored_source(&self.account.unwrap_or_default())?;
        (parameters.len() <= MAX_PARAMETERS).then_some(BootstrapSet { source, parameters, read_at })
    }

    /// Whether region and role are the same, and the account where both know it. All peers have the same account.
    fn is_same_place(&self, stored: &StoredSource) -> bool {
        let account = self.account.clone().unwrap_or_default();
        self.plan.stored_source(&account).is_some_and(|desired| desired.is_same_place(stored))
    }
}

/// Returns everything below a path, from a listing of it or of a path above. A listing is complete: a name that is not
/// in it does not exist.
fn below(
    desired: &PathSelection,
    stored: &StoredSource,
    content: &Content,
) -> Option<BTreeMap<String, Parameter>> {
    stored.listings().find(|listing| listing.shows_all_of(desired))?;
    let all = content.entries.iter().filter(|(name, _)| desired.relative(name).is_some());
    Some(all.map(|(name, entry)| (name.clone(), content::parameter(entry))).collect())
}

/// Returns one parameter, by the same name with the same selector, or from a listing. A name that a peer does not hold
/// proves nothing: not even that an optional one is absent.
fn named(
    desired: &NameSelection,
    stored: &StoredSource,
    content: &Content,
) -> Option<BTreeMap<String, Parameter>> {
    let name = desired.name();
    let entry = content.entries.get(&name).filter(|_| stored.shows(&name))?;
    Some([(name, content::parameter(entry))].into())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{ParameterSourceSpec, SelectionSpec};
    use crate::mirror::fixtures::{self, content, name, path};

    /// A plan with everything granted.
    fn plan(selections: &[SelectionSpec]) -> Plan {
        let grants = vec![fixtures::grant_to_shop(&["/", "/aws/"])];
        let source = ParameterSourceSpec { grants, ..fixtures::source() };
        fixtures::judge(&fixtures::spec(selections), Some(&source)).unwrap()
    }

    fn excluding(of: &str, out: &[&str]) -> SelectionSpec {
        SelectionSpec { exclude: Some(out.iter().map(|&out| out.to_owned()).collect()), ..path(of) }
    }

    fn shallow(of: &str) -> SelectionSpec {
        SelectionSpec { recursive: Some(false), ..path(of) }
    }

    /// Returns the names that a mirror with the selections `desired` gets from one with `held`, which holds `all`.
    fn given(desired: &[SelectionSpec], held: &[SelectionSpec], all: &[&str]) -> Option<Vec<String>> {
        let (desired, held) = (plan(desired), plan(held));
        let all: Vec<(&str, &str)> = all.iter().map(|&name| (name, "v")).collect();
        let mut bootstrap = Bootstrap::new(&desired);
        bootstrap.offer(&content(&held, &all, 5));
        bootstrap.finish().map(|filled| filled.parameters.into_keys().collect())
    }

    #[rstest]
    #[case::the_same_path(&[path("/a")], &[path("/a")], Some("/a/x /a/b/y"))]
    #[case::a_path_below(&[path("/a/b")], &[path("/a")], Some("/a/b/y"))]
    #[case::everything_above(&[path("/a/b")], &[path("/")], Some("/a/b/y"))]
    #[case::a_path_above(&[path("/a")], &[path("/a/b")], None)]
    #[case::a_neighbour(&[path("/a")], &[path("/ab")], None)]
    #[case::one_level_of_many(&[shallow("/a")], &[path("/a")], Some("/a/x"))]
    #[case::many_levels_of_one(&[path("/a")], &[shallow("/a")], None)]
    #[case::one_level_of_one(&[shallow("/a")], &[shallow("/a")], Some("/a/x"))]
    #[case::a_level_below_one_level(&[shallow("/a/b")], &[shallow("/a")], None)]
    #[case::cut_by_the_peer(&[path("/a")], &[excluding("/a", &["b"])], None)]
    #[case::cut_by_both(&[excluding("/a", &["b"])], &[excluding("/a", &["b/c"])], Some("/a/x"))]
    #[case::cut_elsewhere(&[path("/a/b")], &[excluding("/a", &["x"])], Some("/a/b/y"))]
    #[case::wholly_cut(&[path("/a/b")], &[excluding("/a", &["b"])], None)]
    #[case::a_name_of_a_path(&[name("/a/x")], &[path("/a")], Some("/a/x"))]
    #[case::a_name_that_is_not_there(&[name("/a/gone")], &[path("/a")], None)]
    #[case::the_same_name(&[name("/x")], &[name("x"), path("/elsewhere")], Some("/x"))]
    #[case::the_same_pin(&[name("/a/x:3")], &[name("/a/x:3")], Some("/a/x:3"))]
    #[case::another_pin(&[name("/a/x:3")], &[name("/a/x:live")], None)]
    #[case::a_pin_of_a_path(&[name("/a/x:3")], &[path("/a")], None)]
    #[case::half_of_it(&[path("/a"), path("/c")], &[path("/a")], None)]
    #[case::nothing_of_aws(&[path("/aws/service")], &[path("/")], None)]
    fn what_one_mirror_can_give_another(
        #[case] desired: &[SelectionSpec],
        #[case] held: &[SelectionSpec],
        #[case] expected: Option<&str>,
    ) {
        let all = ["/x", "/a/x", "/a/b/y", "/ab/z", "/a/x:3", "/aws/service/s"];
        let (expected, mut found) = (
            expected.map(|names| names.split(' ').map(str::to_owned).collect::<Vec<_>>()),
            given(desired, held, &all),
        );
        if let Some(found) = &mut found {
            found.sort_by_key(|name| (name.matches('/').count(), name.clone()));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_empty_is_given() {
        assert_eq!(given(&[path("/a")], &[path("/a")], &[]), None);
        assert_eq!(given(&[path("/a")], &[path("/")], &["/b/x"]), None);
    }

    #[test]
    fn several_give_together_and_the_earliest_counts() {
        let desired = plan(&[path("/a"), path("/b")]);
        let mut bootstrap = Bootstrap::new(&desired);
        bootstrap.offer(&content(&plan(&[path("/a")]), &[("/a/x", "old")], 3));
        bootstrap.offer(&content(&plan(&[path("/")]), &[("/a/x", "new"), ("/c/z", "z")], 9));
        bootstrap.offer(&content(&plan(&[path("/b")]), &[("/b/y", "b")], 5));
        let filled = bootstrap.finish().unwrap();
        assert_eq!(filled.read_at, 5);
        assert_eq!(filled.parameters["/a/x"].value.expose(), "new");
        assert_eq!(filled.parameters.len(), 2);
        assert_eq!(filled.source, desired.stored_source("111122223333").unwrap());
    }

    #[test]
    fn nobody_gives_across_regions_roles_and_accounts() {
        let here = plan(&[path("/a")]);
        let all = [("/a/x", "v")];
        let place = |change: fn(&mut crate::mirror::plan::SourcePlan)| {
            let mut plan = here.clone();
            change(plan.source.as_mut().unwrap());
            plan
        };
        let region = place(|source| "eu-west-1".clone_into(&mut source.region));
        let role = place(|source| source.role_arn = Some("arn:aws:iam::444455556666:role/r".to_owned()));
        for other in [region, role] {
            let mut bootstrap = Bootstrap::new(&here);
            bootstrap.offer(&content(&other, &all, 5));
            assert_eq!(bootstrap.finish(), None);
        }
        let mut another_account = content(&here, &all, 6);
        another_account.source = here.stored_source("444455556666").unwrap().encode();
        let both = plan(&[path("/a"), path("/b")]);
        let mut bootstrap = Bootstrap::new(&both);
        bootstrap.offer(&content(&plan(&[path("/b")]), &[("/b/y", "b")], 5));
        bootstrap.offer(&another_account);
        assert_eq!(bootstrap.finish(), None, "one set is of one account");
    }
}
