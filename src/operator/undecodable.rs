//! A mirror that does not decode: it gets its condition like any other, and stalls nobody.

use kube::api::{Api, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use crate::api::ParameterMirror;
use crate::targets::secret::within;

use super::context::Context;
use super::queue::Next;

/// Says in the status that the object cannot be read. What is served stays as it is.
#[allow(
    clippy::significant_drop_tightening,
    reason = "the state of a mirror belongs to one reconcile at a time"
)]
pub async fn report(invalid: &InvalidObject, ctx: &Context) -> Next {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let memory = ctx.memories.of(&ObjectRef::new(&name).within(&namespace));
    let mut memory = memory.lock().await;
    // Our own write comes back as a change; the same generation is reported once.
    if memory.undecodable == invalid.metadata.generation {
        return Next::OnChange;
    }
    memory.undecodable = invalid.metadata.generation;
    let now = ctx.clock.now();
    let message = format!(
        "This operator cannot read the object: {}. What is served stays as it is. Apply it again with the installed version of the CRD.",
        invalid.error
    );
    let condition = |type_: &str, status: &str| {
        json!({
            "type": type_, "status": status, "reason": "InvalidSpec", "message": message,
            "lastTransitionTime": now.to_string(), "observedGeneration": invalid.metadata.generation,
        })
    };
    let patch = Patch::Merge(json!({"status": {
        "observedGeneration": invalid.metadata.generation,
        "conditions": [condition("Stalled", "True"), condition("Ready", "False")],
    }}));
    let api: Api<ParameterMirror> = Api::namespaced(ctx.client.clone(), &namespace);
    // The answer would not decode either; that it was written is all that counts.
    let _ = within(api.patch_status(&name, &PatchParams::default(), &patch)).await;
    tracing::warn!(target: "parameter_mirror", mirror = format!("{namespace}/{name}"), reason = "InvalidSpec", "the object cannot be read");
    Next::OnChange
}
