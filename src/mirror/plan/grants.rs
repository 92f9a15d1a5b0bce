//! Grants: which namespace may read what. Deny by default; on path-segment boundaries; `/aws/` only by a grant that names it.

use std::collections::BTreeMap;

use crate::api::{NamespaceSelector, ParameterSourceSpec};
use crate::mirror::selection::{is_at_or_below, is_of_aws};

/// Returns the path prefixes that `source` grants to a namespace with these labels.
#[must_use]
pub fn granted_paths(
    source: &ParameterSourceSpec,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Vec<String> {
    source
        .grants
        .iter()
        .filter(|grant| selects(&grant.namespaces, namespace, labels))
        .flat_map(|grant| grant.paths.iter().cloned())
        .collect()
}

/// Whether one of the granted paths is `name` itself or above it. A grant of `/` does not cover what is below `/aws/`.
#[must_use]
pub fn covers(granted: &[String], name: &str) -> bool {
    granted.iter().any(|grant| is_at_or_below(name, grant) && (!is_of_aws(name) || is_of_aws(grant)))
}

fn selects(selector: &NamespaceSelector, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let by_name = selector.names.iter().any(|name| name == namespace);
    let by_labels = !selector.match_labels.is_empty()
        && selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value));
    by_name || by_labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::GrantSpec;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case::the_path_itself("/prod/checkout/", "/prod/checkout", true)]
    #[case::below("/prod/checkout/", "/prod/checkout/db/host", true)]
    #[case::no_trailing_slash("/prod/checkout", "/prod/checkout/db", true)]
    #[case::only_a_prefix("/prod/check", "/prod/checkout", false)]
    #[case::above("/prod/checkout/", "/prod", false)]
    #[case::root("/", "/anything/at/all", true)]
    #[case::aws_needs_its_own("/", "/aws/service/ami", false)]
    #[case::aws_in_any_case("/", "/AWS/service/ami", false)]
    #[case::not_of_aws("/", "/awsome/x", true)]
    #[case::aws_granted("/aws/service", "/aws/service/ami", true)]
    #[case::case_matters("/Prod", "/prod/x", false)]
    fn a_grant_covers_its_path_and_all_below(#[case] grant: &str, #[case] name: &str, #[case] covered: bool) {
        assert_eq!(covers(&[grant.to_owned()], name), covered);
    }

    #[rstest]
    #[case::by_name(&["shop"], &[], true)]
    #[case::by_labels(&[], &[("team", "checkout")], true)]
    #[case::union(&["other"], &[("team", "checkout")], true)]
    #[case::another_name(&["shop2"], &[], false)]
    #[case::another_label(&[], &[("team", "x")], false)]
    #[case::all_labels_must_match(&[], &[("team", "checkout"), ("env", "prod")], false)]
    #[case::empty_selects_nobody(&[], &[], false)]
    fn namespaces_are_granted_by_name_or_labels(
        #[case] names: &[&str],
        #[case] match_labels: &[(&str, &str)],
        #[case] granted: bool,
    ) {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let source = ParameterSourceSpec {
            grants: vec![GrantSpec {
                namespaces: NamespaceSelector {
                    names: names.iter().map(|&name| name.to_owned()).collect(),
                    match_labels: own(match_labels),
                },
                paths: vec!["/prod".to_owned()],
            }],
            ..ParameterSourceSpec::default()
        };
        let paths = granted_paths(&source, "shop", &own(&[("team", "checkout")]));
        assert_eq!(!paths.is_empty(), granted);
    }

    proptest! {
        #[test]
        fn no_grant_covers_what_is_foreign(
            granted in proptest::collection::vec("(/(aws|[ab]{1,2}|aws[ab])){0,3}/?", 0..4),
            name in "(/(aws|[ab]{1,2}|aws[ab])){1,4}",
        ) {
            let segments = |path: &str| path.trim_end_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
            let own = segments(&name);
            let of_aws = own.get(1).is_some_and(|first| first == "aws");
            let expected = granted.iter().map(|grant| segments(grant)).any(|grant| {
                own.starts_with(&grant) && (!of_aws || grant.get(1).is_some_and(|first| first == "aws"))
            });
            prop_assert_eq!(covers(&granted, &name), expected, "{} by {:?}", name, granted);
        }
    }
}
