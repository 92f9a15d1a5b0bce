//! The custom resource definitions as `parameter-mirror crd` prints them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

use super::{ParameterMirror, ParameterSource};

/// Both definitions, mirrors first.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    [with_unseen_status(ParameterMirror::crd()), ParameterSource::crd()]
}

/// An object that the operator has not looked at yet must not pass for ready: kstatus takes an object
/// without status as current, one whose observed generation differs from its generation as in progress.
fn with_unseen_status(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let properties = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|schema| schema.properties.as_mut());
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
    }
    crd
}
