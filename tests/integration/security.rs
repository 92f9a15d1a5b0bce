//! Checks that docs/security/threat-model.md and docs/security/evidence.md have the same rows, one for each field that a
//! user may set, and that the latter names existing tests.

use std::collections::BTreeSet;

use parameter_mirror::api::crds;
use serde_json::Value;

use crate::docs::page::text;
use crate::reliability::exists;

/// What each input could reach, and what denies it.
const THREATS: &str = "docs/security/threat-model.md";
/// The tests for each input, in the last column.
const EVIDENCE: &str = "docs/security/evidence.md";

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

/// Returns the rows of all tables about fields and other inputs, as cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    let page = text(page);
    let (_, tables) = page.split_once("## Fields of ParameterMirror").unwrap();
    let lines = tables.lines().filter(|line| line.starts_with("| "));
    let rows =
        lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
    rows.filter(|row: &Vec<String>| !["field", "input"].contains(&row[0].as_str())).collect()
}

/// Returns the first cells. Each row has another one.
fn inputs(rows: &[Vec<String>]) -> BTreeSet<&str> {
    let inputs: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(inputs.len(), rows.len(), "an input has two rows");
    inputs
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
    let (threats, evidence) = (rows(THREATS), rows(EVIDENCE));
    assert_eq!(inputs(&threats), inputs(&evidence), "a row is on one of the pages only");
    let documented = inputs(&threats).into_iter().map(|input| input.trim_matches('`'));
    let documented = documented.filter(|input| input.starts_with("Parameter")).map(str::to_owned);
    assert_eq!(documented.collect::<BTreeSet<_>>(), fields);
    for row in evidence {
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
    let page = text(THREATS);
    for annotation in [
        parameter_mirror::api::SYNC_AT,
        parameter_mirror::api::ACCEPT_SHRINK,
        parameter_mirror::api::DRILL_UNTIL,
        parameter_mirror::api::BACKED_UP,
        parameter_mirror_format::secret::ADOPT_BY,
    ] {
        assert!(page.contains(&format!("| `{annotation}` on a ")), "{annotation}");
    }
}
