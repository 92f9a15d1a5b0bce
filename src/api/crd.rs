//! The custom resource definitions as `parameter-mirror crd` prints them.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{ParameterMirror, ParameterSource};

/// Returns both CRDs, `ParameterMirror` first.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    [with_unseen_status(ParameterMirror::crd()), ParameterSource::crd()]
        .map(with_bounded_conditions)
        .map(without_nullable)
}

/// Marks no field as nullable. An optional field is left out, as the API conventions of Kubernetes have it; the API server drops a
/// `null`.
fn without_nullable(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            forbid_null(schema);
        }
    }
    crd
}

fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(BTreeMap::values_mut).for_each(forbid_null);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        forbid_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        forbid_null(values);
    }
}

/// Maximum number of conditions of an object. The operator sets four.
const MOST_CONDITIONS: i64 = 8;

/// Bounds the conditions as Go's `metav1.Condition` does; the Rust types lose these limits. The operator keeps the
/// status of every object in memory, and a role may let a tenant write it.
fn with_bounded_conditions(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let longest = [("type", 316), ("reason", 1_024), ("status", 7), ("message", 4_096)];
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = schema.and_then(|schema| property(schema, "status"));
        let Some(conditions) = status.and_then(|status| property(status, "conditions")) else { continue };
        conditions.max_items = Some(MOST_CONDITIONS);
        let Some(JSONSchemaPropsOrArray::Schema(condition)) = &mut conditions.items else { continue };
        for (field, characters) in longest {
            if let Some(field) = property(condition, field) {
                field.max_length = Some(characters);
            }
        }
    }
    crd
}

fn property<'schema>(
    schema: &'schema mut JSONSchemaProps,
    name: &str,
) -> Option<&'schema mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}

/// Sets `observedGeneration` to -1 by default, so that an object that the operator has not observed yet does not pass
/// for ready: kstatus takes an object without status as current, and one whose observed generation differs from its
/// generation as in progress.
fn with_unseen_status(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(status) = schema.and_then(|schema| property(schema, "status")) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}
