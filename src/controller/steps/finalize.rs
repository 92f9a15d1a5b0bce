//! Targets that are no longer wanted, because the mirror is deleted or names other targets. The policy that was last applied, which
//! the status keeps, decides what happens to them: nothing loses a byte unless that policy is `Delete`.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::hash::redis_key;
use parameter_mirror_format::verdict::Found;
use serde_json::json;

use crate::api::{DeletionPolicy, FINALIZER, ParameterMirror};
use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::mirror_state::MirrorState;
use crate::kubernetes::client::{ApiError, with_timeout};
use crate::kubernetes::events::EventDraft;
use crate::kubernetes::queue::Requeue;
use crate::mirror::copies;
use crate::mirror::plan::Plan;
use crate::targets::redis::copy;
use crate::targets::redis::{Check, Guard, ScriptOutcome};
use crate::targets::secret;

/// How long the deletion of a mirror waits for a Redis that does not answer.
const WAIT_FOR_REDIS: Duration = Duration::from_mins(5);
/// The same in a namespace that is being deleted: its deletion must not hang on the operator.
const WAIT_IN_TERMINATING: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

/// Handles the deletion of a mirror. Kubernetes deletes the Secret by its owner reference, if it has one. The operator deletes the
/// hash here.
pub async fn delete(mirror: &ParameterMirror, state: &mut MirrorState, ctx: &Context) -> Requeue {
    state.source.in_flight = None;
    if mirror.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        match is_current(mirror, ctx).await {
            Some(true) => {}
            // The mirror no longer exists, or was applied again. The watch will show it.
            Some(false) => {
                tracing::info!("the mirror is not as the watch shows it; nothing is deleted");
                return Requeue::OnChange;
            }
            None => return Requeue::After(RETRY),
        }
        if let Some(key) = hash_key(mirror, ctx)
            && let Err(why) = delete_hash(mirror, &key, ctx).await
        {
            if ctx.clock.now().duration_since(deleted_at(mirror)) < deletion_timeout(mirror, ctx) {
                return Requeue::After(RETRY);
            }
            let note = format!(
                "Redis {key} could not be deleted ({why}) and is left behind. Remove it by hand: UNLINK '{key}'"
            );
            ctx.events.emit(mirror, &EventDraft::warning("LeftBehind", note.clone()));
            tracing::warn!("{note}");
        }
        set_finalizer(mirror, false, ctx).await;
    }
    ctx.forget(&ObjectRef::from_obj(mirror));
    Requeue::OnChange
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

/// Returns the hash that the status names, otherwise the one that the spec asks for, because it may have been written a moment ago.
fn hash_key(mirror: &ParameterMirror, ctx: &Context) -> Option<String> {
    let held = mirror.status.as_ref().and_then(|status| status.redis.as_ref()).map(|redis| redis.key.clone());
    let desired = || {
        let namespace = mirror.namespace().unwrap_or_default();
        mirror.spec.redis.as_ref()?;
        Some(redis_key(&ctx.settings.redis_prefix, &namespace, &mirror.name_any()))
    };
    held.or_else(desired)
}

