//! Step 1: turn the spec and the grants into a plan, or into the reason why the mirror cannot be planned.
//!
//! What the watch shows as granted is granted. The operator confirms a missing source or grant by a live read of source and
//! namespace before it acts on it, because a watch may lag (docs/design/formats.md, "Grants").

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::{Resource as _, ResourceExt};

use crate::api::{ParameterMirror, ParameterSource};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::controller::steps::read;
use crate::kubernetes::client::with_timeout;
use crate::mirror::plan::{Plan, PlanError, PlanInput};

/// How long a confirmed refusal stands before it is confirmed again. A change that the watch shows ends it at once.
pub const CONFIRM_EVERY: Duration = Duration::from_mins(5);

/// A plan or an error, and how certain it is.
pub struct Planned {
    /// The plan. It is the plan of the last reconcile if both are equal, because a plan is as large as its spec.
    pub plan: Result<Arc<Plan>, PlanError>,
    /// What this reconcile found out about a refusal.
    pub confirmation: Confirmation,
}

/// Whether the watch or the API server has settled a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The watch shows the source, and it grants everything: an earlier refusal is over.
    Granted,
    /// The API server has just confirmed the refusal.
    Refused,
    /// Nothing new is known.
    Unchanged,
}

/// Returns when the drill of a source ends. A new drill, or one that is refused, is an event of the source.
fn drill_until(name: &str, source: Option<&ParameterSource>, ctx: &Context) -> Option<Timestamp> {
    let Some(source) = source else {
        ctx.drills.forget(name);
        return None;
    };
    ctx.drills.until(source, ctx.clock.now(), |draft| {
        draft.log();
        ctx.events.emit(source.object_ref(&()), draft);
    })
}

/// Plans one mirror.
pub async fn plan(mirror: &ParameterMirror, state: &MirrorState, ctx: &Context) -> Planned {
    let namespace = mirror.namespace().unwrap_or_default();
    let name = mirror.name_any();
    let source = ctx.watches.source(&mirror.spec.source_ref.name);
    let labels = ctx.watches.namespace_labels(&namespace).unwrap_or_default();
    let judge = |source: Option<&ParameterSource>, labels: &BTreeMap<String, String>| {
        let input = PlanInput {
            cluster: &ctx.settings.cluster,
            namespace: &namespace,
            namespace_labels: labels,
            mirror: &name,
            source: source.map(|source| &source.spec),
            drill_until: drill_until(&mirror.spec.source_ref.name, source, ctx),
            redis_prefix: &ctx.settings.redis_prefix,
            key_secret: ctx.settings.keys.of(&namespace),
        };
        Plan::new(&mirror.spec, &input)
    };
    let judged = judge(source.as_ref(), &labels);
    let (plan, confirmation) = match &judged {
        Ok(plan) if plan.source.is_some() => (judged, Confirmation::Granted),
        Ok(plan) if !may_fetch_source(plan, state, ctx) => (judged, Confirmation::Unchanged),
        Err(error @ PlanError::NotGranted(_)) if is_confirmed(error, state, ctx) => {
            (judged, Confirmation::Unchanged)
        }
        Err(PlanError::InvalidSpec(_)) => (judged, Confirmation::Unchanged),
        Ok(_) | Err(PlanError::NotGranted(_)) => {
            match fetch_inputs(&mirror.spec.source_ref.name, &namespace, ctx).await {
                Some((source, labels)) => match judge(source.as_ref(), &labels) {
                    Ok(plan) => (Ok(plan), Confirmation::Unchanged),
                    Err(error) => (Err(error), Confirmation::Refused),
                },
                // The API server does not answer. A plan without a source counts as an outage, and a refusal stands for now.
                None => (judged, Confirmation::Unchanged),
            }
        }
    };
    let last = state.last.as_ref().map(|last| &last.plan);
    let shared = |plan: Plan| match last {
        Some(last) if **last == plan => Arc::clone(last),
        _ => Arc::new(plan),
    };
    Planned { plan: plan.map(shared), confirmation }
}

/// Whether to ask the API server for a source that the watch does not show: only for a read, and once for all mirrors that name it.
fn may_fetch_source(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    read::is_due(plan, &state.source, ctx)
        && !ctx.missing_sources.is_missing(&plan.source_name, ctx.clock.uptime())
}

/// Whether the API server has confirmed exactly this refusal within [`CONFIRM_EVERY`].
fn is_confirmed(error: &PlanError, state: &MirrorState, ctx: &Context) -> bool {
    state
        .refused
        .as_ref()
        .is_some_and(|(confirmed, at)| confirmed == error && ctx.clock.uptime() < *at + CONFIRM_EVERY)
}

/// Fetches the source and the labels of the namespace from the API server; `None` if it does not answer.
async fn fetch_inputs(
    name: &str,
    namespace: &str,
    ctx: &Context,
) -> Option<(Option<ParameterSource>, BTreeMap<String, String>)> {
    let sources: Api<ParameterSource> = Api::all(ctx.client.clone());
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(ctx.client.clone());
    let (found, namespace) = tokio::join!(
        with_timeout(sources.get_opt(name)),
        with_timeout(namespaces.get_metadata_opt(namespace))
    );
    let labels = namespace.ok()?.map(|namespace| namespace.labels().clone()).unwrap_or_default();
    let found = found.ok()?;
    ctx.missing_sources.found(name, found.is_some(), ctx.clock.uptime());
    Some((found, labels))
}
