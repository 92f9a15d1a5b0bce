//! When a mirror is reconciled next, and when it is first read.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use parameter_mirror_format::content::source::StoredSource;

use crate::api::{ACCEPT_SHRINK, ParameterMirror, SYNC_AT};
use crate::controller::context::Context;
use crate::controller::state::mirror_state::{LastReconcile, MirrorState};
use crate::controller::steps::evict;
use crate::controller::steps::read;
use crate::controller::steps::report::{PENDING_AFTER, RETRY_EVERY};
use crate::kubernetes::queue::Requeue;
use crate::mirror::plan::Plan;
use crate::mirror::schedule;
use crate::targets::target::Target;

/// Returns how long to wait if there is nothing to do: the object, the plan, the targets and the keys are unchanged, and neither a
/// read nor a check is due.
///
/// Every write of a status comes back as a change of the object. This check ends that loop.
pub fn unchanged_until(
    mirror: &ParameterMirror,
    plan: &Plan,
    state: &MirrorState,
    ctx: &Context,
) -> Option<Duration> {
    let now = ctx.clock.uptime();
    let last = state.last.as_ref()?;
    let same = *last.plan == *plan
        && last.generation == mirror.metadata.generation
        && last.sync_at.as_ref() == mirror.annotations().get(SYNC_AT)
        && last.accept_shrink.as_ref() == mirror.annotations().get(ACCEPT_SHRINK);
    let keys = ctx.keys();
    let services = ctx.services(&keys);
    let targets_as_watched =
        state.targets.iter().all(|target| target.is_as_watched(&plan.namespace, &services));
    let keys_as_known = state.targets.keys_version == keys.version;
    let is_due = read::is_due(plan, &state.source, ctx);
    let is_quiet = same
        && targets_as_watched
        && keys_as_known
        && !state.source.has_answer()
        && !is_due
        && now < last.next_check;
    is_quiet.then(|| next_requeue(plan, last.next_check, state, ctx))
}

/// Decides when the first read of this process is due (docs/design/formats.md, "Two rhythms"): at once if the mirror never had a
/// set, or if the set or the status does not belong to this spec; otherwise spread over the interval.
pub fn schedule_first_read(mirror: &ParameterMirror, plan: &Plan, state: &mut MirrorState, ctx: &Context) {
    if state.source.first_due.is_some() {
        return;
    }
    let now = ctx.clock.uptime();
    let is_covered = state.good.as_ref().is_some_and(|good| {
        StoredSource::decode(&good.content.source).is_ok_and(|stored| plan.is_covered_by(&stored))
    });
    let first_selection = plan.selections.first().map(ToString::to_string).unwrap_or_default();
    let is_seen = mirror
        .status
        .as_ref()
        .is_some_and(|status| Some(status.observed_generation) == mirror.metadata.generation);
    state.source.first_due = Some(if is_covered && is_seen {
        schedule::first_read(now, plan.interval, &plan.source_name, &first_selection)
    } else {
        now
    });
}

/// Remembers what this reconcile was based on, and returns when the next one is due.
pub fn finish(
    mirror: &ParameterMirror,
    plan: Arc<Plan>,
    observe_again: bool,
    state: &mut MirrorState,
    ctx: &Arc<Context>,
) -> Requeue {
    let now = ctx.clock.uptime();
    if observe_again {
        state.last = None;
        return Requeue::After(Duration::ZERO);
    }
    let pending = state.source.in_flight.as_ref().filter(|_| state.report.written.is_none());
    let pending = pending.map(|read| read.due + PENDING_AFTER).filter(|end| *end > now);
    let deferred = state.report.deferred_since.map(|_| now + RETRY_EVERY);
    let next_check =
        [pending, deferred].into_iter().flatten().fold(now + schedule::check_every(plan.interval), Ord::min);
    let pause = next_requeue(&plan, next_check, state, ctx);
    state.last = Some(LastReconcile {
        sync_at: mirror.annotations().get(SYNC_AT).cloned(),
        accept_shrink: mirror.annotations().get(ACCEPT_SHRINK).cloned(),
        generation: mirror.metadata.generation,
        next_check,
        plan,
    });
    evict::enforce_memory_limit(&ObjectRef::from_obj(mirror), state, ctx);
    Requeue::After(pause)
}

fn next_requeue(plan: &Plan, next_check: Duration, state: &MirrorState, ctx: &Context) -> Duration {
    let now = ctx.clock.uptime();
    let next_read = match state.source.in_flight {
        Some(_) => next_check,
        None => state.source.next_read(plan.interval, now),
    };
    let targets = state.targets.iter().filter_map(Target::next_check).filter(|at| *at > now).min();
    next_check.min(next_read).min(targets.unwrap_or(next_check)).saturating_sub(now)
}
