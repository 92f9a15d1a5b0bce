//! A mirror whose values have been put down, to stay within `--memory-values`: both of its targets hold them. While nothing
//! changes, that is all that has to be known of it; for a read, or when anything changes, it is observed anew.

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

/// Notes what the mirror holds after a pass, and puts down what is too much: its own values, or those of others.
pub fn stay_within_bound(mirror: &ObjectRef<ParameterMirror>, memory: &mut MirrorState, ctx: &Arc<Context>) {
    for other in ctx.values.settle(mirror, load(memory)) {
        if other == *mirror {
            put_down(mirror, memory, ctx);
        } else if let Ok(mut memory) = ctx.memories.of(&other).try_lock() {
            put_down(&other, &mut memory, ctx);
        }
        // One that is being worked on is judged at the end of its pass.
    }
}

fn load(memory: &MirrorState) -> Load {
    let Some(good) = &memory.good else { return Load::default() };
    Load { bytes: good.bytes(), is_backed: trace(memory).is_some(), content: Arc::downgrade(&good.content) }
}

fn put_down(mirror: &ObjectRef<ParameterMirror>, memory: &mut MirrorState, ctx: &Context) {
    if let Some(trace) = trace(memory) {
        memory.put_down = Some(trace);
        memory.good = None;
        memory.secret.observed = None;
        memory.redis.observed = None;
        ctx.values.settle(mirror, Load { is_backed: true, ..Load::default() });
    }
}

/// What remains of the observations, if both targets hold the last known good and no read is under way.
fn trace(memory: &MirrorState) -> Option<Evicted> {
    let good = memory.good.as_ref()?;
    let secret = memory.secret.observed.as_ref()?;
    let redis = memory.redis.observed.as_ref()?;
    let holds_it = |found| copies::verified(found).is_some_and(|held| held.content.same_as(&good.content));
    let is_backed = memory.in_flight.is_none()
        && memory.untold_since.is_none()
        && memory.settled.is_some()
        && holds_it(secret.found.as_ref())
        && holds_it(Some(&redis.found));
    is_backed.then(|| Evicted {
        secret_version: secret.resource_version().map(str::to_owned),
        redis: Trace::of(redis),
    })
}

/// Whether the values are put down and may stay so: nobody touched the targets, and nothing is to be told.
pub async fn is_untouched(plan: &Plan, memory: &MirrorState, ctx: &Context) -> bool {
    let Some(known) = &memory.put_down else { return false };
    let same_plan = memory.settled.as_ref().is_some_and(|settled| *settled.plan == *plan);
    // How old it is has to be told in time.
    let may_go_stale = plan.max_staleness.is_some() && memory.source.trouble.is_some();
    let (Some(secret), Some(redis), RedisBackend::Configured(store)) =
        (&plan.secret, &plan.redis, &ctx.redis)
    else {
        return false;
    };
    same_plan
        && !may_go_stale
        && memory.keys_version == ctx.keys().version
        && secret_version(plan, secret, ctx)
            .await
            .is_ok_and(|version| known.is_secret_version(version.as_deref()))
        && copy::is_untouched(store.as_ref(), &redis.key, &known.redis).await.unwrap_or(false)
}