fn deleted_at(mirror: &ParameterMirror) -> Timestamp {
    mirror.metadata.deletion_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn deletion_timeout(mirror: &ParameterMirror, ctx: &Context) -> jiff::SignedDuration {
    let terminating = ctx.watches.is_terminating(&mirror.namespace().unwrap_or_default());
    let deletion_timeout = if terminating { WAIT_IN_TERMINATING } else { WAIT_FOR_REDIS };
    jiff::SignedDuration::try_from(deletion_timeout).unwrap_or(jiff::SignedDuration::MAX)
}

/// Keeps the finalizer only while `redis.deletionPolicy` is `Delete`: nothing else needs the operator to be alive.
pub async fn ensure_finalizer(mirror: &ParameterMirror, plan: &Plan, ctx: &Context) {
    let desired = plan.redis.as_ref().is_some_and(|redis| redis.deletion_policy == DeletionPolicy::Delete)
        || mirror
            .status
            .as_ref()
            .and_then(|status| status.redis.as_ref())
            .is_some_and(|redis| redis.deletion_policy == DeletionPolicy::Delete && plan.redis.is_none());
    let present = mirror.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if desired != present {
        set_finalizer(mirror, desired, ctx).await;
    }
}

async fn set_finalizer(mirror: &ParameterMirror, present: bool, ctx: &Context) {
    if let Err(problem) = try_set_finalizer(mirror, present, ctx).await {
        tracing::debug!(%problem, "the finalizer cannot be set");
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

/// Whether the status may drop the old targets that it names: there are none, their policy retains them, or they are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrphansDeleted {
    /// The old Secret may be dropped.
    pub secret: bool,
    /// The old hash may be dropped.
    pub redis: bool,
}

/// Deletes targets that the status names and the spec no longer does, once the new targets hold the set.
pub async fn delete_orphans(
    mirror: &ParameterMirror,
    plan: &Plan,
    state: &MirrorState,
    ctx: &Context,
) -> OrphansDeleted {
    let status = state.previous_status(mirror, ctx.clock.uptime());
    let old_secret =
        status.secret.filter(|old| plan.secret.as_ref().is_none_or(|secret| secret.name != old.name));
    let old_hash = status.redis.filter(|old| plan.redis.as_ref().is_none_or(|redis| redis.key != old.key));
    let mut orphans = OrphansDeleted { secret: old_secret.is_none(), redis: old_hash.is_none() };
    let held = |found: Option<&Found>| copies::verified(found).is_some();
    let new_secret_holds = plan.secret.is_none()
        || held(state.targets.secret.observed.as_ref().and_then(|observed| observed.found.as_ref()));
    let new_hash_holds =
        plan.redis.is_none() || held(state.targets.redis.observed.as_ref().map(|observed| &observed.found));
    if !new_secret_holds || !new_hash_holds {
        return orphans;
    }
    let retain = DeletionPolicy::Retain;
    let any_to_delete = old_secret.as_ref().is_some_and(|old| old.deletion_policy != retain)
        || old_hash.as_ref().is_some_and(|old| old.deletion_policy != retain);
    let may_delete = any_to_delete && is_current(mirror, ctx).await == Some(true);
    if let Some(old) = old_secret {
        orphans.secret = old.deletion_policy == retain
            || (may_delete && delete_secret(plan, &old.name, ctx).await.is_ok());
    }
    if let Some(old) = old_hash {
        orphans.redis =
            old.deletion_policy == retain || (may_delete && delete_hash(mirror, &old.key, ctx).await.is_ok());
    }
    orphans
}

/// Deletes a Secret that belongs to this mirror, in exactly the version that was observed.
async fn delete_secret(plan: &Plan, name: &str, ctx: &Context) -> Result<(), String> {
    let keys = ctx.keys();
    let found = ctx.secrets.get(&plan.namespace, name).await.map_err(|problem| problem.to_string())?;
    let observed = secret::observe(found, &plan.owner, keys.ring.as_deref());
    match (&observed.found, observed.resource_version()) {
        (Some(Found::Ours(_)), Some(version)) => {
            ctx.secrets.delete(&plan.namespace, name, version).await.map_err(|problem| problem.to_string())
        }
        // It no longer exists, or belongs to somebody else by now.
        (Some(_), _) => Ok(()),
        (None, _) => Err("the operator's keys are lost".to_owned()),
    }
}

/// Deletes a hash that belongs to this mirror, in exactly the state that was observed.
async fn delete_hash(mirror: &ParameterMirror, key: &str, ctx: &Context) -> Result<(), String> {
    let RedisBackend::Configured(store) = &ctx.redis else {
        return Err("there is no Redis configured".to_owned());
    };
    let owner =
        format!("{}/{}/{}", ctx.settings.cluster, mirror.namespace().unwrap_or_default(), mirror.name_any());
    let checks = store.check(&[key], copy::OBSERVE).await.map_err(|error| error.to_string())?;
    let Some(Check::Hash { owner: Some(found), fence, .. }) = checks.first() else { return Ok(()) };
    if *found != owner {
        return Ok(());
    }
    let now = ctx.clock.now().as_millisecond();
    let guard = Guard { key, owner: &owner, fence, mac: None, now, least: now };
    match store.remove(guard, copy::WRITE).await {
        Ok(ScriptOutcome::Done { .. } | ScriptOutcome::Owned { .. } | ScriptOutcome::Gone) => Ok(()),
        Ok(_) => Err("it changed meanwhile".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
