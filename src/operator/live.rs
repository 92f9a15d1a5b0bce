//! Live reads of sources and namespaces, to confirm what the watch denies; and the status of sources.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use serde_json::json;

use crate::api::{ParameterMirror, ParameterSource};
use crate::mirror::plan::{Plan, Refusal};
use crate::mirror::reading::SourceReason;
use crate::targets::secret::within;

use super::context::Context;
use super::memory::Memory;
use super::reading::Answer;
use super::said::Saying;

/// How long a confirmed refusal stands before it is confirmed again. A change that the watch shows ends it at once.
pub const CONFIRM_EVERY: Duration = Duration::from_mins(5);
/// Whether exactly this refusal was confirmed against the API server a short while ago.
#[must_use]
pub fn is_confirmed(refusal: &Refusal, memory: &Memory, ctx: &Context) -> bool {
    memory
        .refused
        .as_ref()
        .is_some_and(|(confirmed, at)| confirmed == refusal && ctx.clock.uptime() < *at + CONFIRM_EVERY)
}

/// The source and the labels of the namespace as the API server has them now; `None` if it does not answer.
pub async fn surroundings(
    source: &str,
    namespace: &str,
    ctx: &Context,
) -> Option<(Option<ParameterSource>, BTreeMap<String, String>)> {
    let sources: Api<ParameterSource> = Api::all(ctx.client.clone());
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(ctx.client.clone());
    let (source, namespace) =
        tokio::join!(within(sources.get_opt(source)), within(namespaces.get_metadata_opt(namespace)));
    let labels = namespace.ok()?.map(|namespace| namespace.labels().clone()).unwrap_or_default();
    Some((source.ok()?, labels))
}

/// Whether a mirror is still what the watch showed: nothing is deleted on the word of a watch, which may show a spec or a deletion
/// of the past. `None` if the API server does not answer.
pub async fn is_as_seen(mirror: &ParameterMirror, ctx: &Context) -> Option<bool> {
    let mirrors: Api<PartialObjectMeta<ParameterMirror>> =
        Api::namespaced(ctx.client.clone(), &mirror.namespace().unwrap_or_default());
    let live = within(mirrors.get_metadata_opt(&mirror.name_any())).await.ok()?;
    let of = |metadata: &ObjectMeta| {
        (metadata.uid.clone(), metadata.generation, metadata.deletion_timestamp.is_some())
    };
    Some(live.is_some_and(|live| of(&live.metadata) == of(&mirror.metadata)))
}

/// The lower of the account's budget and the source's own cap.
fn most_requests(budget: f64, cap: Option<i32>) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "a whole number of at most a few thousand")]
    let budget = budget as i32;
    cap.filter(|cap| *cap > 0).map_or(budget, |cap| cap.min(budget))
}

/// Writes what the last read says about its source: `Available`, the last success, the number of mirrors.
pub async fn report_source(plan: &Plan, answer: Option<&Answer>, ctx: &Context) {
    let (Some(answer), Some(source)) = (answer, ctx.watches.source(&plan.source_name)) else { return };
    let previous = source.status.clone().unwrap_or_default();
    let now = ctx.clock.now();
    let (status, reason, message) = match &answer.outcome {
        Ok(_) => ("True", "Available", "The last read was good.".to_owned()),
        Err(failure) => ("False", failure.reason.as_str(), failure.detail.clone()),
    };
    let before = previous.conditions.iter().find(|condition| condition.type_ == "Available");
    let account = plan.source.as_ref().map(|source| ctx.ssm.account_of(source));
    let is_drill = answer.outcome.as_ref().is_err_and(|failure| failure.reason == SourceReason::Drill);
    let breaker =
        if is_drill { Some("Drill") } else { account.as_ref().map(|account| account.breaker.as_str()) };
    let said = Saying { status, reason: reason.to_owned(), breaker, generation: source.metadata.generation };
    let same = before.is_some_and(|before| before.status == status && before.reason == reason)
        && previous.breaker.as_deref() == breaker
        && previous.observed_generation == source.metadata.generation;
    if !ctx.said_of_sources.is_news(&plan.source_name, said, same, ctx.clock.uptime()) {
        return;
    }
    // Counted for news only: over all reads of all mirrors this would be a square.
    let mirrors = i32::try_from(ctx.watches.mirrors_on(&plan.source_name)).unwrap_or(i32::MAX);
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    let condition = Condition {
        type_: "Available".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: source.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    let last_success = if answer.outcome.is_ok() { Some(Time(now)) } else { previous.last_success_time };
    let patch = Patch::Merge(json!({"status": {
        "observedGeneration": source.metadata.generation,
        "conditions": [condition],
        "lastSuccessTime": last_success,
        "breaker": breaker,
        "requestsPerSecond": account.map(|account| most_requests(account.rate, source.spec.requests_per_second)),
        "mirrors": mirrors,
    }}));
    let api: Api<ParameterSource> = Api::all(ctx.client.clone());
    if let Err(problem) = within(api.patch_status(&source.name_any(), &PatchParams::default(), &patch)).await
    {
        tracing::debug!(target: "parameter_mirror", source = plan.source_name, %problem, "the status of the source cannot be written");
    }
}
