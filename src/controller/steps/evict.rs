//! Evicts the values of mirrors, to stay within `--memory-values`. Only mirrors whose two targets both hold the values are evicted.
//! While nothing changes, the operator needs no more than the versions of the two targets. For a read, or after a change, it
//! observes the targets again.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use crate::api::ParameterMirror;
use crate::controller::context::Context;
use crate::controller::state::mirror_state::MirrorState;
use crate::controller::state::values::Load;
use crate::mirror::plan::Plan;
use crate::targets::target::Target;

/// Records what the mirror holds after a reconcile, and evicts what exceeds the bound: its own values, or those of other mirrors.
pub fn enforce_memory_limit(
    mirror: &ObjectRef<ParameterMirror>,
    state: &mut MirrorState,
    ctx: &Arc<Context>,
) {
    for other in ctx.values.settle(mirror, load(state)) {
        if other == *mirror {
            evict(mirror, state, ctx);
        } else if let Ok(mut state) = ctx.states.of(&other).try_lock() {
            evict(&other, &mut state, ctx);
        }
        // A mirror that is being reconciled is judged at the end of that reconcile.
    }
}

fn load(state: &MirrorState) -> Load {
    let Some(good) = &state.good else { return Load::default() };
    Load { bytes: good.bytes(), is_backed: is_backed(state), content: Arc::downgrade(&good.content) }
}

fn evict(mirror: &ObjectRef<ParameterMirror>, state: &mut MirrorState, ctx: &Context) {
    if is_backed(state) {
        state.is_evicted = true;
        state.good = None;
        state.targets.iter_mut().for_each(Target::evict);
        ctx.values.settle(mirror, Load { is_backed: true, ..Load::default() });
    }
}

/// Whether the targets hold the last known good set, and nothing needs the values soon.
fn is_backed(state: &MirrorState) -> bool {
    state.source.in_flight.is_none()
        && state.report.deferred_since.is_none()
        && state.last.is_some()
        && state.good.as_ref().is_some_and(|good| state.targets.all_hold(good))
}

/// Whether the values are evicted and may stay so: nobody changed the targets, and there is nothing to report.
pub async fn is_unchanged(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    let is_same_plan = state.last.as_ref().is_some_and(|last| *last.plan == *plan);
    // The age of what is served has to be reported in time.
    let may_go_stale = plan.max_staleness.is_some() && state.source.issue.is_some();
    let keys = ctx.keys();
    if !state.is_evicted || !is_same_plan || may_go_stale || state.targets.keys_version != keys.version {
        return false;
    }
    let services = ctx.services(&keys);
    for target in state.targets.iter() {
        if !target.is_unchanged(&plan.namespace, &services).await {
            return false;
        }
    }
    true
}
