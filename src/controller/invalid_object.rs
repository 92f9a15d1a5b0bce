//! A mirror that does not decode. It gets a condition like any other mirror, and blocks no other mirror.

use std::time::Duration;

use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::humanize;
use serde_json::json;

use crate::api::conditions::{self, READY, STALLED};
use crate::controller::context::Context;
use crate::controller::steps::report::write_status;
use crate::kubernetes::client::ApiError;
use crate::kubernetes::queue::Requeue;

/// How long to wait before a failed write of the status is retried.
const RETRY: Duration = Duration::from_secs(30);

/// Reports in the status that the object cannot be read. What is served stays as it is.
#[allow(
    clippy::significant_drop_tightening,
    reason = "the state of a mirror belongs to one reconcile at a time"
)]
pub async fn report(invalid: &InvalidObject, ctx: &Context) -> Requeue {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let state = ctx.states.of(&ObjectRef::new(&name).within(&namespace));
    let mut state = state.lock().await;
    // The operator's own write comes back as a change, so the same generation is reported once.
    if state.report.invalid_generation == invalid.metadata.generation {
        return Requeue::OnChange;
    }
    let now = ctx.clock.now();
    let message = format!(
        "This operator cannot read the object: {}. What is served stays as it is. Apply it again with the installed version of the CRD.",
        invalid.error
    );
    let message = humanize::cut(&message, humanize::LONGEST_MESSAGE);
    let generation = invalid.metadata.generation;
    let condition = |type_: &str, status: &str| {
        conditions::set(&[], type_, (status, "InvalidSpec", message.clone()), generation, now)
    };
    let status = json!({
        "observedGeneration": generation,
        "conditions": [condition(STALLED, "True"), condition(READY, "False")],
    });
    match write_status(&namespace, &name, &status, ctx).await {
        Ok(()) | Err(ApiError::NotFound) => {}
        Err(problem) => {
            tracing::debug!(error = %problem, "the status cannot be written");
            return Requeue::After(RETRY);
        }
    }
    state.report.invalid_generation = invalid.metadata.generation;
    tracing::warn!(reason = "InvalidSpec", "the object cannot be read");
    Requeue::OnChange
}
