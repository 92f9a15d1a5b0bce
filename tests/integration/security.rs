//! Checks that docs/security.md has a row for each field that a user may set, and names existing tests.

use std::collections::BTreeSet;

use parameter_mirror::api::crds;
use serde_json::Value;

use crate::docs::page::text;
use crate::reliability::exists;

/// Returns the paths of all fields without sub-fields.
fn leaves(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let below = |schema: &Value| schema["properties"].as_object().is_some_and(|fields| !fields.is_empty());
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // A selector is a type of Kubernetes, and one field here.
        if name == "namespaceSelector" {
            found.insert(path);
            continue;
        }
        match [field, &field["items"]].into_iter().find(|schema| below(schema)) {
            Some(schema) => leaves(&path, schema, found),
            None => drop(found.insert(path)),
        }
    }
}

/// Returns the rows of all tables that name tests, as cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    let (_, tables) = page.split_once("## Fields of ParameterMirror").unwrap();
    let lines = tables.lines().filter(|line| line.starts_with("| `") || line.starts_with("| "));
    let rows =
        lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    rows.filter(|row: &Vec<String>| row.last().is_some_and(|cell| cell != "test")).collect()
}

#[test]
fn every_field_of_both_resources_has_a_threat_and_a_test_that_denies_it() {
    let mut fields = BTreeSet::new();
    for crd in crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let spec = &schema["openAPIV3Schema"]["properties"]["spec"];
        leaves(&format!("{}.spec", crd.spec.names.kind), spec, &mut fields);
    }
    assert!(fields.len() > 20, "{fields:?}");
    let rows = rows(&text("docs/security.md"));
    let documented = rows.iter().filter_map(|row| row[0].strip_prefix("`Parameter")?.strip_suffix('`'));
    let documented: Vec<String> = documented.map(|field| format!("Parameter{field}")).collect();
    assert_eq!(documented.len(), documented.iter().collect::<BTreeSet<_>>().len(), "a field has two rows");
    assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), fields);
    for row in rows {
        let tests: Vec<&str> = row[row.len() - 1].split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row:?} names no test");
        for test in tests {
            assert!(exists(test), "there is no test {test}");
        }
    }
}

/// Inputs besides fields: all annotations that the code interprets.
#[test]
fn every_annotation_that_is_obeyed_has_a_row() {
    let page = text("docs/security.md");
    for annotation in [
        parameter_mirror::api::SYNC_AT,
        parameter_mirror::api::ACCEPT_SHRINK,
        parameter_mirror::api::DRILL_UNTIL,
        parameter_mirror_format::secret::ADOPT_BY,
    ] {
        assert!(page.contains(&format!("| `{annotation}` on a ")), "{annotation}");
    }
}
