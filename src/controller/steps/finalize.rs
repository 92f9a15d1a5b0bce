//! Targets that are no longer wanted, because the mirror is deleted or names other targets. The policy that was last applied, which
//! the status keeps, decides what happens to them: nothing loses a byte unless that policy is `Delete`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;

use crate::api::{DeletionPolicy, FINALIZER, ParameterMirror};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::controller::transitions;
use crate::kubernetes::client::{ApiError, with_timeout};
use crate::kubernetes::events::EventDraft;
use crate::kubernetes::queue::Requeue;
use crate::mirror::plan::Plan;
use crate::mirror::target::TargetKind;
use crate::targets::KINDS;
use crate::targets::target::{Identity, Kind, Recorded};

/// How long the deletion of a mirror waits for a Redis that does not answer.
const WAIT_FOR_REDIS: Duration = Duration::from_mins(5);
/// The same in a namespace that is being deleted: its deletion must not hang on the operator.
const WAIT_IN_TERMINATING: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

/// How the deletion of a mirror goes on.
pub enum Deletion {
    /// Nothing is left to do, or the watch shows what is next.
    Ended,
    /// The API server has to be asked once more.
    Unknown,
    /// A target cannot be deleted yet.
    Waiting {
        /// The target, as `Redis pm:{shop/checkout}`.
        target: String,
        /// Why not.
        why: String,
        /// From when on it is left behind.
        until: Timestamp,
    },
}

impl Deletion {
    /// Returns when to go on.
    #[must_use]
    pub const fn requeue(&self) -> Requeue {
        match self {
            Self::Ended => Requeue::OnChange,
            Self::Unknown | Self::Waiting { .. } => Requeue::After(RETRY),
        }
    }
}

/// Handles the deletion of a mirror. Kubernetes deletes the Secret by its owner reference, if it has one. The operator deletes the
/// hash here.
pub async fn delete(mirror: &ParameterMirror, state: &mut MirrorState, ctx: &Context) -> Deletion {
    state.source.in_flight = None;
    if mirror.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        match is_current(mirror, ctx).await {
            Some(true) => {}
            // The mirror no longer exists, or was applied again. The watch will show it.
            Some(false) => {
                tracing::info!("the mirror is not as the watch shows it; nothing is deleted");
                return Deletion::Ended;
            }
            None => return Deletion::Unknown,
        }
        for (kind, name, why) in delete_held(mirror, ctx).await {
            let until = deleted_at(mirror) + deletion_timeout(mirror, ctx);
            if ctx.clock.now() < until {
                let target = format!("{} {name}", kind.kind());
                return Deletion::Waiting { target, why, until };
            }
            let note = format!(
                "{} {name} could not be deleted ({why}) and is left behind. Remove it by hand: {}",
                kind.kind(),
                kind.delete_by_hand(&name)
            );
            transitions::emit(mirror, &EventDraft::warning("LeftBehind", "Delete", note), ctx);
        }
        set_finalizer(mirror, false, ctx).await;
    }
    ctx.forget(&ObjectRef::from_obj(mirror));
    Deletion::Ended
}

/// Whether the mirror is still what the watch shows; `None` if the API server does not answer. The operator deletes nothing based
/// on a watch alone, because a watch may show a spec or a deletion of the past.
async fn is_current(mirror: &ParameterMirror, ctx: &Context) -> Option<bool> {
    let mirrors: Api<PartialObjectMeta<ParameterMirror>> =
        Api::namespaced(ctx.client.clone(), &mirror.namespace().unwrap_or_default());
    let live = with_timeout(mirrors.get_metadata_opt(&mirror.name_any())).await.ok()?;
    let of = |metadata: &ObjectMeta| {
        (metadata.uid.clone(), metadata.generation, metadata.deletion_timestamp.is_some())
    };
    Some(live.is_some_and(|live| of(&live.metadata) == of(&mirror.metadata)))
}

/// Deletes what would outlive the mirror. Returns what could not be deleted, and why.
async fn delete_held(mirror: &ParameterMirror, ctx: &Context) -> Vec<(&'static dyn Kind, String, String)> {
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    let namespace = mirror.namespace().unwrap_or_default();
    let owner = format!("{}/{namespace}/{}", ctx.settings.cluster, mirror.name_any());
    let identity = Identity { namespace: &namespace, owner: &owner };
    let mut left = Vec::new();
    for kind in KINDS {
        if let Some(name) = kind.held_by_finalizer(mirror, &ctx.settings.redis_prefix)
            && let Err(why) = kind.delete(&name, &identity, &services).await
        {
            left.push((kind, name, why));
        }
    }
    left
}

