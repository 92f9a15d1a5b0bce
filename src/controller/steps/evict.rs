//! Evicts the values of mirrors, to stay within `--memory-values`. Only mirrors whose two targets both hold the values are evicted.
//! While nothing changes, the operator needs no more than the versions of the two targets. For a read, or after a change, it
//! observes the targets again.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use crate::api::ParameterMirror;
use crate::controller::context::{Context, RedisBackend};
use crate::controller::state::mirror_state::{Evicted, MirrorState};
use crate::controller::state::values::Load;
use crate::controller::steps::observe::secret_version;
use crate::mirror::copies;
use crate::mirror::plan::Plan;
use crate::targets::redis::copy::{self, Trace};

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
    Load { bytes: good.bytes(), is_backed: trace(state).is_some(), content: Arc::downgrade(&good.content) }
}

fn evict(mirror: &ObjectRef<ParameterMirror>, state: &mut MirrorState, ctx: &Context) {
    if let Some(trace) = trace(state) {
        state.evicted = Some(trace);
        state.good = None;
        state.targets.secret.observed = None;
        state.targets.redis.observed = None;
        ctx.values.settle(mirror, Load { is_backed: true, ..Load::default() });
    }
}

/// Returns what remains of the observations; `None` unless both targets hold the last known good set and no read is under way.
fn trace(state: &MirrorState) -> Option<Evicted> {
    let good = state.good.as_ref()?;
    let secret = state.targets.secret.observed.as_ref()?;
    let redis = state.targets.redis.observed.as_ref()?;
    let holds_it = |found| copies::verified(found).is_some_and(|held| held.content.same_as(&good.content));
    let is_backed = state.source.in_flight.is_none()
        && state.report.deferred_since.is_none()
        && state.last.is_some()
        && holds_it(secret.found.as_ref())
        && holds_it(Some(&redis.found));
    is_backed.then(|| Evicted {
        secret_version: secret.resource_version().map(str::to_owned),
        redis: Trace::of(redis),
    })
}

/// Whether the values are evicted and may stay so: both targets are unchanged, and the status has nothing new to report.
pub async fn is_unchanged(plan: &Plan, state: &MirrorState, ctx: &Context) -> bool {
    let Some(known) = &state.evicted else { return false };
    let same_plan = state.last.as_ref().is_some_and(|last| *last.plan == *plan);
    // The status must report `Stale` on time, and only a full reconcile computes the age.
    let may_go_stale = plan.max_staleness.is_some() && state.source.issue.is_some();
    let (Some(secret), Some(redis), RedisBackend::Configured(store)) =
        (&plan.secret, &plan.redis, &ctx.redis)
    else {
        return false;
    };
    same_plan
        && !may_go_stale
        && state.targets.keys_version == ctx.keys().version
        && secret_version(plan, secret, ctx)
            .await
            .is_ok_and(|version| known.is_secret_version(version.as_deref()))
        && copy::is_unchanged(store.as_ref(), &redis.key, &known.redis).await.unwrap_or(false)
}
