//! Grants: which namespace may read what. Deny by default; on path-segment boundaries; `/aws/` only by a grant that names it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use crate::api::{GrantSpec, ParameterSourceSpec};
use crate::mirror::selection::{is_at_or_below, is_of_aws};

/// The segment of a granted path that stands for the name of the namespace that reads.
const NAMESPACE: &str = "{namespace}";

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
        .filter(|grant| selects(grant, namespace, labels))
        .flat_map(|grant| grant.paths.iter().map(|path| path.replace(NAMESPACE, namespace)))
        .collect()
}

/// Whether one of the granted paths is `name` itself or above it. A grant of `/` does not cover what is below `/aws/`.
#[must_use]
pub fn covers(granted: &[String], name: &str) -> bool {
    granted.iter().any(|grant| is_at_or_below(name, grant) && (!is_of_aws(name) || is_of_aws(grant)))
}

/// Whether a grant is for a namespace. A selector without requirements, or with one that cannot be parsed, selects nothing: a grant
/// must not become wider by an error.
fn selects(grant: &GrantSpec, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let by_labels = |selector: &LabelSelector| {
        let is_empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
        !is_empty && Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
    };
    grant.namespaces.iter().any(|name| name == namespace)
        || grant.namespace_selector.as_ref().is_some_and(by_labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

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

    fn granted(grant: serde_json::Value) -> Vec<String> {
        let grant: GrantSpec = serde_json::from_value(grant).unwrap();
        let source = ParameterSourceSpec { grants: vec![grant], ..ParameterSourceSpec::default() };
        let labels = [("team", "checkout"), ("env", "staging")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        granted_paths(&source, "shop", &labels)
    }

    #[rstest]
    #[case::by_name(json!({"namespaces": ["shop"]}), true)]
    #[case::by_labels(json!({"namespaceSelector": {"matchLabels": {"team": "checkout"}}}), true)]
    #[case::union(json!({"namespaces": ["other"], "namespaceSelector": {"matchLabels": {"team": "checkout"}}}), true)]
    #[case::by_an_expression(json!({"namespaceSelector": {"matchExpressions": [
        {"key": "env", "operator": "NotIn", "values": ["prod"]}, {"key": "team", "operator": "Exists"}]}}), true)]
    #[case::another_name(json!({"namespaces": ["shop2"]}), false)]
    #[case::another_label(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), false)]
    #[case::all_labels_must_match(json!({"namespaceSelector": {"matchLabels": {"team": "checkout", "env": "prod"}}}), false)]
    #[case::and_all_expressions(json!({"namespaceSelector": {"matchLabels": {"team": "checkout"}, "matchExpressions": [
        {"key": "env", "operator": "In", "values": ["prod"]}]}}), false)]
    #[case::nobody(json!({}), false)]
    #[case::an_empty_selector(json!({"namespaceSelector": {}}), false)]
    #[case::empty_requirements(json!({"namespaceSelector": {"matchLabels": {}, "matchExpressions": []}}), false)]
    #[case::an_unknown_operator(json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Like"}]}}), false)]
    fn namespaces_are_granted_by_name_or_selector(
        #[case] mut grant: serde_json::Value,
        #[case] expected: bool,
    ) {
        grant["paths"] = json!(["/prod"]);
        assert_eq!(!granted(grant).is_empty(), expected);
    }

    #[test]
    fn one_grant_gives_each_namespace_a_path_of_its_own() {
        let paths = granted(
            json!({"namespaces": ["shop"], "paths": ["/prod/{namespace}/", "/{namespace}", "/shared"]}),
        );
        assert_eq!(paths, ["/prod/shop/", "/shop", "/shared"]);
        assert!(covers(&paths, "/prod/shop/db") && !covers(&paths, "/prod/other/db"));
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