fn deleted_at(mirror: &ParameterMirror) -> Timestamp {
    mirror.metadata.deletion_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn deletion_timeout(mirror: &ParameterMirror, ctx: &Context) -> jiff::SignedDuration {
    let terminating = ctx.watches.is_terminating(&mirror.namespace().unwrap_or_default());
    let deletion_timeout = if terminating { WAIT_IN_TERMINATING } else { WAIT_FOR_REDIS };
    jiff::SignedDuration::try_from(deletion_timeout).unwrap_or(jiff::SignedDuration::MAX)
}

/// A finalizer only while the policy of a target that nobody else deletes is `Delete`: nothing else needs the operator to be alive.
pub async fn ensure_finalizer(mirror: &ParameterMirror, plan: &Plan, ctx: &Context) {
    let needs_finalizer = |kind: &&'static dyn Kind| {
        let recorded = || mirror.status.as_ref().and_then(|status| kind.recorded(status));
        let policy = match plan.target(kind.kind()) {
            Some(target) => Some(target.deletion_policy()),
            None => recorded().map(|recorded| recorded.deletion_policy),
        };
        kind.needs_finalizer() && policy == Some(DeletionPolicy::Delete)
    };
    let is_needed = KINDS.iter().any(needs_finalizer);
    let is_present = mirror.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if is_needed != is_present {
        set_finalizer(mirror, is_needed, ctx).await;
    }
}

async fn set_finalizer(mirror: &ParameterMirror, present: bool, ctx: &Context) {
    if let Err(problem) = try_set_finalizer(mirror, present, ctx).await {
        tracing::debug!(error = %problem, "the finalizer cannot be set");
    }
}

/// Reads the live finalizers, because the watch's copy does not have those of others.
async fn try_set_finalizer(mirror: &ParameterMirror, present: bool, ctx: &Context) -> Result<(), ApiError> {
    let namespace = mirror.namespace().unwrap_or_default();
    let api: Api<ParameterMirror> = Api::namespaced(ctx.client.clone(), &namespace);
    let Some(live) = with_timeout(api.get_metadata_opt(&mirror.name_any())).await? else { return Ok(()) };
    if live.metadata.uid != mirror.metadata.uid {
        return Ok(());
    }
    let mut finalizers = live.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if present {
        finalizers.push(FINALIZER.to_owned());
    }
    // The resource version makes this a compare-and-set, so that a finalizer of somebody else is never lost.
    let patch = Patch::Merge(json!({"metadata": {
        "finalizers": finalizers,
        "resourceVersion": live.metadata.resource_version,
    }}));
    with_timeout(api.patch(&mirror.name_any(), &PatchParams::default(), &patch)).await.map(drop)
}

/// Targets that the status names and the spec no longer does.
#[derive(Debug, Default)]
pub struct Orphans {
    left: Vec<TargetKind>,
}

impl Orphans {
    /// Whether the target of this kind that the status names is still to be deleted.
    #[must_use]
    pub fn are_left(&self, kind: TargetKind) -> bool {
        self.left.contains(&kind)
    }
}

/// Deletes targets that the status names and the spec no longer does, as their policy says, once the new ones hold the set.
pub async fn delete_orphans(
    mirror: &ParameterMirror,
    plan: &Plan,
    state: &MirrorState,
    ctx: &Context,
) -> Orphans {
    let status = state.previous_status(mirror, ctx.clock.uptime());
    let orphan = |kind: &&'static dyn Kind| {
        let recorded = kind.recorded(&status)?;
        let is_planned = plan.target(kind.kind()).is_some_and(|target| target.name() == recorded.name);
        (!is_planned).then_some((*kind, recorded))
    };
    let orphans: Vec<_> = KINDS.iter().filter_map(orphan).collect();
    let all_left = || Orphans { left: orphans.iter().map(|(kind, _)| kind.kind()).collect() };
    if state.targets.verified().count() < plan.targets.len() {
        return all_left();
    }
    let is_to_delete = |recorded: &Recorded| recorded.deletion_policy != DeletionPolicy::Retain;
    let any_to_delete = orphans.iter().any(|(_, recorded)| is_to_delete(recorded));
    let may_delete = any_to_delete && is_current(mirror, ctx).await == Some(true);
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    let identity = Identity { namespace: &plan.namespace, owner: &plan.owner };
    let mut left = Vec::new();
    for (kind, recorded) in &orphans {
        let is_done = !is_to_delete(recorded)
            || (may_delete && kind.delete(&recorded.name, &identity, &services).await.is_ok());
        if !is_done {
            left.push(kind.kind());
        }
    }
    Orphans { left }
}
